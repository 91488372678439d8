//! Servers that die and come back: what was delivered is there.

use std::time::Duration;

use super::{assert_at_least, finish, send, sink, start, wait_delivered};
use crate::common::redis::RedisServer;
use crate::common::wait::{DEADLINE, wait_until};

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Killed while commands are out, again and again.
#[test]
fn nothing_is_missing_after_crashes() {
    let Some(mut redis) = RedisServer::start(&DURABLE) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()));
    let sender = std::thread::spawn(move || {
        for part in 0..60 {
            send(&mut stream, part * 1000..(part + 1) * 1000);
            std::thread::sleep(Duration::from_millis(20));
        }
        stream
    });
    for crash in 1..=3 {
        wait_delivered(&server, crash * 10_000);
        redis.kill();
        redis.start_again(&[]);
    }
    let stream = sender.join().unwrap();
    wait_delivered(&server, 60_000);
    assert_at_least(redis.messages("stream"), 0..60_000);
    let failures = server.report().outputs[0].counts.failures;
    assert!(failures > 0, "nothing was lost meanwhile");
    finish(&server, stream);
}

/// Connections that the server ends (`CLIENT KILL`), with answers on their way.
#[test]
fn nothing_is_missing_after_lost_connections() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()));
    let sender = std::thread::spawn(move || {
        for part in 0..100 {
            send(&mut stream, part * 1000..(part + 1) * 1000);
        }
        stream
    });
    for _ in 0..5 {
        let before = server.stats().delivered;
        wait_until("some more", DEADLINE, || {
            let delivered = server.stats().delivered;
            delivered > before || delivered == 100_000
        });
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    let stream = sender.join().unwrap();
    wait_delivered(&server, 100_000);
    assert_at_least(redis.messages("stream"), 0..100_000);
    finish(&server, stream);
}
