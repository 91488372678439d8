//! What the server says: nothing that it did not take counts as delivered, and whatever may pass is
//! waited out.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{
    assert_all, assert_at_least, finish, send, sink, sink_at, start, wait_delivered, wait_failed,
};
use crate::common::client;
use crate::common::redis::{Commands, RedisServer, puppet};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::DropReason;

/// While a server loads its data it answers every command with an error: those that a client
/// pipelines all come back well, and none of them was done.
#[test]
fn a_server_that_loads_its_data_is_waited_for() {
    let Some(mut redis) = RedisServer::start(&[]) else {
        return;
    };
    let mut connection = redis.connect();
    let mut fill = redis::pipe();
    (0..4000).for_each(|key| {
        fill.cmd("SET").arg(key).arg("value").ignore();
    });
    fill.exec(&mut connection).unwrap();
    redis.ask(&["SAVE"]);
    redis.kill();
    // Each key takes its time, and commands are answered in between.
    let slow = [
        "--key-load-delay",
        "1500",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    redis.start_again(&slow);
    let (server, mut stream) = start(sink(redis.port()));
    send(&mut stream, 0..1000);
    wait_failed(&server, "LOADING");
    send(&mut stream, 1000..2000);
    wait_delivered(&server, 2000);
    assert_all(redis.messages("stream"), 0..2000);
    finish(&server, stream);
}

#[test]
fn a_server_without_memory_is_waited_for() {
    let Some(redis) = RedisServer::start(&["--maxmemory-policy", "noeviction"]) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()));
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    send(&mut stream, 100..1000);
    wait_failed(&server, "OOM");
    assert_eq!(server.stats().delivered, 100);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    wait_delivered(&server, 1000);
    assert_all(redis.messages("stream"), 0..1000);
    finish(&server, stream);
}

#[test]
fn a_key_of_another_type_is_waited_for() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    redis.ask(&["SET", "stream", "is none"]);
    let (server, mut stream) = start(sink(redis.port()));
    send(&mut stream, 0..100);
    wait_failed(&server, "WRONGTYPE");
    assert_eq!(server.stats().delivered, 0);
    redis.ask(&["DEL", "stream"]);
    wait_delivered(&server, 100);
    assert_all(redis.messages("stream"), 0..100);
    finish(&server, stream);
}

#[test]
fn a_replica_is_waited_for_until_it_is_the_primary() {
    let Some(redis) = RedisServer::start(&["--replicaof", "127.0.0.1 1"]) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()));
    send(&mut stream, 0..100);
    wait_failed(&server, "READONLY");
    redis.ask(&["REPLICAOF", "NO", "ONE"]);
    wait_delivered(&server, 100);
    assert_all(redis.messages("stream"), 0..100);
    finish(&server, stream);
}

/// A wrong password is told before the first message, and without the password.
#[test]
fn a_wrong_password_is_told_and_may_be_mended() {
    let flags = ["--requirepass", "right"];
    let Some(redis) = RedisServer::start_as(":right@", &flags) else {
        return;
    };
    let (server, mut stream) = start(sink(redis.port()).login(None, "hunter2"));
    wait_failed(&server, "the login failed: WRONGPASS");
    let error = server.report().outputs[0].last_error.clone().unwrap();
    assert!(!error.contains("hunter2"), "{error}");
    send(&mut stream, 0..100);
    redis.ask(&["CONFIG", "SET", "requirepass", "hunter2"]);
    wait_delivered(&server, 100);
    finish(&server, stream);
}

#[test]
fn a_missing_password_is_told() {
    let flags = ["--requirepass", "right"];
    let Some(_redis) = RedisServer::start_as(":right@", &flags) else {
        return;
    };
    let (server, stream) = start(sink(_redis.port()));
    wait_failed(&server, "NOAUTH");
    finish(&server, stream);
}

#[test]
fn a_user_who_may_not_add_is_told_and_may_be_allowed_to() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    redis.ask(&["ACL", "SETUSER", "writer", "on", ">secret", "~*", "+@read"]);
    let (server, mut stream) = start(sink(redis.port()).login(Some("writer"), "secret"));
    send(&mut stream, 0..100);
    wait_failed(&server, "NOPERM");
    redis.ask(&["ACL", "SETUSER", "writer", "+xadd"]);
    wait_delivered(&server, 100);
    assert_all(redis.messages("stream"), 0..100);
    finish(&server, stream);
}

/// What `sinks` says that a user needs.
#[test]
fn a_user_needs_xadd_of_the_stream_and_select_for_a_database() {
    let Some(redis) = RedisServer::start(&[]) else {
        return;
    };
    let least = ["on", ">secret", "resetkeys", "~stream", "-@all", "+xadd"];
    redis.ask(&[&["ACL", "SETUSER", "writer"], &least[..]].concat());
    let writer = || sink(redis.port()).login(Some("writer"), "secret");
    let (server, mut stream) = start(writer());
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    finish(&server, stream);
    let (server, mut stream) = start(writer().database(1));
    send(&mut stream, 0..100);
    wait_failed(&server, "NOPERM");
    redis.ask(&["ACL", "SETUSER", "writer", "+select"]);
    wait_delivered(&server, 100);
    finish(&server, stream);
}

#[test]
fn a_server_that_takes_no_more_clients_is_waited_for() {
    let Some(redis) = RedisServer::start(&["--maxclients", "2"]) else {
        return;
    };
    let others = (redis.connect(), redis.connect());
    let (server, mut stream) = start(sink(redis.port()));
    wait_failed(&server, "max number of clients");
    drop(others);
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    finish(&server, stream);
}

/// A message that the server can never take is dropped and counted, and those around it are not.
#[test]
fn a_message_that_is_too_long_for_the_server_is_refused() {
    let Some(redis) = RedisServer::start(&["--proto-max-bulk-len", "1mb"]) else {
        return;
    };
    let builder = small::ingest()
        .max_message(4 << 20)
        .listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(sink(redis.port())).unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    send(&mut stream, 0..1000);
    stream.write_all(&vec![b'x'; 2 << 20]).unwrap();
    stream.write_all(b"\n").unwrap();
    send(&mut stream, 1000..2000);
    wait_delivered(&server, 2000);
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced());
    assert_eq!(report.stats.dropped.get(DropReason::Refused), 1);
    assert_at_least(redis.messages("stream"), 0..2000);
}

/// Some fail and some do not: exactly the former are sent again.
#[test]
fn only_what_failed_is_sent_again() {
    let (told, seen) = std::sync::mpsc::channel();
    let count = Arc::new(AtomicU64::new(0));
    let address = puppet(move |mut stream| {
        let mut commands = Commands::of(&stream);
        commands.next_command();
        stream.write_all(b"+OK\r\n")?;
        while let Some(mut command) = commands.next_command() {
            // The first time, every third one fails.
            let nth = count.fetch_add(1, Ordering::Relaxed);
            if nth < 1000 && nth.is_multiple_of(3) {
                stream.write_all(b"-BUSY not now\r\n")?;
            } else {
                told.send(command.pop().unwrap()).unwrap();
                stream.write_all(b"$3\r\n1-1\r\n")?;
            }
        }
        Ok(())
    });
    let (server, mut stream) = start(sink_at(address));
    send(&mut stream, 0..1000);
    wait_delivered(&server, 1000);
    finish(&server, stream);
    assert_all(seen.try_iter().collect(), 0..1000);
}

/// Nothing that a peer answers counts as an answer but an entry's ID.
#[test]
fn what_is_no_answer_ends_the_connection() {
    for (garbage, why) in [
        (
            &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
            "no answer of Redis",
        ),
        (b"+OK\r\n", "what XADD never does"),
        (b"$-1\r\n", "what XADD never does"),
        (b"*99999999999\r\n", "the server closed the connection"),
        (b"$3\r\n1-1\r\n$3\r\n1-2\r\n", "what nobody has asked"),
        (&[b'-'; 200_000], "longer than 64 KiB"),
        (b"$9999999999\r\n", "the server closed the connection"),
        (b"", "the server closed the connection"),
    ] {
        let is_first = Arc::new(AtomicU64::new(0));
        let address = puppet(move |mut stream| {
            let mut commands = Commands::of(&stream);
            commands.next_command();
            stream.write_all(b"+OK\r\n")?;
            while commands.next_command().is_some() {
                if is_first.fetch_add(1, Ordering::Relaxed) == 0 {
                    stream.write_all(garbage)?;
                    return Ok(());
                }
                stream.write_all(b"$3\r\n1-1\r\n")?;
            }
            Ok(())
        });
        let (server, mut stream) = start(sink_at(address));
        send(&mut stream, 0..1);
        wait_failed(&server, why);
        wait_until("it is sent again", DEADLINE, || {
            server.stats().delivered == 1
        });
        finish(&server, stream);
    }
}
