//! The HTTP output before a peer that answers before it has read, and then closes, or reads late or
//! never.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use crate::http;
use drainline::ingest::sink::{Http, HttpOptions};
use drainline::{DropReason, Server};

/// A message that no kernel takes whole for a peer that does not read.
fn start_with_a_large_message(options: HttpOptions) -> (Server, thread::JoinHandle<TcpStream>) {
    const BYTES: usize = 24 << 20;
    let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
    let builder = builder.max_message(2 * BYTES);
    let sink = options.requests(1).body_bytes(2 * BYTES).open().unwrap();
    let server = builder.start(sink).unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    let writing = thread::spawn(move || {
        let line = format!("{}\n", "x".repeat(BYTES));
        stream.write_all(line.as_bytes()).unwrap();
        stream
    });
    (server, writing)
}

fn finish(server: Server, writing: thread::JoinHandle<TcpStream>) {
    drop(writing.join().unwrap());
    assert_both_close(&server.shutdown(DEADLINE));
}

/// A peer that answers, then neither reads nor closes: what is written to it finds no end.
#[test]
fn an_answer_of_a_peer_that_goes_deaf_is_seen() {
    for before in ["", "HTTP/1.1 100 Continue\r\n\r\n"] {
        let answer = format!("{before}HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n");
        let peer = HttpPeer::start(move |_| Reply::RawAndDeaf(answer.clone().into_bytes()));
        peer.answer_early();
        let options = Http::to(&peer.url()).timeout(DEADLINE);
        let (server, writing) = start_with_a_large_message(options);
        wait_until("it is refused", DEADLINE, || {
            server.stats().dropped.get(DropReason::Refused) == 1
        });
        assert_eq!(peer.requests().len(), 1, "{before:?}");
        finish(server, writing);
    }
}

/// `100 Continue` that nobody has asked for is no answer, however long the peer then takes to read.
#[test]
fn a_peer_that_says_continue_and_then_takes_its_time_gets_the_body() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let peer = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            lines.read_line(&mut head).unwrap();
        }
        let (_, length) = head.split_once("content-length: ").unwrap();
        let length = length.lines().next().unwrap().parse().unwrap();
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
        // Longer than whoever goes deaf is waited for: it is not given up.
        thread::sleep(Duration::from_millis(2500));
        let read = io::copy(&mut lines.by_ref().take(length), &mut io::sink());
        assert_eq!(read.unwrap(), length);
        let ok = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
        stream.write_all(ok).unwrap();
        stream
    });
    let (server, writing) = start_with_a_large_message(Http::to(&url).timeout(DEADLINE));
    wait_until("it is delivered", DEADLINE, || {
        server.stats().delivered == 1
    });
    assert_eq!(server.report().sink.failures, 0);
    finish(server, writing);
    peer.join().unwrap();
}

/// Several times what the sockets of loopback take before somebody reads: tcp_wmem(7) is 4 MiB at
/// most.
const LINES: usize = 200;
const LINE_BYTES: usize = 60 << 10;

struct Early {
    peer: HttpPeer,
    server: Server,
    stream: TcpStream,
}

impl Early {
    /// A message that failed at first, and behind it lines that are sent in one body, to a peer
    /// that answers both early, with `status`.
    fn start(status: &'static str) -> Early {
        let is_busy = Arc::new(AtomicBool::new(true));
        let peer = HttpPeer::start({
            let is_busy = Arc::clone(&is_busy);
            move |_| match is_busy.load(Ordering::Relaxed) {
                true => Reply::status("503 Service Unavailable"),
                false => Reply::status(status),
            }
        });
        let options = Http::to(&peer.url()).requests(1).timeout(http::TIMEOUT);
        let (server, mut stream) = http::start(options.body_bytes(2 * LINES * LINE_BYTES));
        http::send(&mut stream, 0..1);
        wait_until("a failure", DEADLINE, || server.report().sink.failures > 0);
        let line = format!("{}\n", "x".repeat(LINE_BYTES - 1));
        stream.write_all(line.repeat(LINES).as_bytes()).unwrap();
        wait_until("all received", DEADLINE, || {
            server.stats().received == 1 + LINES as u64
        });
        peer.answer_early();
        is_busy.store(false, Ordering::Relaxed);
        Early {
            peer,
            server,
            stream,
        }
    }
}

/// Writing fails, and the answer is there all the same.
#[test]
fn an_answer_before_the_body_was_read_is_seen() {
    let early = Early::start("413 Content Too Large");
    wait_until("each of them refused", DEADLINE, || {
        let stats = early.server.stats();
        stats.dropped.get(DropReason::Refused) == 1 + LINES as u64
    });
    http::finish(early.server, early.stream);
}

/// It has not seen what it accepts.
#[test]
fn an_acceptance_before_the_body_was_read_does_not_count() {
    let early = Early::start("200 OK");
    let whole = format!("content-length: {}", LINES * LINE_BYTES);
    wait_until("the large body, sent again", DEADLINE, || {
        let requests = early.peer.requests().into_iter();
        let large = requests.filter(|request| request.head.contains(&whole));
        large.count() >= 3
    });
    // The message before them is in the hands of the kernel, at most.
    assert!(early.server.stats().delivered <= 1);
    let report = early.server.shutdown(Duration::from_millis(100));
    assert!(report.is_balanced(), "{report:?}");
}
