//! Programs of others, which tests run against ours where they are installed.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::child::Drainline;
use super::exit::Exit;
use super::wait::{DEADLINE, wait_until};

/// Where a program is: taken out of its package by CI (`benches/peers/syslog-ng/get`), on the
/// PATH, or among the system's daemons, which an ordinary user's PATH leaves out. It is not run to
/// find out.
pub fn find(program: &str) -> Option<PathBuf> {
    let unpacked = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain([unpacked, "/usr/sbin".into()]);
    folders
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
}

/// As [`find`]. Where there is no such program the test says so and leaves its part out; under
/// `DRAINLINE_REQUIRE_CLIENTS`, as in CI, that is a failure.
#[track_caller]
pub fn installed(program: &str) -> Option<PathBuf> {
    let found = find(program);
    if found.is_none() {
        is_missing(program);
    }
    found
}

/// Says that a test leaves out the part that needs this.
///
/// # Panics
/// Where it may not be missing.
#[track_caller]
pub fn is_missing(program: &str) {
    assert!(
        env::var_os("DRAINLINE_REQUIRE_CLIENTS").is_none(),
        "{program} is required and not installed"
    );
    eprintln!("left out: {program} is not installed");
}

/// Whether a program is [`installed`].
#[track_caller]
pub fn is_installed(program: &str) -> bool {
    installed(program).is_some()
}

/// Where a server listens, as command lines have it.
pub fn address(child: &Drainline) -> (String, String) {
    let addr = child.addr();
    (addr.ip().to_string(), addr.port().to_string())
}

/// Runs a client to its good end. What it wrote to stdout comes back.
#[track_caller]
pub fn run(client: &mut Command) -> Vec<u8> {
    let output = client.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    output.stdout
}

/// Ends a server once its sink holds everything and its clients' ends are seen: nothing is lost,
/// each byte is of a message or of its framing, and the ledger closes. Blocks for at most three
/// times [`DEADLINE`].
#[track_caller]
pub fn finish(mut child: Drainline, is_all: impl Fn(&[u8]) -> bool) -> (Exit, Vec<u8>) {
    wait_until("all that was sent", DEADLINE, || {
        is_all(&child.stdout_bytes())
    });
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("unread_bytes"), 0);
    assert_eq!(
        exit.u64("bytes_read"),
        exit.u64("message_bytes") + exit.u64("framing_bytes"),
        "{exit}"
    );
    (exit, child.stdout_bytes())
}

/// The messages of a sink that writes them octet-counted, in which no byte is ambiguous, as far as
/// they are whole.
#[track_caller]
pub fn counted(mut sink: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((count, rest)) = try_count(sink) {
        messages.push(&rest[..count]);
        sink = &rest[count..];
    }
    messages
}

/// The first message's count and what follows it, if all of that message is there.
fn try_count(sink: &[u8]) -> Option<(usize, &[u8])> {
    let space = memchr::memchr(b' ', sink)?;
    let count = std::str::from_utf8(&sink[..space])
        .unwrap()
        .parse()
        .unwrap();
    let rest = &sink[space + 1..];
    (rest.len() >= count).then_some((count, rest))
}
