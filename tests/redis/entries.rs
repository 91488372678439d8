//! What becomes of messages: one entry each, in their order.

use std::io::Write;

use redis::Value;

use super::{finish, send, sent, sink, sink_at, start, wait_delivered};
use crate::common::redis::{Commands, RedisServer, puppet};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::sink::Redis;
use drainline::ingest::{Framing, Sink};

#[test]
fn each_message_is_an_entry_in_its_order() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()));
    send(&mut stream, 0..100_000);
    wait_delivered(&server, 100_000);
    let messages = redis.messages("stream");
    assert!(messages == sent(0..100_000), "{} messages", messages.len());
    finish(&server, stream);
}

#[test]
fn a_message_may_have_any_bytes_and_any_length() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let builder = small::ingest()
        .framing(Framing::LengthPrefixed)
        .max_message(4 << 20)
        .listen("127.0.0.1:0".parse().unwrap());
    let server = builder
        .start(sink(redis.port()).field("f i e l d"))
        .unwrap();
    let mut stream = crate::common::client::connect(server.local_addrs()[0]);
    let lengths = [
        0, 1, 2, 70_000, 262_144, 262_150, 3, 3_000_000, 262_000, 0, 5,
    ];
    let bytes = |length: usize| (0..length).map(move |at| (at * 7 + length) as u8);
    let messages: Vec<Vec<u8>> = lengths.map(|length| bytes(length).collect()).into();
    for message in &messages {
        let length = (message.len() as u32).to_be_bytes();
        stream.write_all(&length).unwrap();
        stream.write_all(message).unwrap();
    }
    wait_delivered(&server, lengths.len() as u64);
    let entries = redis.read("stream");
    assert!(entries.iter().all(|(field, _)| field == b"f i e l d"));
    let read: Vec<Vec<u8>> = entries.into_iter().map(|(_, message)| message).collect();
    assert!(read == messages, "{:?}", read.iter().map(Vec::len));
    finish(&server, stream);
}

#[test]
fn the_options_are_what_the_server_sees() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let sink = sink(redis.port())
        .max_len(100)
        .database(3)
        .client_name("of-the-test");
    let (server, mut stream) = start(sink);
    send(&mut stream, 0..20_000);
    wait_delivered(&server, 20_000);
    let Value::BulkString(clients) = redis.ask(&["CLIENT", "LIST"]) else {
        panic!("no list");
    };
    let clients = String::from_utf8(clients).unwrap();
    let mut lines = clients.lines();
    let line = lines
        .find(|line| line.contains(" name=of-the-test "))
        .unwrap();
    assert!(
        line.contains(" db=3 ") && line.contains(" cmd=xadd "),
        "{line}"
    );
    // It is kept by whole nodes of entries.
    let mut connection = redis.connect();
    redis::cmd("SELECT").arg(3).exec(&mut connection).unwrap();
    let mut command = redis::cmd("XLEN");
    let entries: u64 = command.arg("stream").query(&mut connection).unwrap();
    assert!((100..1000).contains(&entries), "{entries}");
    finish(&server, stream);
}

/// A round trip does not hold up what comes after: nothing is answered before a hundred batches of
/// one message are there.
#[test]
fn commands_are_sent_while_others_are_not_answered() {
    let address = puppet(|mut stream| {
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n")?;
        loop {
            for _ in 0..100 {
                if commands.next_command().is_none() {
                    return Ok(());
                }
            }
            stream.write_all("$3\r\n1-1\r\n".repeat(100).as_bytes())?;
        }
    });
    let (server, mut stream) = start(sink_at(address));
    for nth in 0..200 {
        send(&mut stream, nth..nth + 1);
        wait_until("a message received", DEADLINE, || {
            server.stats().received == nth as u64 + 1
        });
        let delivered = server.stats().delivered;
        assert!(delivered == 0 || nth >= 99, "{delivered} before {nth}");
    }
    wait_delivered(&server, 200);
    finish(&server, stream);
}

/// The window bounds what is sent without an answer.
#[test]
fn no_more_than_the_window_is_without_an_answer() {
    let (told, seen) = std::sync::mpsc::channel();
    let address = puppet(move |mut stream| {
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n")?;
        while let Some(command) = commands.next_command() {
            told.send(command.concat().len()).unwrap();
        }
        Ok(())
    });
    let sink = sink_at(address).window(64 << 10);
    let (server, mut stream) = start(sink);
    send(&mut stream, 0..20_000);
    wait_until("all received", DEADLINE, || {
        server.stats().received == 20_000
    });
    let mut bytes = 0;
    while let Ok(more) = seen.recv_timeout(crate::common::redis::SHORT) {
        bytes += more;
    }
    assert!((10_000..66 << 10).contains(&bytes), "{bytes} bytes");
    drop(stream);
    let report = server.shutdown(crate::common::redis::SHORT);
    assert!(report.is_balanced() && report.stats.delivered == 0);
}

/// The first connection waits for no message.
#[test]
fn a_connection_is_opened_before_the_first_message() {
    let (told, seen) = std::sync::mpsc::channel();
    let address = puppet(move |_| {
        told.send(()).unwrap();
        Ok(())
    });
    let (server, stream) = start(sink_at(address));
    seen.recv_timeout(DEADLINE).unwrap();
    finish(&server, stream);
}

/// What it says of itself has no secret in it.
#[test]
fn a_sink_shows_no_password() {
    let sink = sink(1).login(Some("somebody"), "hunter2");
    let shown = format!("{sink:?} {} {}", sink.name(), sink.delivered_means());
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("redis://127.0.0.1:1/stream"), "{shown}");
    assert_eq!(Redis::new("::1", 6379, "s").name(), "redis://[::1]:6379/s");
}
