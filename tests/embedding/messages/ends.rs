//! How messages end: with the stream, with an error, or because the handler reads on by itself.

use std::io::{Read, Write};
use std::sync::mpsc;
use std::time::Duration;

use super::{MAX, connect, ended, start};
use crate::common::client;
use crate::common::handlers::drained;
use crate::common::small;
use crate::common::wait::DEADLINE;
use drainline::ingest::{Framing, ReadMessages, messages_bytes};
use drainline::{Config, EndReason, Ended};

#[test]
fn after_its_end_and_after_an_error_there_is_no_further_message() {
    let (server, _messages) = start(small::config(), |conn, _| {
        let mut messages = conn.messages(Framing::OctetCounted, MAX);
        let ended: Vec<_> = (&mut messages).map(|message| message.is_ok()).collect();
        let is_over = messages.next().is_none() && messages.next().is_none();
        Ok(write!(messages, "{ended:?} {is_over}")?)
    });
    for (stream, expected) in [("1 a", "[true] true"), ("1 ax", "[true, false] true")] {
        let mut client = connect(&server);
        client.write_all(stream.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        client.read_to_string(&mut reply).unwrap();
        assert_eq!(reply, expected);
    }
    drained(server);
}

#[test]
fn limits_that_do_not_count_such_messages_are_an_error_at_the_first() {
    let first_error = |config: Config, max_message: usize| {
        let is_enough = config.handler_bytes >= messages_bytes(max_message) && max_message > 0;
        let (tell, told) = mpsc::channel();
        let (server, _messages) = start(config, move |conn, _| {
            let first = conn.messages(Framing::Lines, max_message).next();
            let error = first.and_then(Result::err).map(|error| error.to_string());
            Ok(tell.send(error.unwrap_or_default())?)
        });
        let mut client = connect(&server);
        // The error comes before the peer is waited for.
        if is_enough {
            client.write_all(b"a line\n").unwrap();
        }
        let told = told.recv_timeout(DEADLINE).unwrap();
        drop(server);
        told
    };
    let default = small::config().handler_bytes;
    let needed = messages_bytes(100_000);
    let mut enough = small::config();
    enough.handler_bytes = needed;
    assert_eq!(
        first_error(small::config(), 100_000),
        format!(
            "invalid value '{default}' for handler_bytes: expected {needed} or more, for messages of up to \
             100000 bytes"
        )
    );
    assert_eq!(first_error(enough, 100_000), "");
    assert_eq!(first_error(small::config(), 24 << 10), "");
    let range = "expected 1 to 1073741824";
    assert_eq!(
        first_error(small::config(), 0),
        format!("invalid value '0' for max_message: {range}")
    );
    let above = (1 << 30) + 1;
    assert_eq!(
        first_error(small::config(), above),
        format!("invalid value '{above}' for max_message: {range}")
    );
}

#[test]
fn a_drain_and_a_deadline_end_the_wait_with_their_reason_and_no_half_message() {
    let (tell, told) = mpsc::channel();
    let mut config = small::config();
    config.frame_timeout = Some(Duration::from_millis(100));
    let (server, messages) = start(config, move |conn, out| {
        for message in conn.messages(Framing::Lines, MAX) {
            match message {
                Ok(message) => out.send(message)?,
                Err(error) => tell.send(Ended::reason_of(&error))?,
            }
        }
        Ok(())
    });
    let mut late = connect(&server);
    late.write_all(b"whole\nhalf of o").unwrap();
    client::wait_for_close(&mut late);
    assert_eq!(
        told.recv_timeout(DEADLINE).unwrap(),
        Some(EndReason::FrameTimeout)
    );
    // One who is between messages is not timed, and a drain ends that wait.
    let mut quiet = connect(&server);
    quiet.write_all(b"whole\n").unwrap();
    assert_eq!(
        messages.iter().take(2).collect::<Vec<_>>(),
        [b"whole", b"whole"]
    );
    let report = drained(server);
    assert_eq!(
        told.recv_timeout(DEADLINE).unwrap(),
        Some(EndReason::Shutdown)
    );
    assert_eq!(ended(&report.stats, EndReason::FrameTimeout), 1);
    assert_eq!(messages.try_iter().count(), 0);
}

/// A line that says how many bytes follow, and those, in every cut of the stream.
#[test]
fn what_was_read_behind_the_last_message_is_given_back() {
    let (server, seen) = start(small::config(), |conn, out| {
        let mut lines = conn.messages(Framing::Lines, MAX);
        for line in lines.by_ref().take(2) {
            out.send(line?)?;
        }
        let length = lines.next_message()?.ok_or("no length")?;
        let length: usize = String::from_utf8(length)?.parse()?;
        let rest = lines.into_rest();
        let mut body = vec![0; length];
        (&rest[..]).chain(&*conn).read_exact(&mut body)?;
        out.send(body)?;
        // The body was no message: what comes now is the next.
        for line in conn.messages(Framing::Lines, MAX) {
            out.send(line?)?;
        }
        Ok(())
    });
    let stream = b"one\r\ntwo\n10\nbo\ndy\0more";
    for split in 0..stream.len() {
        let mut client = connect(&server);
        client.set_nodelay(true).unwrap();
        client.write_all(&stream[..split]).unwrap();
        client.write_all(&stream[split..]).unwrap();
        client::half_close(client);
        let messages: Vec<_> = (0..3)
            .map(|_| seen.recv_timeout(DEADLINE).unwrap())
            .collect();
        assert_eq!(messages, [&b"one"[..], b"two", b"bo\ndy\0more"], "{split}");
    }
    drained(server);
}

/// A handler that reads on by itself is not timed by the frame that `messages` had begun.
#[test]
fn the_frame_deadline_does_not_run_on_behind_the_rest() {
    let mut config = small::config();
    config.frame_timeout = Some(Duration::from_millis(100));
    let (server, seen) = start(config, |conn, out| {
        let mut lines = conn.messages(Framing::Lines, MAX);
        let first = lines.next_message()?.ok_or("no line")?;
        let mut body = lines.into_rest();
        out.send(first)?;
        conn.read_to_end(&mut body)?;
        Ok(out.send(body)?)
    });
    let mut client = connect(&server);
    client.write_all(b"head\nhalf of").unwrap();
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), b"head");
    // Several deadlines pass while nothing comes; the test would only end too early.
    std::thread::sleep(Duration::from_millis(600));
    client.write_all(b" a body").unwrap();
    client::half_close(client);
    assert_eq!(seen.recv_timeout(DEADLINE).unwrap(), b"half of a body");
    assert_eq!(ended(&drained(server).stats, EndReason::FrameTimeout), 0);
}
