//! Stdout as a user has it: a file, a pipe that others share, a socket, nothing.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::common::child::{Drainline, Stdout};
use crate::common::client;
use crate::common::guard::Collector;
use crate::common::proc;
use crate::common::root::is_root;
use crate::common::wait::{DEADLINE, stays, wait_until};
use rustix::fs::OFlags;

fn send(child: &Drainline, bytes: &[u8]) {
    let mut client = child.connect();
    client.write_all(bytes).unwrap();
    client::half_close(client);
}

fn is_nonblocking(fd: impl AsFd) -> bool {
    let flags = rustix::fs::fcntl_getfl(fd).unwrap();
    flags.contains(OFlags::NONBLOCK)
}

#[test]
fn a_file_of_the_shell_keeps_what_stood_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    for (redirection, expected) in [
        // After a header that was written through the same redirection.
        ("exec >messages; echo header", "header\none\n"),
        ("exec >>messages", "header\none\none\n"),
        ("exec >messages", "one\n"),
    ] {
        let line = format!("cd '{}'; {redirection}", directory.path().display());
        let mut child = Drainline::with::<&str>(&[]).shell(line).start();
        send(&child, b"one\n");
        child.terminate().assert_code(0);
        assert_eq!(
            fs::read_to_string(&path).unwrap(),
            expected,
            "{redirection}"
        );
    }
}

#[test]
fn a_file_that_another_process_appends_to_loses_nothing_of_either() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("messages");
    let mut shared = OpenOptions::new()
        .append(true)
        .create(true)
        .open(&path)
        .unwrap();
    let stdout = Stdout::Given(shared.try_clone().unwrap().into());
    let mut child = Drainline::with::<&str>(&[]).stdout(stdout).start();
    for n in 0..3 {
        writeln!(shared, "other {n}").unwrap();
        send(&child, format!("ours {n}\n").as_bytes());
        wait_until("our line", DEADLINE, || {
            fs::read_to_string(&path)
                .unwrap()
                .ends_with(&format!("ours {n}\n"))
        });
    }
    child.terminate().assert_code(0);
    let expected = "other 0\nours 0\nother 1\nours 1\nother 2\nours 2\n";
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn a_pipe_shared_with_others_stays_as_it_was_for_them() {
    let (reader, mut shared) = io::pipe().unwrap();
    let read = Collector::start(reader);
    let stdout = Stdout::Given(shared.try_clone().unwrap().into());
    let mut child = Drainline::with::<&str>(&[]).stdout(stdout).start();
    send(&child, b"ours\n");
    wait_until("our line", DEADLINE, || read.bytes() == b"ours\n");
    assert!(!is_nonblocking(&shared), "while it serves");
    shared.write_all(b"theirs\n").unwrap();
    child.terminate().assert_code(0);
    assert!(!is_nonblocking(&shared), "afterwards");
    drop((child, shared));
    read.finish();
    assert_eq!(read.bytes(), b"ours\ntheirs\n");
}

/// A child whose stdout is a stream socket, as under systemd, and the socket's both ends.
fn with_socket(args: &[&str]) -> (Drainline, UnixStream, UnixStream) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let stdout = Stdout::Given(OwnedFd::from(theirs.try_clone().unwrap()).into());
    let child = Drainline::with(args).stdout(stdout).start();
    (child, ours, theirs)
}

#[test]
fn a_socket_takes_the_messages_and_stays_as_it_was_for_others() {
    let (mut child, mut ours, theirs) = with_socket(&[]);
    send(&child, b"one\ntwo\n");
    let mut got = [0; 8];
    ours.set_read_timeout(Some(DEADLINE)).unwrap();
    ours.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"one\ntwo\n");
    assert!(!is_nonblocking(&theirs));
    child.terminate().assert_code(0);
}

/// Nobody reads what it writes, and it has little time to drain.
#[track_caller]
fn assert_shutdown_is_not_held_up(mut child: Drainline, unread: impl AsFd) {
    send(&child, &plenty());
    // The server has read all of it, its consumer perhaps none.
    wait_until("the first of it written", DEADLINE, || {
        rustix::io::ioctl_fionread(&unread).unwrap() > 0
    });
    let exit = child.terminate();
    exit.assert_code(4);
    // Not even by its consumer's thread, which would hold some of it in flight.
    exit.assert_closes();
    assert!(
        exit.u64("delivered") > 0 && exit.u64("dropped.shutdown") > 0,
        "{exit}"
    );
}

/// Whoever read what it writes is gone: it ends although nothing comes, so that nobody's message is
/// lost.
#[track_caller]
fn assert_ends_for_want_of_a_reader(mut child: Drainline, had: u64) {
    let exit = child.wait();
    exit.assert_code(1);
    exit.assert_closes();
    let books = (exit.u64("received"), exit.u64("delivered"));
    assert_eq!(books, (had, had), "{exit}");
    let error = exit.report["error"].as_str().unwrap();
    assert!(
        error.contains("the sink stdout failed for good: "),
        "{exit}"
    );
}

/// The next message comes before it notices, or finds nobody.
#[track_caller]
fn assert_ends_at_the_next_message(mut child: Drainline) {
    if let Ok(mut client) = TcpStream::connect(child.addr()) {
        let _ = client.write_all(b"to nobody\n");
    }
    let exit = child.wait();
    exit.assert_code(1);
    exit.assert_closes();
    assert!(exit.u64("dropped.sink_failed") <= 1, "{exit}");
}

/// So long that it looks more than once: it is not taken for gone.
fn is_left_alone(child: &mut Drainline) {
    let time = Duration::from_millis(2500);
    stays("it serves", time, || !child.has_ended());
}

/// More than a socket, a pipe or a terminal holds.
fn plenty() -> Vec<u8> {
    b"a line of thirty bytes or so..\n".repeat(30_000)
}

#[test]
fn a_socket_that_nobody_reads_does_not_hold_up_a_shutdown() {
    let (child, ours, _theirs) = with_socket(&["--drain-timeout", "300ms"]);
    assert_shutdown_is_not_held_up(child, &ours);
}

#[test]
fn a_socket_whose_reader_is_gone_ends_the_server_with_1() {
    let (child, ours, _theirs) = with_socket(&[]);
    drop(ours);
    assert_ends_at_the_next_message(child);
}

#[test]
fn a_pipe_whose_reader_is_gone_ends_the_server_with_1_although_nothing_comes() {
    let mut child = Drainline::with::<&str>(&[]).stdout(Stdout::Unread).start();
    send(&child, b"one\n");
    let _idle = child.connect();
    is_left_alone(&mut child);
    child.close_stdout();
    assert_ends_for_want_of_a_reader(child, 1);
}

/// Not a reader that only says no more, as the log's does from the start.
#[test]
fn a_socket_whose_reader_is_gone_ends_the_server_with_1_although_nothing_comes() {
    let (mut child, ours, _theirs) = with_socket(&[]);
    send(&child, b"one\n");
    ours.shutdown(Shutdown::Write).unwrap();
    is_left_alone(&mut child);
    drop(ours);
    assert_ends_for_want_of_a_reader(child, 1);
}

#[test]
fn the_null_device_takes_everything() {
    let null = OpenOptions::new().write(true).open("/dev/null").unwrap();
    let stdout = Stdout::Given(null.into());
    let mut child = Drainline::with::<&str>(&[]).stdout(stdout).start();
    send(&child, &plenty());
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), 30_000);
}

/// A server whose stdout is a pipe of another user, which it may not open anew, and the pipe's
/// reading end. Takes root.
fn with_pipe_of_another(args: &[&str]) -> Option<(Drainline, io::PipeReader)> {
    if !is_root("run the program as another user") {
        return None;
    }
    let (reader, writer) = io::pipe().unwrap();
    let stdout = Stdout::Given(writer.into());
    let child = Drainline::with(args).uid(65534).stdout(stdout).start();
    // Were it opened anew it would be non-blocking.
    let inode = rustix::fs::fstat(&reader).unwrap().st_ino;
    let pipe = format!("pipe:[{inode}]");
    let mut found = 0;
    for number in proc::descriptor_numbers(child.pid()) {
        let of = |what: &str| format!("/proc/{}/{what}/{number}", child.pid());
        if fs::read_link(of("fd")).is_ok_and(|it| it.as_os_str() == pipe.as_str()) {
            let info = fs::read_to_string(of("fdinfo")).unwrap();
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
            let flags = u32::from_str_radix(flags.unwrap().trim(), 8).unwrap();
            assert_eq!(flags & OFlags::NONBLOCK.bits(), 0, "{info}");
            found += 1;
        }
    }
    assert!(found > 0, "no descriptor of the pipe");
    Some((child, reader))
}

#[test]
fn a_pipe_of_another_user_is_given_everything_little_by_little() {
    let Some((mut child, reader)) = with_pipe_of_another(&[]) else {
        return;
    };
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let read = Collector::start(reader);
    send(&child, &plenty());
    wait_until("all of it", DEADLINE, || {
        read.with(<[u8]>::len) == plenty().len()
    });
    assert!(read.bytes() == plenty());
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("sink_failures"), 0, "{exit}");
}

#[test]
fn a_pipe_of_another_user_that_nobody_reads_does_not_hold_up_a_shutdown() {
    let Some((child, reader)) = with_pipe_of_another(&["--drain-timeout", "300ms"]) else {
        return;
    };
    assert_shutdown_is_not_held_up(child, &reader);
}

#[test]
fn a_pipe_of_another_user_whose_reader_is_gone_ends_the_server_with_1() {
    let Some((child, reader)) = with_pipe_of_another(&[]) else {
        return;
    };
    drop(reader);
    assert_ends_for_want_of_a_reader(child, 0);
}

/// copytruncate would leave NUL bytes where its messages were.
#[test]
fn a_file_that_is_not_appended_to_is_told_at_start_and_by_check() {
    let told = "redirect with >> instead of >";
    let directory = tempfile::tempdir().unwrap();
    let checked = directory.path().join("checked");
    for (redirection, times) in [(">", 1), (">>", 0)] {
        let to = |name: &str| {
            format!(
                "exec {redirection}'{}'",
                directory.path().join(name).display()
            )
        };
        let mut child = Drainline::with::<&str>(&[]).shell(to("messages")).start();
        let exit = child.terminate();
        exit.assert_code(0);
        assert_eq!(
            exit.stderr.matches(told).count(),
            times,
            "{redirection} {exit}"
        );
        let mut check = Drainline::with(&["--check"])
            .shell(to("checked"))
            .bare()
            .spawn();
        check.wait().assert_code(0);
        let notes = fs::read_to_string(&checked).unwrap();
        let of_this_run = notes.matches(told).count();
        assert_eq!(of_this_run, 1, "{redirection}: {notes}");
    }
}

#[test]
fn lines_of_the_log_stand_between_messages_where_both_go_to_the_same_place() {
    const CONNECTIONS: usize = 40;
    const LEN: usize = 60_000;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("both");
    for to in ["", ">>both"] {
        let line = format!("cd '{}'; exec {to} 2>&1", directory.path().display());
        let mut child = Drainline::with(&["--log-level", "debug"])
            .stdout(Stdout::Unread)
            .shell(line)
            .start();
        let message = [&[b'm'; LEN][..], b"\n"].concat();
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS {
                scope.spawn(|| {
                    let mut client = client::connect(child.addr());
                    client.write_all(&message.repeat(5)).unwrap();
                    drop(client);
                });
            }
        });
        child.collect_stdout();
        // None is open before the first is accepted, too, so the log is asked for their ends.
        wait_until("the last connection's end", DEADLINE, || {
            let all = if to.is_empty() {
                child.stdout_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            memchr::memmem::find_iter(&all, b" ended: eof").count() == CONNECTIONS
        });
        child.signal(rustix::process::Signal::TERM);
        child.wait();
        let all = if to.is_empty() {
            child.stdout_bytes()
        } else {
            fs::read(&path).unwrap()
        };
        let mut messages = 0;
        let mut logged = 0;
        for line in all.split(|byte| *byte == b'\n') {
            let text = String::from_utf8_lossy(line);
            if line.len() == LEN && line.iter().all(|byte| *byte == b'm') {
                messages += 1;
            } else {
                assert!(!text.contains("mmmm"), "{}", &text[..text.len().min(300)]);
                logged += usize::from(text.contains("] connection"));
            }
        }
        assert_eq!(messages, CONNECTIONS * 5);
        assert!(logged > CONNECTIONS, "{logged} lines");
    }
}
