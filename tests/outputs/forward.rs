//! Forwarding to receivers that the test plays: what they get, byte by byte.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::ledger::assert_both_close;
pub(crate) use crate::common::ledger::wait_delivered;
use crate::common::port::free_port;
use crate::common::small;
use crate::common::tagged::{Cut, Tagged, parse};
use crate::common::wait::{DEADLINE, try_wait_for, wait_for, wait_until};
use drainline::ingest::Output;
use drainline::ingest::sink::{Forward, ForwardTo, Null, Target};
use drainline::{DropReason, Server};

pub(crate) const SOON: Duration = Duration::from_millis(50);

pub(crate) fn start(forward: ForwardTo) -> (Server, TcpStream) {
    let server = small::ingest()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(forward.open().unwrap())
        .unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

pub(crate) fn wait_error(server: &Server, part: &str) {
    let error = || server.report().outputs[0].last_error.clone();
    let is_told = || {
        error()
            .is_some_and(|error| error.contains(part))
            .then_some(())
    };
    let told = try_wait_for(DEADLINE, is_told);
    assert!(told.is_some(), "{part} is not told: {:?}", error());
}

pub(crate) fn listen() -> (TcpListener, Target) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, Target::tcp("127.0.0.1", port))
}

pub(crate) fn accept(listener: &TcpListener) -> BufReader<TcpStream> {
    listener.set_nonblocking(true).unwrap();
    let (stream, _) = wait_for("a connection", DEADLINE, || listener.accept().ok());
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    BufReader::new(stream)
}

pub(crate) fn line(receiver: &mut impl BufRead) -> String {
    let mut line = String::new();
    receiver.read_line(&mut line).unwrap();
    line
}

/// The first message after the receiver's end of the stream would be taken by our kernel, and lost.
#[test]
fn nothing_is_written_to_a_receiver_that_has_ended_its_stream() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let mut receiver = accept(&listener);
    for round in 0..6 {
        stream.write_all(b"before\n").unwrap();
        assert_eq!(line(&mut receiver), "before\n");
        // Whether it goes altogether, or still would read.
        let kept = match round % 2 {
            0 => {
                drop(receiver);
                None
            }
            _ => {
                receiver.get_ref().shutdown(Shutdown::Write).unwrap();
                Some(receiver)
            }
        };
        stream.write_all(b"first after\n").unwrap();
        receiver = accept(&listener);
        assert_eq!(line(&mut receiver), "first after\n");
        if let Some(mut kept) = kept {
            assert_eq!(line(&mut kept), "");
        }
    }
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 12);
}

/// Delivered is what the kernel took, to the byte.
#[test]
fn a_receiver_that_never_reads_holds_up_its_messages_and_not_the_end() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let receiver = accept(&listener);
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..400_000, 100, Cut::Blocks);
    });
    let mut delivered = 0;
    wait_until("a receiver's buffer that is full", DEADLINE, || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut delivered, server.stats().delivered);
        delivered > 0 && delivered == before
    });
    assert!(delivered < 400_000);
    let report = server.shutdown(Duration::from_secs(2));
    sender.join().unwrap();
    assert!(report.stats.dropped.get(DropReason::Shutdown) > 0);
    assert!(report.is_balanced(), "{report:?}");
    let mut read = Vec::new();
    receiver.into_inner().read_to_end(&mut read).unwrap();
    let end = read.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    Checker::read(&read[..end]).expect_exact(&[(0, report.stats.delivered)]);
}

/// All is delivered when the last wait begins: whoever does not end it, the drain is in time.
#[test]
fn a_receiver_that_never_closes_takes_no_more_of_a_drain_than_there_is() {
    for beside in [false, true] {
        let (listener, target) = listen();
        let forward = Forward::to(target).open().unwrap();
        let mut ingest = small::ingest().listen("127.0.0.1:0".parse().unwrap());
        if beside {
            ingest = ingest.output(Output::new("beside", Null));
        }
        let server = ingest
            .output(Output::new("forward", forward))
            .start_outputs();
        let server = server.unwrap();
        let mut stream = client::connect(server.local_addrs()[0]);
        let mut receiver = accept(&listener);
        stream.write_all(b"one\n").unwrap();
        assert_eq!(line(&mut receiver), "one\n");
        client::half_close(stream);
        wait_until("delivered", DEADLINE, || server.stats().delivered == 1);
        let report = server.shutdown(Duration::from_millis(400));
        assert!(!report.timed_out, "{report:?}");
        assert_both_close(&report);
        assert_eq!(line(&mut receiver), "");
    }
}

#[test]
fn a_message_that_was_begun_is_begun_anew_whole_on_the_next_connection() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let sent = 200;
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..sent, 60_000, Cut::Blocks);
        stream
    });
    let (mut whole, mut beginnings) = (Vec::new(), 0);
    while server.stats().delivered < sent {
        let mut receiver = accept(&listener);
        let mut first = Vec::new();
        receiver.read_until(b'\n', &mut first).unwrap();
        parse(first.strip_suffix(b"\n").unwrap()).unwrap();
        beginnings += 1;
        if beginnings < 5 {
            // Somewhere in a message; the rest is reset.
            let mut some = [0; 100_000];
            receiver.read_exact(&mut some).unwrap();
            client::reset(receiver.into_inner());
            continue;
        }
        whole.extend(first);
        let until = sent;
        while server.stats().delivered < until {
            let mut next = Vec::new();
            receiver.read_until(b'\n', &mut next).unwrap();
            parse(next.strip_suffix(b"\n").unwrap()).unwrap();
        }
    }
    assert!(beginnings >= 5);
    drop(sender.join().unwrap());
    drop(listener);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
}

/// As a receiver does that drains: it reads on. Half a message would be one of its own in its file,
/// and the whole one would be in the next connection's.
#[test]
fn a_receiver_that_ends_its_sending_half_inside_a_message_gets_the_rest_of_it() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let sent = 400;
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..sent, 60_000, Cut::Blocks);
        stream
    });
    let mut first = accept(&listener).into_inner();
    let mut delivered = 0;
    wait_until("a receiver's buffer that is full", DEADLINE, || {
        thread::sleep(Duration::from_millis(300));
        let before = std::mem::replace(&mut delivered, server.stats().delivered);
        delivered > 0 && delivered == before
    });
    assert!(delivered < sent);
    first.shutdown(Shutdown::Write).unwrap();
    let mut read = Vec::new();
    first.read_to_end(&mut read).unwrap();
    assert_eq!(read.last(), Some(&b'\n'));
    let mut second = accept(&listener).into_inner();
    let rest = thread::spawn(move || {
        let mut rest = Vec::new();
        second.read_to_end(&mut rest).unwrap();
        rest
    });
    client::half_close(sender.join().unwrap());
    wait_delivered(&server, sent);
    assert_both_close(&server.shutdown(DEADLINE));
    read.extend(rest.join().unwrap());
    Checker::read(&read).expect_exact(&[(0, sent)]);
}

#[test]
fn a_receiver_that_is_away_is_failed_over_from_and_returned_to() {
    let (second, second_target) = listen();
    let port = free_port();
    let forward = Forward::to(Target::tcp("127.0.0.1", port))
        .failover(second_target)
        .return_after(SOON);
    let (server, mut stream) = start(forward);
    stream.write_all(b"to the second\n").unwrap();
    let mut there = accept(&second);
    assert_eq!(line(&mut there), "to the second\n");
    let first = TcpListener::bind(("127.0.0.1", port)).unwrap();
    // Also while nothing flows.
    let mut here = accept(&first);
    assert_eq!(line(&mut there), "");
    stream.write_all(b"to the first\n").unwrap();
    assert_eq!(line(&mut here), "to the first\n");
    // It is gone: the second is used again.
    drop(first);
    drop(here);
    stream.write_all(b"to the second again\n").unwrap();
    let mut there = accept(&second);
    assert_eq!(line(&mut there), "to the second again\n");
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 3);
    assert_eq!(line(&mut there), "");
}

#[test]
fn a_connection_is_moved_between_two_messages() {
    let (second, second_target) = listen();
    let port = free_port();
    let forward = Forward::to(Target::tcp("127.0.0.1", port))
        .failover(second_target)
        .return_after(SOON);
    let (server, mut stream) = start(forward);
    let sent = 3000;
    let sender = thread::spawn(move || {
        let sent = Tagged::new(0).send(&mut stream, 0..sent, 10_000, Cut::Blocks);
        let _ = sent.all();
        client::half_close(stream);
    });
    let mut there = accept(&second);
    let mut read = vec![0; 100_000];
    there.read_exact(&mut read).unwrap();
    let first = TcpListener::bind(("127.0.0.1", port)).unwrap();
    let here = thread::spawn(move || {
        let mut read = Vec::new();
        accept(&first).read_to_end(&mut read).unwrap();
        read
    });
    there.read_to_end(&mut read).unwrap();
    assert_eq!(read.last(), Some(&b'\n'));
    sender.join().unwrap();
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    read.extend(here.join().unwrap());
    Checker::read(&read).expect_exact(&[(0, sent)]);
}

/// A socket that is closed with something unread is reset, and what its kernel has not sent is
/// thrown away.
#[test]
fn what_a_receiver_sends_is_discarded_and_costs_no_message() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let receiver = accept(&listener).into_inner();
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, mut talker) = (Arc::clone(&is_over), receiver.try_clone().unwrap());
    let talking = thread::spawn(move || {
        while !over.load(Ordering::Relaxed) && talker.write_all(&[b'x'; 10_000]).is_ok() {}
    });
    let sent = 20_000;
    let sender = thread::spawn(move || {
        let sent = Tagged::new(0).send(&mut stream, 0..sent, 100, Cut::Blocks);
        let _ = sent.all();
        client::half_close(stream);
    });
    let reader = thread::spawn(move || {
        let mut read = Vec::new();
        let mut receiver = receiver;
        let outcome = receiver.read_to_end(&mut read);
        is_over.store(true, Ordering::Relaxed);
        (read, outcome)
    });
    sender.join().unwrap();
    wait_delivered(&server, sent);
    let report = server.shutdown(DEADLINE);
    let (read, outcome) = reader.join().unwrap();
    talking.join().unwrap();
    outcome.unwrap();
    assert_both_close(&report);
    Checker::read(&read).expect_exact(&[(0, sent)]);
}

#[test]
fn a_unix_socket_is_forwarded_to_and_one_that_was_made_anew_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let (server, mut stream) = start(Forward::to(Target::unix(&path)));
    wait_error(&server, "No such file");
    for round in 0..3 {
        let listener = UnixListener::bind(&path).unwrap();
        stream.write_all(format!("{round}\n").as_bytes()).unwrap();
        let (receiver, _) = listener.accept().unwrap();
        let mut receiver = BufReader::new(receiver);
        assert_eq!(line(&mut receiver), format!("{round}\n"));
        std::fs::remove_file(&path).unwrap();
    }
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 3);
}

#[test]
fn a_name_that_has_no_address_is_told_and_holds_up_no_end() {
    let (server, mut stream) = start(Forward::to(Target::tcp("nosuch.invalid", 5140)));
    stream.write_all(b"held\n").unwrap();
    wait_error(&server, "nosuch.invalid could not be resolved: ");
    let report = server.shutdown(Duration::from_secs(1));
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 1);
    assert!(report.is_balanced());
}

#[test]
fn a_name_is_resolved_and_all_its_addresses_are_tried() {
    // localhost may be ::1 first, where nobody listens.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (server, mut stream) = start(Forward::to(Target::tcp("localhost", port)));
    stream.write_all(b"by name\n").unwrap();
    assert_eq!(line(&mut accept(&listener)), "by name\n");
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_reopen_connects_anew_and_loses_nothing() {
    let (listener, target) = listen();
    let (server, mut stream) = start(Forward::to(target));
    let mut before = accept(&listener);
    stream.write_all(b"before\n").unwrap();
    assert_eq!(line(&mut before), "before\n");
    server.reopen();
    let mut after = accept(&listener);
    assert_eq!(line(&mut before), "");
    stream.write_all(b"after\n").unwrap();
    assert_eq!(line(&mut after), "after\n");
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// What comes for a socket that is closed is answered with a reset, which takes what its kernel has
/// not sent.
#[test]
fn what_a_receiver_says_when_it_is_left_costs_no_message() {
    let (listener, target) = listen();
    // Most of it is held by our kernel.
    let small = 4096;
    socket2::SockRef::from(&listener)
        .set_recv_buffer_size(small)
        .unwrap();
    let (server, mut stream) = start(Forward::to(target));
    let mut before = accept(&listener);
    let sent = Tagged::new(0).send(&mut stream, 0..2000, 100, Cut::Blocks);
    wait_delivered(&server, sent.all().messages);
    server.reopen();
    let mut after = accept(&listener);
    stream.write_all(b"after\n").unwrap();
    assert_eq!(line(&mut after), "after\n");
    before.get_mut().write_all(b"hello\n").unwrap();
    let mut bytes = Vec::new();
    before.read_to_end(&mut bytes).unwrap();
    Checker::read(&bytes).expect_exact(&[(0, 2000)]);
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn settings_that_cannot_be_are_told() {
    let to = || Forward::to(Target::tcp("127.0.0.1", 1));
    let many = (0..16).fold(to(), |forward, _| {
        forward.failover(Target::tcp("127.0.0.1", 1))
    });
    for forward in [
        many,
        to().connect_timeout(Duration::ZERO),
        to().return_after(Duration::ZERO),
        to().ack_timeout(Duration::ZERO),
    ] {
        assert!(forward.open().is_err());
    }
}
