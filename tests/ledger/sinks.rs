//! The ledger closes whatever the sink does: a reader that is gone, a disk that is full.

use std::fs::OpenOptions;
use std::process::{Command, Stdio};

use crate::common::checker::Checker;
use crate::common::child::{Drainline, Stdout};
use crate::common::client;
use crate::common::exit::{Counted, Exit};
use crate::common::fifo;
use crate::common::guard::{Collector, Guarded};
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_until};

const SIZE: usize = 120;

/// `head -n 1`, and its end of a pipe.
fn head() -> (Guarded, Stdout, Collector) {
    let mut command = Command::new("head");
    command
        .args(["-n", "1"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut head = Guarded(command.spawn().unwrap());
    let stdin = head.0.stdin.take().unwrap();
    let output = Collector::start(head.0.stdout.take().unwrap());
    (head, Stdout::Given(stdin.into()), output)
}

/// A server whose reader takes one line and is gone, when more comes.
fn into_head(flags: &[&str]) -> (Exit, Counted) {
    let (mut head, stdin, output) = head();
    let mut server = Drainline::with(flags).stdout(stdin).start();
    let mut stream = server.connect();
    let tagged = Tagged::new(0);
    let first = tagged.send(&mut stream, 0..1, SIZE, Cut::Once).all();
    assert!(head.wait(DEADLINE).unwrap().success());
    output.finish();
    Checker::read(&output.bytes()).expect_exact(&[(0, 1)]);

    // The next write meets EPIPE; what is sent meanwhile is received, and lost.
    let rest = tagged.send(&mut stream, 1..400, SIZE, Cut::Once);
    let exit = server.wait();
    drop(stream);
    (exit, [&first, &rest].into_iter().collect())
}

#[test]
fn a_reader_that_is_gone_ends_the_server_and_the_rest_is_booked_to_it() {
    // The second buffer makes many batches of a read, so that one is refused with others behind it.
    for flags in [&[][..], &["--buffer-messages", "8"]] {
        // A server that looks for its reader before anything more comes has ended with nothing to
        // lose.
        wait_until("a server that received more", DEADLINE, || {
            let (exit, sent) = into_head(flags);
            exit.assert_code(1);
            exit.assert_closes();
            assert_eq!(exit.u64("delivered"), 1, "{exit}");
            // Whatever was read was received, to the message.
            let read = exit.u64("bytes_read");
            let bytes = &Tagged::new(0).lines(0..400, SIZE)[..read as usize];
            let whole = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
            assert_eq!(exit.u64("received"), whole, "{exit}");
            assert!(read + exit.u64("unread_bytes") <= sent.bytes, "{exit}");
            assert_eq!(
                exit.u64("dropped.sink_failed"),
                exit.sum("dropped"),
                "{exit}"
            );
            let error = exit.report["error"].as_str().unwrap();
            assert!(error.contains("stdout failed for good"), "{exit}");
            whole > 1
        });
    }
}

#[test]
fn a_full_disk_is_tried_for_ever_and_what_it_never_took_is_booked_to_the_shutdown() {
    let full = || OpenOptions::new().write(true).open("/dev/full").unwrap();
    let starts = [
        Drainline::with(&["--drain-timeout", "400ms"]).stdout(Stdout::Given(full().into())),
        Drainline::with(&["--drain-timeout", "400ms", "--sink", "file:/dev/full"]),
    ];
    for start in starts {
        let mut server = start.start();
        let mut stream = server.connect();
        let sent = Tagged::new(0)
            .send(&mut stream, 0..500, SIZE, Cut::Once)
            .all();
        client::half_close(stream);
        wait_until("the failure told", DEADLINE, || {
            server.stderr_text().contains("No space left on device")
        });
        assert!(!server.has_ended());

        let exit = server.terminate();
        exit.assert_code(4);
        exit.assert_whole(&[sent].iter().collect(), b"");
        assert_eq!(exit.u64("dropped.shutdown"), 500, "{exit}");
        assert!(exit.u64("sink_failures") >= 1, "{exit}");
    }
}

#[test]
fn a_pipe_that_takes_nothing_until_the_deadline_is_given_whole_lines_and_the_rest_is_booked() {
    let mut server = Drainline::with(&["--drain-timeout", "400ms"])
        .stdout(Stdout::Unread)
        .start();
    let mut stream = server.connect();
    // More than a pipe holds.
    let sent = Tagged::new(0)
        .send(&mut stream, 0..4000, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(4);
    server.collect_stdout();
    // It has ended: this waits for the end of the pipe.
    server.wait();
    let output = server.stdout_bytes();
    // The last line may be broken off by the pipe's end. It is not delivered.
    let whole = output.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    Checker::read(&output[..whole]).expect_prefix(&[(0, 4000)]);
    exit.assert_whole(&[sent].iter().collect(), &output);
    assert_eq!(exit.u64("dropped.shutdown"), exit.sum("dropped"), "{exit}");
    assert!(exit.sum("dropped") > 0, "{exit}");
}

#[test]
fn a_pipe_that_takes_little_at_a_time_is_given_everything() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fifo");
    fifo::make(&path);
    // Somebody holds the reading end, and reads nothing for now.
    let reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    // As little as there is, so that each batch is taken in many parts.
    rustix::pipe::fcntl_setpipe_size(&reader, 4096).unwrap();
    let sink = format!("file:{}", path.display());
    let mut server = Drainline::start(&["--sink", &sink]);
    let mut stream = server.connect();
    let sent = Tagged::new(0)
        .send(&mut stream, 0..4000, SIZE, Cut::Once)
        .all();
    client::half_close(stream);
    let collector = Collector::start(reader);
    wait_until("all of it", DEADLINE, || {
        collector.with(<[u8]>::len) as u64 == sent.bytes
    });
    let output = collector.bytes();
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_whole(&[sent].iter().collect(), &output);
    Checker::read(&output).expect_exact(&[(0, 4000)]);
}
