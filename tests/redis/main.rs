//! A stream of Redis as the sink: what counts as delivered is in the stream, whatever the server
//! says or does, and no end is held up.
#![cfg(feature = "redis")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod answers;
mod entries;
mod outages;
mod program;
mod silence;
#[cfg(feature = "tls")]
mod tls;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use common::client;
use common::ledger::assert_both_close;
use common::small;
use common::wait::{DEADLINE, wait_until};
use drainline::ingest::sink::Redis;
use drainline::{Report, Server};

fn sink(port: u16) -> Redis {
    Redis::new("127.0.0.1", port, "stream")
}

fn sink_at(address: SocketAddr) -> Redis {
    sink(address.port())
}

/// A server with this sink, and a client of it.
#[track_caller]
fn start(sink: Redis) -> (Server, TcpStream) {
    let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(sink).unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

/// Sends `message-FROM` up to `message-TO`, without the last.
fn send(stream: &mut TcpStream, numbers: std::ops::Range<usize>) {
    let lines: String = numbers
        .map(|number| format!("message-{number}\n"))
        .collect();
    stream.write_all(lines.as_bytes()).unwrap();
}

/// What [`send`] sends, as entries have it.
fn sent(numbers: std::ops::Range<usize>) -> Vec<Vec<u8>> {
    let messages = numbers.map(|number| format!("message-{number}").into_bytes());
    messages.collect()
}

/// These messages are all there, each once, in whatever order.
#[track_caller]
fn assert_all(mut messages: Vec<Vec<u8>>, numbers: std::ops::Range<usize>) {
    let mut all = sent(numbers);
    let count = messages.len();
    messages.sort();
    all.sort();
    assert!(messages == all, "{count} messages for {}", all.len());
}

/// As [`assert_all`], but any of them may be there again.
#[track_caller]
fn assert_at_least(mut messages: Vec<Vec<u8>>, numbers: std::ops::Range<usize>) {
    messages.sort();
    messages.dedup();
    assert_all(messages, numbers);
}

#[track_caller]
fn wait_delivered(server: &Server, messages: u64) {
    wait_until("all delivered", DEADLINE, || {
        server.stats().delivered >= messages
    });
}

/// Until the sink has failed for a reason that has `part`.
#[track_caller]
fn wait_failed(server: &Server, part: &str) {
    let last = || server.report().outputs[0].last_error.clone();
    wait_until(&format!("a failure with {part:?}"), DEADLINE, || {
        last().is_some_and(|error| error.contains(part))
    });
}

/// Ends it when all is delivered.
#[track_caller]
fn finish(server: &Server, stream: TcpStream) -> Report {
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.dropped.iter().map(|(_, n)| n).sum::<u64>(), 0);
    report
}
