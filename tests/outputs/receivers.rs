//! Forwarding to another drainline, which is terminated and killed.

use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::port::free_port;
use crate::common::tagged::{Cut, Tagged};
use crate::common::tool::{load, verify};
use crate::common::wait::{DEADLINE, wait_until};
use crate::forward::{start, wait_delivered};
use drainline::ingest::sink::{Forward, Target};
use rustix::process::Signal;

fn receiver(port: u16, file: &Path) -> Drainline {
    receiver_at(&format!("127.0.0.1:{port}"), file)
}

fn receiver_at(address: &str, file: &Path) -> Drainline {
    let sink = format!("file:{}", file.display());
    Drainline::start(&["--listen", address, "--sink", &sink])
}

/// Sends messages of the first connection in one write, and returns how many they were.
fn send_at_once(stream: &mut TcpStream, messages: Range<u64>) -> u64 {
    let sent = Tagged::new(0).send(stream, messages, 100, Cut::Once);
    sent.all().messages
}

/// The connection is looked at before each write: without that, the first message after each end
/// would be lost.
#[test]
fn nothing_is_lost_when_the_receiver_ends_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let port = free_port();
    let mut receiver_now = receiver(port, &file);
    let (server, mut stream) = start(Forward::to(Target::tcp("127.0.0.1", port)));
    let tagged = Tagged::new(0);
    let mut sent = 0;
    for _ in 0..3 {
        let burst = tagged.send(&mut stream, sent..sent + 1000, 100, Cut::Blocks);
        sent += burst.all().messages;
        wait_delivered(&server, sent);
        receiver_now.terminate().assert_code(0);
        // Nobody is there. What comes meanwhile is held.
        for _ in 0..50 {
            sent += send_at_once(&mut stream, sent..sent + 1);
            thread::sleep(Duration::from_millis(1));
        }
        receiver_now = receiver(port, &file);
    }
    client::half_close(stream);
    wait_delivered(&server, sent);
    assert_both_close(&server.shutdown(DEADLINE));
    receiver_now.terminate().assert_code(0);
    Checker::read(&fs::read(&file).unwrap()).expect_exact(&[(0, sent)]);
}

/// The receiver says that it leaves, and reads on until our end of the stream. At full speed, where
/// both kernels hold much.
#[test]
fn a_receiver_that_is_terminated_while_messages_flow_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (file, socket) = (
        directory.path().join("messages"),
        directory.path().join("s"),
    );
    let unix = format!("unix:{}", socket.display());
    let port = free_port();
    let tcp = format!("127.0.0.1:{port}");
    for (listen, sink) in [(&tcp, &format!("tcp://{tcp}")), (&unix, &unix)] {
        let mut receiver_now = receiver_at(listen, &file);
        let mut forwarder = Drainline::start(&["--sink", sink]);
        let flags = [
            "--connections",
            "4",
            "--messages",
            "100000",
            "--size",
            "100",
            "--numbered",
            "--wait-close",
        ];
        let terminations = thread::scope(|scope| {
            let loading = scope.spawn(|| load(&forwarder, &flags));
            let mut terminations = 0;
            while !loading.is_finished() {
                let before = fs::metadata(&file).map_or(0, |metadata| metadata.len());
                let flows = || fs::metadata(&file).is_ok_and(|it| it.len() > before + 1_000_000);
                wait_until("more of it", DEADLINE, || flows() || loading.is_finished());
                let exit = receiver_now.terminate();
                exit.assert_code(0);
                assert_eq!(exit.u64("unread_bytes"), 0, "{exit}");
                receiver_now = receiver_at(listen, &file);
                terminations += 1;
            }
            terminations
        });
        assert!(terminations > 1, "{terminations}");
        forwarder.terminate().assert_code(0);
        receiver_now.terminate().assert_code(0);
        let expected = ["--connections", "4", "--messages", "100000"];
        let (code, report) = verify(&file, &expected);
        assert_eq!(code, Some(0), "{report}");
        fs::remove_file(&file).unwrap();
    }
}

/// What its kernel and ours held is lost then, and nothing else: no message is torn, doubled or out
/// of order, and what is sent after the return is there.
#[test]
fn a_receiver_that_is_killed_costs_what_the_kernels_held_and_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let port = free_port();
    let mut receiver_now = receiver(port, &file);
    let (server, mut stream) = start(Forward::to(Target::tcp("127.0.0.1", port)));
    let tagged = Tagged::new(0);
    let mut sent = 0;
    for _ in 0..3 {
        for _ in 0..300 {
            sent += send_at_once(&mut stream, sent..sent + 10);
            thread::sleep(Duration::from_micros(300));
        }
        receiver_now.signal(Signal::KILL);
        for _ in 0..100 {
            sent += send_at_once(&mut stream, sent..sent + 10);
            thread::sleep(Duration::from_micros(300));
        }
        receiver_now.wait();
        receiver_now = receiver(port, &file);
        wait_delivered(&server, sent);
        sent += send_at_once(&mut stream, sent..sent + 1);
        let last = tagged.lines(sent - 1..sent, 100);
        wait_until("the first after the return", DEADLINE, || {
            fs::read(&file).unwrap().ends_with(&last)
        });
    }
    client::half_close(stream);
    wait_delivered(&server, sent);
    assert_both_close(&server.shutdown(DEADLINE));
    receiver_now.terminate().assert_code(0);
    let read = Checker::read(&fs::read(&file).unwrap());
    read.expect_ordered(&[(0, sent)]);
    let missing = read.counters(0, sent).missing;
    eprintln!("lost through three kills: {missing} of {sent}");
    // Half a mebibyte at this pace.
    assert!(missing < 5000, "{missing}");
}

#[test]
fn a_fast_stream_arrives_whole_over_tcp_and_a_unix_socket() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("socket");
    let port = free_port();
    let listening = [
        format!("127.0.0.1:{port}"),
        format!("unix:{}", socket.display()),
    ];
    let targets = [Target::tcp("127.0.0.1", port), Target::unix(&socket)];
    for (listening, target) in listening.iter().zip(targets) {
        let file = directory.path().join("messages");
        let sink = format!("file:{}", file.display());
        let mut receiver = Drainline::with(&["--listen", listening, "--sink", &sink]).start();
        let (server, mut stream) = start(Forward::to(target));
        let sent = Tagged::new(0)
            .send(&mut stream, 0..200_000, 100, Cut::Blocks)
            .all();
        client::half_close(stream);
        let report = server.shutdown(DEADLINE);
        assert_both_close(&report);
        assert_eq!(report.stats.delivered, sent.messages);
        // It has ended its stream in good order, and was read to its end.
        receiver.terminate().assert_code(0);
        Checker::read(&fs::read(&file).unwrap()).expect_exact(&[(0, sent.messages)]);
        fs::remove_file(&file).unwrap();
    }
    std::io::stderr().flush().unwrap();
}
