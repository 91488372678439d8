//! A file that ends in half a message, since whoever wrote it died or ran out of time: what comes
//! next is not glued to it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::Exit;
use crate::common::proc;
use crate::common::root::is_root;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::{Resource, Signal};
use tempfile::TempDir;

const SIZE: usize = 120;
/// Inside a message, whatever the output framing is.
const LIMIT: u64 = 10_001;
/// What the log says of a file that it found so, and of one that it left so.
const FOUND: &str = "ended with an incomplete message";
const LEFT: &str = "ends with an incomplete message";

fn somewhere() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    (directory, path)
}

fn flags(path: &Path, output: &str) -> Vec<String> {
    let sink = format!("file:{}", path.display());
    let words = ["--sink", &sink, "--output-framing", output];
    words.map(str::to_owned).to_vec()
}

fn send(server: &Drainline, bytes: &[u8]) {
    let mut client = server.connect();
    client.write_all(bytes).unwrap();
    client::half_close(client);
}

/// A server that is stuck in the middle of a message, since its file may grow no more.
fn stuck(path: &Path, output: &str, more: &[&str]) -> Drainline {
    let mut args = flags(path, output);
    args.extend(more.iter().map(|&flag| flag.to_owned()));
    let mut server = Drainline::start(&args);
    fill(&mut server, path);
    server
}

fn fill(server: &mut Drainline, path: &Path) {
    server.limit(Resource::Fsize, Some(LIMIT));
    let mut stream = server.connect();
    let _ = Tagged::new(0)
        .send(&mut stream, 0..400, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    wait_until("the file at its limit", DEADLINE, || {
        fs::metadata(path).is_ok_and(|file| file.len() == LIMIT)
    });
    // The write that filled the file may not have returned, and the next one not have failed: what
    // happens to the file in that moment is not what these tests are about.
    wait_until("the sink's failure", DEADLINE, || {
        server.stderr_text().contains("trying again in")
    });
}

/// Another server's life on the same file: one message, and how it ended.
fn next_life(path: &Path, output: &str) -> Exit {
    let mut server = Drainline::start(&flags(path, output));
    send(&server, b"the next one\n");
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("delivered"), 1, "{exit}");
    exit
}

#[test]
fn what_a_drain_left_half_written_is_named_and_stays_a_message_of_its_own() {
    for (output, delimiter) in [("lines", b'\n'), ("nul", b'\0')] {
        let (_directory, path) = somewhere();
        let exit = stuck(&path, output, &["--drain-timeout", "300ms"]).terminate();
        exit.assert_code(4);
        let named = format!("the sink file:{} {LEFT}", path.display());
        assert_eq!(exit.stderr.matches(&named).count(), 1, "{exit}");
        let half = fs::read(&path).unwrap();
        assert_ne!(half.last(), Some(&delimiter));

        let exit = next_life(&path, output);
        let named = format!("the sink file:{} {FOUND}", path.display());
        assert_eq!(exit.stderr.matches(&named).count(), 1, "{exit}");
        let expected = [&half, &[delimiter][..], b"the next one", &[delimiter]].concat();
        assert_eq!(fs::read(&path).unwrap(), expected, "{output}");
    }
}

#[test]
fn what_a_killed_server_left_half_written_stays_a_line_of_its_own() {
    let (_directory, path) = somewhere();
    let mut server = stuck(&path, "lines", &[]);
    server.signal(Signal::KILL);
    server.wait();
    let half = fs::read(&path).unwrap();
    assert_eq!(half.len() as u64, LIMIT);
    next_life(&path, "lines");
    let expected = [&half, &b"\nthe next one\n"[..]].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

/// Nothing can be mended there: whatever is written behind the half message is taken for its end.
#[test]
fn in_a_counted_framing_half_a_message_is_named_and_nothing_is_written_between() {
    let (_directory, path) = somewhere();
    let exit = stuck(&path, "octet-counted", &["--drain-timeout", "300ms"]).terminate();
    exit.assert_code(4);
    assert!(exit.stderr.contains(LEFT), "{exit}");
    let half = fs::read(&path).unwrap();
    let exit = next_life(&path, "octet-counted");
    assert!(!exit.stderr.contains(FOUND), "{exit}");
    let expected = [&half, &b"12 the next one"[..]].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

#[test]
fn a_file_that_is_empty_or_ends_in_a_whole_message_is_appended_to_as_it_is() {
    for there in ["", "whole\n"] {
        let (_directory, path) = somewhere();
        fs::write(&path, there).unwrap();
        let exit = next_life(&path, "lines");
        assert!(!exit.stderr.contains(FOUND), "{exit}");
        let expected = format!("{there}the next one\n");
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }
}

/// A drain in time leaves nothing half-written, and says nothing of the kind: also one that gave up
/// on whole messages.
#[test]
fn a_file_that_ends_between_two_messages_is_not_named() {
    let (_directory, path) = somewhere();
    let mut args = flags(&path, "lines");
    args.extend(["--drain-timeout", "300ms"].map(str::to_owned));
    let mut server = Drainline::start(&args);
    server.limit(Resource::Fsize, Some(8));
    send(&server, b"the 1st\nthe 2nd\n");
    wait_until("the file at its limit", DEADLINE, || {
        fs::read(&path).unwrap() == b"the 1st\n"
    });
    let exit = server.terminate();
    exit.assert_code(4);
    assert!(!exit.stderr.contains(LEFT), "{exit}");
}

#[test]
fn a_reopen_that_finds_another_file_with_half_a_line_ends_that_line_first() {
    let (directory, path) = somewhere();
    let mut server = Drainline::start(&flags(&path, "lines"));
    send(&server, b"one\n");
    wait_until("the first line", DEADLINE, || {
        fs::read(&path).unwrap() == b"one\n"
    });
    let other = directory.path().join("other");
    fs::write(&other, "half").unwrap();
    fs::rename(&other, &path).unwrap();
    server.signal(Signal::HUP);
    wait_until("the reopen", DEADLINE, || {
        server.stderr_text().contains("was reopened")
    });
    send(&server, b"two\n");
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(exit.stderr.matches(FOUND).count(), 1, "{exit}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "half\ntwo\n");
}

/// Its half is its own, and goes on.
#[test]
fn a_message_that_is_half_written_when_its_file_is_reopened_goes_on_where_it_was() {
    let (_directory, path) = somewhere();
    let mut server = stuck(&path, "lines", &[]);
    // The log has a line for the first, and counts the other.
    for told in ["was reopened", "suppressed 1 similar message: reopened"] {
        server.signal(Signal::HUP);
        wait_until(told, DEADLINE, || server.stderr_text().contains(told));
    }
    server.limit(Resource::Fsize, None);
    let expected = Tagged::new(0).lines(0..400, SIZE);
    wait_until("the whole file", DEADLINE, || {
        fs::metadata(&path).unwrap().len() == expected.len() as u64
    });
    let exit = server.terminate();
    exit.assert_code(0);
    assert!(!exit.stderr.contains(FOUND), "{exit}");
    assert_eq!(fs::read(&path).unwrap(), expected);
}

/// Its beginning stays in the old file, and whoever comes back to that one ends it there.
#[test]
fn a_message_that_is_half_written_in_one_file_is_whole_in_the_next_and_its_half_is_a_line() {
    let (directory, path) = somewhere();
    let mut server = stuck(&path, "lines", &[]);
    let renamed = directory.path().join("messages.1");
    fs::rename(&path, &renamed).unwrap();
    server.signal(Signal::HUP);
    wait_until("the reopen", DEADLINE, || {
        server.stderr_text().contains("was reopened")
    });
    let lines = Tagged::new(0).lines(0..400, SIZE);
    let begun = lines[..LIMIT as usize]
        .iter()
        .rposition(|&byte| byte == b'\n')
        .unwrap()
        + 1;
    server.limit(Resource::Fsize, None);
    wait_until("the rest in the new file", DEADLINE, || {
        fs::read(&path).is_ok_and(|bytes| bytes == lines[begun..])
    });
    // Back to the old one, which is not the one that was written to last.
    fs::rename(&renamed, &path).unwrap();
    server.signal(Signal::HUP);
    let inode = fs::metadata(&path).unwrap().ino();
    wait_until("the second reopen", DEADLINE, || {
        let open = proc::descriptor_numbers(server.pid()).into_iter();
        let inode_of = |number| fs::metadata(format!("/proc/{}/fd/{number}", server.pid()));
        open.filter_map(|number| inode_of(number).ok())
            .any(|file| file.ino() == inode)
    });
    send(&server, b"the next one\n");
    server.terminate().assert_code(0);
    let expected = [&lines[..LIMIT as usize], &b"\nthe next one\n"[..]].concat();
    assert_eq!(fs::read(&path).unwrap(), expected);
}

/// A log that its writer may not read is appended to, torn or not. Root reads everything, so
/// another user tries.
#[test]
fn a_file_that_may_not_be_read_is_appended_to_as_it_is() {
    if !is_root("run the program as another user") {
        return;
    }
    let (directory, path) = somewhere();
    fs::write(&path, "half").unwrap();
    chown(&path, Some(65534), None).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o200)).unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let mut server = Drainline::with(&flags(&path, "lines")).uid(65534).start();
    send(&server, b"one\n");
    let exit = server.terminate();
    exit.assert_code(0);
    assert!(!exit.stderr.contains(FOUND), "{exit}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "halfone\n");
}

/// Where the message begins that [`stuck`] has written in part, in lines: what stood before it was
/// delivered.
fn begun(lines: &[u8]) -> usize {
    let whole = |bytes: &[u8]| bytes.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    whole(&lines[..LIMIT as usize])
}

/// Gives a stuck server's file space, and waits until what is missing stands in it.
#[track_caller]
fn free(mut server: Drainline, path: &Path, expected: &[u8]) -> Exit {
    server.limit(Resource::Fsize, None);
    wait_until("all that is missing", DEADLINE, || {
        fs::metadata(path).unwrap().len() >= expected.len() as u64
    });
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("delivered"), 400, "{exit}");
    assert!(fs::read(path).unwrap() == expected, "{exit}");
    exit
}

fn truncate(path: &Path, len: u64) {
    let file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.set_len(len).unwrap();
}

/// What the log says of a part that is not resumed.
const TRUNCATED: &str = "was truncated in the middle of a message";
const APPENDED: &str = "was written to by somebody else in the middle of a message";

/// The rest of a message is no head of a file: a reader of counts would understand nothing of it.
#[test]
fn a_file_that_is_truncated_while_it_is_full_begins_with_a_whole_message() {
    let counted = |bytes: &mut Vec<u8>, message: &[u8]| {
        bytes.extend(format!("{} ", message.len()).as_bytes());
        bytes.extend(message);
    };
    let prefixed = |bytes: &mut Vec<u8>, message: &[u8]| {
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend(message);
    };
    let line = |bytes: &mut Vec<u8>, message: &[u8]| {
        bytes.extend(message);
        bytes.push(b'\n');
    };
    type Write<'a> = &'a dyn Fn(&mut Vec<u8>, &[u8]);
    let framings: [(&str, Write<'_>); 3] = [
        ("lines", &line),
        ("octet-counted", &counted),
        ("length-prefixed", &prefixed),
    ];
    for (output, write) in framings {
        let (_directory, path) = somewhere();
        let server = stuck(&path, output, &[]);
        truncate(&path, 0);
        // What was whole in it is gone with it; the one that was not comes again.
        let (mut before, mut expected) = (Vec::new(), Vec::new());
        for seq in 0..400 {
            write(&mut before, &Tagged::new(0).line(seq, SIZE));
            if before.len() as u64 > LIMIT {
                write(&mut expected, &Tagged::new(0).line(seq, SIZE));
            }
        }
        let exit = free(server, &path, &expected);
        assert_eq!(exit.stderr.matches(TRUNCATED).count(), 1, "{exit}");
        assert!(!exit.stderr.contains(FOUND), "{exit}");
    }
}

/// What is left of what was there is ended first.
#[test]
fn a_file_that_is_truncated_while_it_is_full_keeps_its_half_line_apart() {
    let (_directory, path) = somewhere();
    let server = stuck(&path, "lines", &[]);
    let lines = Tagged::new(0).lines(0..400, SIZE);
    truncate(&path, 500);
    let expected = [&lines[..500], b"\n", &lines[begun(&lines)..]].concat();
    let exit = free(server, &path, &expected);
    assert!(exit.stderr.contains(TRUNCATED), "{exit}");
    assert_eq!(exit.stderr.matches(FOUND).count(), 1, "{exit}");
}

/// Its size does not tell: what stands where the part ended does.
#[test]
fn a_file_that_is_truncated_and_has_grown_again_gets_the_message_from_its_beginning() {
    for (len, ends_in) in [
        (LIMIT, b'\n'),
        (LIMIT, b'x'),
        (LIMIT + 7, b'\n'),
        (LIMIT + 7, b'x'),
    ] {
        let (_directory, path) = somewhere();
        let server = stuck(&path, "lines", &[]);
        let mut others = vec![b'x'; len as usize - 1];
        others.push(ends_in);
        // In one call, and not truncated first: it may be tried at any moment.
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(&others, 0).unwrap();
        let lines = Tagged::new(0).lines(0..400, SIZE);
        let end: &[u8] = if ends_in == b'\n' { b"" } else { b"\n" };
        let expected = [&others, end, &lines[begun(&lines)..]].concat();
        let exit = free(server, &path, &expected);
        assert_eq!(exit.stderr.matches(APPENDED).count(), 1, "{exit}");
    }
}

/// Both appended to it. Our half and the other's line are one, which cannot be helped; ours is
/// whole behind it.
#[test]
fn a_file_that_somebody_else_appends_to_while_it_is_full_gets_the_message_from_its_beginning() {
    let (_directory, path) = somewhere();
    let server = stuck(&path, "lines", &[]);
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b" and another's\n").unwrap();
    let lines = Tagged::new(0).lines(0..400, SIZE);
    let (half, rest) = (&lines[..LIMIT as usize], &lines[begun(&lines)..]);
    let expected = [half, b" and another's\n", rest].concat();
    let exit = free(server, &path, &expected);
    assert_eq!(exit.stderr.matches(APPENDED).count(), 1, "{exit}");
}

/// The shell's `>>`, which may not be read, and `>`, which has an offset of its own that is behind
/// the end then.
#[test]
fn a_stdout_that_is_truncated_while_it_is_full_begins_with_a_whole_message() {
    for redirection in [">", ">>"] {
        let (_directory, path) = somewhere();
        let line = format!("exec {redirection}'{}'", path.display());
        let mut server = Drainline::with::<&str>(&[]).shell(line).start();
        fill(&mut server, &path);
        truncate(&path, 0);
        let lines = Tagged::new(0).lines(0..400, SIZE);
        free(server, &path, &lines[begun(&lines)..]);
    }
}
