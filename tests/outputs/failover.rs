//! Receivers that accept and are not well: what they do not take goes to the next one.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::tagged::{Cut, Tagged, parse};
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use crate::forward::{accept, line, listen, start, wait_delivered};
use drainline::ingest::sink::Forward;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

/// The sequence number that a stream begins with.
fn first_of(stream: &[u8]) -> u64 {
    let line = stream.split(|&byte| byte == b'\n').next().unwrap();
    let (_, seq) = parse(line).unwrap();
    seq
}

fn assert_no_connection(listener: &TcpListener) {
    listener.set_nonblocking(true).unwrap();
    let accepted = listener.accept().map(drop);
    assert_eq!(accepted.unwrap_err().kind(), ErrorKind::WouldBlock);
}

/// Its kernel accepts each connection that is made, and takes what there is room for.
#[test]
fn a_receiver_that_never_reads_is_given_up_for_the_next_one() {
    let (first, first_target) = listen();
    let (second, second_target) = listen();
    let forward = Forward::to(first_target)
        .failover(second_target)
        .ack_timeout(Duration::from_secs(1))
        .return_after(NEVER);
    let (server, mut stream) = start(forward);
    let sent = 200_000;
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..sent, 100, Cut::Blocks);
        client::half_close(stream);
    });
    let mut there = accept(&second);
    let receiving = thread::spawn(move || {
        let mut read = Vec::new();
        there.read_to_end(&mut read).unwrap();
        read
    });
    sender.join().unwrap();
    wait_delivered(&server, sent);
    assert_both_close(&server.shutdown(DEADLINE));
    let read = receiving.join().unwrap();
    let begin = first_of(&read);
    assert!(begin > 0);
    let checker = Checker::read(&read);
    checker.expect_ordered(&[(0, sent)]);
    assert_eq!(checker.counters(0, sent).missing, begin);
    // The first got one connection, and what its kernel took of it.
    let mut taken = Vec::new();
    let _ = accept(&first).read_to_end(&mut taken);
    let end = taken.iter().rposition(|&byte| byte == b'\n').unwrap() + 1;
    let taken = Checker::read(&taken[..end]);
    taken.expect_ordered(&[(0, begin)]);
    assert_eq!(taken.counters(0, begin).missing, begin - taken.total());
    assert_no_connection(&first);
}

/// As a balancer does that has no server left. It is asked again and again whether it keeps a
/// connection, and no message is tried on it meanwhile.
#[test]
fn a_receiver_that_closes_at_once_is_left_and_no_message_is_tried_on_it() {
    let (first, first_target) = listen();
    let (second, second_target) = listen();
    let forward = Forward::to(first_target)
        .failover(second_target)
        .return_after(Duration::from_millis(300));
    let taken = Arc::new(AtomicU64::new(0));
    let counting = Arc::clone(&taken);
    thread::spawn(move || {
        for stream in first.incoming() {
            drop(stream.unwrap());
            counting.fetch_add(1, Ordering::Relaxed);
        }
    });
    let (server, mut stream) = start(forward);
    let tagged = Tagged::new(0);
    second.set_nonblocking(true).unwrap();
    // The first may take some before its end of the stream is known.
    let mut sent = 0;
    let accepted = wait_for("a connection to the second", DEADLINE, || {
        let _ = tagged.send(&mut stream, sent..sent + 1, 100, Cut::Once);
        sent += 1;
        thread::sleep(Duration::from_millis(10));
        second.accept().ok()
    });
    let there = accepted.0;
    there.set_nonblocking(false).unwrap();
    there.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut there = BufReader::new(there);
    let mut read = Vec::new();
    while !read.ends_with(&tagged.lines(sent - 1..sent, 100)) {
        assert_ne!(there.read_until(b'\n', &mut read).unwrap(), 0);
    }
    for _ in 0..5 {
        let before = taken.load(Ordering::Relaxed);
        wait_until("two more looks at the first", DEADLINE, || {
            let _ = tagged.send(&mut stream, sent..sent + 1, 100, Cut::Once);
            let mut got = Vec::new();
            there.read_until(b'\n', &mut got).unwrap();
            assert_eq!(got, tagged.lines(sent..sent + 1, 100));
            sent += 1;
            taken.load(Ordering::Relaxed) >= before + 2
        });
    }
    client::half_close(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

#[test]
fn a_receiver_that_was_given_up_is_returned_to() {
    let (first, first_target) = listen();
    let (second, second_target) = listen();
    let forward = Forward::to(first_target)
        .failover(second_target)
        .ack_timeout(Duration::from_secs(1))
        .return_after(Duration::from_secs(1));
    let (server, mut stream) = start(forward);
    let hung = accept(&first);
    let sender = thread::spawn(move || {
        let _ = Tagged::new(0).send(&mut stream, 0..50_000, 100, Cut::Blocks);
        stream
    });
    let mut there = accept(&second);
    let receiving = thread::spawn(move || {
        let mut read = Vec::new();
        there.read_to_end(&mut read).unwrap();
        read
    });
    // It is well again: it accepts, and reads.
    drop(hung);
    let mut here = accept(&first);
    let reading = thread::spawn(move || {
        let mut read = Vec::new();
        while !read.ends_with(b"to the first\n") {
            let line = line(&mut here);
            assert_ne!(line, "");
            read.extend(line.into_bytes());
        }
        read
    });
    // The second has all that came before the return.
    let read = receiving.join().unwrap();
    let begin = first_of(&read);
    let mut stream = sender.join().unwrap();
    stream.write_all(b"to the first\n").unwrap();
    let mut whole = read;
    whole.extend(reading.join().unwrap());
    let numbered = whole.strip_suffix(b"to the first\n").unwrap();
    let checker = Checker::read(numbered);
    checker.expect_ordered(&[(0, 50_000)]);
    assert_eq!(checker.counters(0, 50_000).missing, begin);
    client::half_close(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}
