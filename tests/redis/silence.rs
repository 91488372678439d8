//! Servers that do not answer, do not read, or are not there: no end is held up, and the wait for
//! them has its time.

use std::io::Write;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use super::{send, sink_at, start, wait_delivered, wait_failed};
use crate::common::port::free_port;
use crate::common::redis::{Commands, SHORT, puppet};
use crate::common::wait::{DEADLINE, wait_until};
use drainline::DropReason;

/// Everything is ended by the drain's deadline, whatever the sink waits for.
#[track_caller]
fn ends_in_time(server: &drainline::Server, messages: u64) {
    wait_until("all received", DEADLINE, || {
        server.stats().received == messages
    });
    let begun = Instant::now();
    let report = server.shutdown(SHORT);
    assert!(begun.elapsed() < DEADLINE / 2, "{:?}", begun.elapsed());
    assert!(report.is_balanced(), "{report:?}");
    let dropped = report.stats.dropped.get(DropReason::Shutdown);
    assert_eq!(dropped, messages, "what is unanswered is dropped");
}

#[test]
fn a_server_that_accepts_and_never_answers_holds_up_no_end() {
    let address = puppet(|stream| {
        let mut commands = Commands::of(&stream);
        while commands.next_command().is_some() {}
        Ok(())
    });
    for timeout in [DEADLINE, SHORT] {
        let sink = sink_at(address).connect_timeout(timeout);
        let (server, mut stream) = start(sink);
        send(&mut stream, 0..1000);
        if timeout == SHORT {
            wait_failed(&server, "no answer within 500ms (connect_timeout)");
        }
        ends_in_time(&server, 1000);
    }
}

#[test]
fn a_server_that_stops_answering_is_given_up_and_holds_up_no_end() {
    let address = puppet(|mut stream| {
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n")?;
        while commands.next_command().is_some() {}
        Ok(())
    });
    let (server, mut stream) = start(sink_at(address).answer_timeout(SHORT));
    send(&mut stream, 0..1000);
    wait_failed(&server, "no answer for 500ms; 1000 unanswered messages");
    ends_in_time(&server, 1000);
}

/// It reads nothing: the socket is full, and the sink does not wait in a write.
#[test]
fn a_server_that_stops_reading_is_given_up_and_holds_up_no_end() {
    let (kept, keep) = mpsc::channel();
    let address = puppet(move |mut stream| {
        Commands::of(&stream).next_command();
        stream.write_all(b"+OK\r\n")?;
        kept.send(stream).unwrap();
        Ok(())
    });
    let sink = sink_at(address).window(64 << 20).answer_timeout(SHORT * 4);
    let (server, mut stream) = start(sink);
    let line = [&[b'x'; 1023][..], b"\n"].concat();
    let lines = line.repeat(20_000);
    stream.write_all(&lines).unwrap();
    wait_failed(&server, "no answer for 2s");
    ends_in_time(&server, 20_000);
    drop(keep);
}

/// A connection that is not taken by anybody: the queue of its listener is full.
#[test]
fn a_connect_that_is_not_answered_has_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    // The first is queued, and perhaps one more.
    let fill: Vec<_> = (0..4)
        .map(|_| thread::spawn(move || std::net::TcpStream::connect_timeout(&address, SHORT)))
        .collect();
    let fill: Vec<_> = fill.into_iter().map(|it| it.join().unwrap()).collect();
    if fill.iter().all(Result::is_ok) {
        eprintln!("left out: this kernel's queue has no end");
        return;
    }
    let (server, mut stream) = start(sink_at(address).connect_timeout(SHORT));
    wait_failed(&server, "failed: no answer within 500ms (connect_timeout)");
    send(&mut stream, 0..10);
    ends_in_time(&server, 10);
}

/// Messages wait for a server that is not there yet.
#[test]
fn a_server_that_comes_later_gets_all() {
    let port = free_port();
    let sink = drainline::ingest::sink::Redis::new("localhost", port, "stream");
    let (server, mut stream) = start(sink);
    wait_failed(&server, "connecting to");
    send(&mut stream, 0..1000);
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n").unwrap();
        while commands.next_command().is_some() {
            stream.write_all(b"$3\r\n1-1\r\n").unwrap();
        }
    });
    wait_delivered(&server, 1000);
    let output = server.report().outputs[0].clone();
    assert!(output.counts.failures > 0, "{output:?}");
    drop(stream);
    assert!(server.shutdown(DEADLINE).is_balanced());
}

#[test]
fn a_name_that_nobody_knows_is_told() {
    let sink = drainline::ingest::sink::Redis::new("no-such-name.invalid", 6379, "stream");
    let (server, mut stream) = start(sink);
    send(&mut stream, 0..10);
    wait_failed(&server, "no-such-name.invalid could not be resolved: ");
    ends_in_time(&server, 10);
}

/// A server that closes idle connections (`timeout`) has done nothing wrong.
#[test]
fn an_idle_connection_that_is_closed_is_no_failure() {
    let (closed, is_closed) = mpsc::channel();
    let address = puppet(move |mut stream| {
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n")?;
        commands.next_command();
        stream.write_all(b"$3\r\n1-1\r\n")?;
        thread::sleep(Duration::from_millis(50));
        drop((stream, commands));
        let _ = closed.send(());
        Ok(())
    });
    let (server, mut stream) = start(sink_at(address));
    for nth in 0..5 {
        send(&mut stream, nth..nth + 1);
        wait_delivered(&server, nth as u64 + 1);
        is_closed.recv_timeout(DEADLINE).unwrap();
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.report().outputs[0].counts.failures, 0);
    drop(stream);
    assert!(server.shutdown(DEADLINE).is_balanced());
}
