//! A real syslog-ng that sends what it reads from a file to the real binary, in both the ways that
//! its destinations have: each message arrives once, in order and whole, without the LF that ends
//! it, and the books close.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::common::child::Drainline;
use crate::common::guard::Guarded;
use crate::common::programs::{address, counted, finish, installed};
use crate::common::tagged::Tagged;
use crate::common::wait::{DEADLINE, wait_until};
use tempfile::TempDir;

pub(crate) const MESSAGES: u64 = 2_000;
const SIZE: usize = 100;

/// Starts a syslog-ng that has all that it needs in a folder of its own, runs as whoever we are,
/// and sends the messages of a file there to `destination`.
pub(crate) fn start(program: &Path, folder: &TempDir, destination: &str) -> Guarded {
    let path = |name: &str| folder.path().join(name);
    let messages = Tagged::new(1).lines(0..MESSAGES, SIZE);
    fs::write(path("input"), messages).unwrap();
    let configuration = format!(
        r#"
        @version: 3.38
        options {{ use-dns(no); stats-freq(0); time-reopen(1); }};
        source input {{ file("{}" follow-freq(0.1) flags(no-parse)); }};
        destination drainline {{ {destination}; }};
        log {{ source(input); destination(drainline); flags(flow-control); }};
        "#,
        path("input").display()
    );
    fs::write(path("configuration"), configuration.trim_start()).unwrap();
    let mut command = Command::new(program);
    command.args(["--foreground", "--no-caps"]);
    for (flag, name) in [
        ("cfgfile", "configuration"),
        ("persist-file", "persist"),
        ("pidfile", "pid"),
        ("control", "control"),
    ] {
        command.arg(format!("--{flag}={}", path(name).display()));
    }
    command.stdin(Stdio::null()).stdout(Stdio::null());
    Guarded(command.stderr(Stdio::null()).spawn().unwrap())
}

/// Has syslog-ng send all messages. `around` is what it sends of framing with a message of so many
/// bytes.
#[track_caller]
fn syslog_ng_sends(driver: &str, begins: &str, around: fn(usize) -> usize) {
    let Some(program) = installed("syslog-ng") else {
        return;
    };
    let flags = ["--framing", "syslog", "--output-framing", "octet-counted"];
    let child = Drainline::start(&flags);
    let (host, port) = address(&child);
    let folder = tempfile::tempdir().unwrap();
    let destination = driver.replace("HOST", &host).replace("PORT", &port);
    let syslog_ng = start(&program, &folder, &destination);
    wait_until("all that was sent", DEADLINE, || {
        counted(&child.stdout_bytes()).len() as u64 >= MESSAGES
    });
    syslog_ng.terminate();
    let (exit, sink) = finish(child, |_| true);

    let messages = counted(&sink);
    assert_eq!(messages.len() as u64, MESSAGES);
    for (message, seq) in messages.iter().zip(0..) {
        let text = str::from_utf8(message).unwrap();
        let tagged = String::from_utf8(Tagged::new(1).line(seq, SIZE)).unwrap();
        let is_whole = text.starts_with(begins) && text.ends_with(&format!(" {tagged}"));
        assert!(is_whole, "{tagged:?} arrived as {text:?}");
    }
    assert_eq!(exit.u64("received"), MESSAGES);
    assert_eq!(exit.u64("connections.ended.eof"), 1, "{exit}");
    let around: usize = messages.iter().map(|message| around(message.len())).sum();
    assert_eq!(exit.u64("framing_bytes"), around as u64, "{exit}");
    assert_eq!((exit.sum("discarded"), exit.u64("unterminated")), (0, 0));
}

/// A count, a space, and a LF that is in the count.
#[test]
fn its_syslog_destination_counts_the_lf() {
    let around = |len: usize| (len + 1).to_string().len() + " \n".len();
    let driver = r#"syslog("HOST" transport("tcp") port(PORT))"#;
    syslog_ng_sends(driver, "<13>1 ", around);
}

#[test]
fn its_tcp_destination_sends_lines() {
    syslog_ng_sends(r#"tcp("HOST" port(PORT))"#, "<13>", |_| 1);
}
