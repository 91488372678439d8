//! What a consumer is told, and what it may say.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use drainline::ingest::{Framing, ReadMessages};
use drainline::{
    BoxError, Connection, DropReason, EndReason, Fatal, Received, SendError, Sender, ServerError,
    TrySendError, WhenFull,
};

use super::builder;
use super::common::client;
use super::common::wait::{DEADLINE, wait_until, within};

/// Sends each byte that it reads as a message.
fn bytes(conn: &mut Connection, out: &Sender<char>) -> Result<(), BoxError> {
    let mut byte = [0; 1];
    while std::io::Read::read(conn, &mut byte)? > 0 {
        out.send(byte[0].into())?;
    }
    Ok(())
}

#[test]
fn a_message_that_is_refused_is_counted_and_the_server_goes_on_unless_it_is_fatal() {
    let (seen, delivered) = channel();
    let server = builder(|_| {})
        .start_each(bytes, move |letter| match letter {
            'b' => Err("no b's here".into()),
            'f' => Err(Fatal("the disk is gone".into()).into()),
            _ => Ok(seen.send(letter)?),
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"abc").unwrap();
    assert_eq!(delivered.recv_timeout(DEADLINE), Ok('a'));
    assert_eq!(delivered.recv_timeout(DEADLINE), Ok('c'));
    assert_eq!(server.stats().dropped.get(DropReason::Refused), 1);
    client.write_all(b"f").unwrap();
    let report = within("the end", DEADLINE, move || server.wait());
    assert!(report.is_balanced() && report.is_lossy(), "{report:?}");
    assert_eq!(report.stats.dropped.get(DropReason::SinkFailed), 1);
    match report.error {
        Some(ServerError::ConsumerFailed { message, .. }) => {
            assert_eq!(message, "the disk is gone");
        }
        other => panic!("{other:?}"),
    }
}

/// Panics when it goes.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("as told");
    }
}

/// The handler goes with the last acceptor, or with the last connection that it serves.
#[test]
fn what_a_handler_captured_may_panic_as_it_goes() {
    for is_served in [false, true] {
        let bomb = Bomb;
        let server = builder(|_| {})
            .serve(move |conn| {
                let _captured = &bomb;
                Ok(std::io::copy(conn, &mut std::io::sink()).map(drop)?)
            })
            .unwrap();
        let client = is_served.then(|| client::connect(server.local_addrs()[0]));
        let open = u64::from(is_served);
        wait_until("the client served", DEADLINE, || {
            server.stats().open == open
        });
        let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
        assert!(!report.timed_out, "{report:?}");
        assert_eq!(report.stats.threads, 0, "{report:?}");
        drop(client);
    }
}

#[test]
fn a_timer_of_the_consumers_own_comes_when_it_is_due_though_messages_flow() {
    let (tell, told) = channel();
    let server = builder(|_| {})
        .start(bytes, move |receiver| {
            let mut due = Instant::now() + Duration::from_millis(50);
            let mut since = 0;
            loop {
                match receiver.recv_until(due) {
                    Received::Message(delivery) => since += u32::from(delivery.ack() == 'x'),
                    Received::Timeout => {
                        due += Duration::from_millis(50);
                        tell.send(std::mem::take(&mut since))?;
                    }
                    Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            }
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"xxx").unwrap();
    let mut seen = 0;
    while seen < 3 {
        seen += told.recv_timeout(DEADLINE).unwrap();
    }
}

/// The buffer is never empty, since the consumer is slower than its clients.
#[test]
fn a_timer_of_the_consumers_own_comes_when_it_is_due_in_a_flood_of_messages() {
    let (tell, told) = channel();
    let server = builder(|config| config.buffer_messages = 100)
        .start(bytes, move |receiver| {
            let mut due = Instant::now() + Duration::from_millis(50);
            loop {
                match receiver.recv_until(due) {
                    Received::Message(delivery) => {
                        std::thread::sleep(Duration::from_millis(1));
                        delivery.ack();
                    }
                    Received::Timeout => {
                        due += Duration::from_millis(50);
                        tell.send(())?;
                    }
                    Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            }
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(&[b'x'; 100_000]).unwrap();
    wait_until("a full buffer", DEADLINE, || {
        server.stats().buffered.messages == 100
    });
    for _ in 0..3 {
        told.recv_timeout(DEADLINE).unwrap();
    }
    assert_ne!(server.stats().buffered.messages, 0);
    server.shutdown(Duration::ZERO);
}

/// It was told 49 million times in 5 s.
#[test]
fn a_consumer_that_does_not_heed_that_room_is_wanted_does_not_spin() {
    let wanted = Arc::new(AtomicU32::new(0));
    let held = Arc::new(Mutex::new(Vec::new()));
    let server = builder(|config| config.buffer_messages = 1)
        .start(bytes, {
            let (wanted, held) = (Arc::clone(&wanted), Arc::clone(&held));
            move |receiver| {
                loop {
                    match receiver.recv(DEADLINE) {
                        Received::Message(delivery) => held.lock().unwrap().push(delivery),
                        Received::RoomWanted => drop(wanted.fetch_add(1, Ordering::Relaxed)),
                        Received::Timeout => {}
                        Received::Closed => return Ok(()),
                    }
                }
            }
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"ab").unwrap();
    let begun = Instant::now();
    wait_until("room wanted three times", DEADLINE, || {
        wanted.load(Ordering::Relaxed) >= 3
    });
    let told = wanted.load(Ordering::Relaxed);
    let most = begun.elapsed().as_millis() / 100 + 2;
    assert!(u128::from(told) <= most, "{told} of {most}");
    // Another thread acknowledges, and the next one comes.
    held.lock().unwrap().pop().unwrap().ack();
    wait_until("the second", DEADLINE, || held.lock().unwrap().len() == 1);
    held.lock().unwrap().pop().unwrap().ack();
}

#[test]
fn what_is_only_tried_is_booked_when_it_was_sent() {
    let (tell, told) = channel();
    let server = builder(|config| config.buffer_messages = 1)
        .start(
            move |_, out| {
                let full = loop {
                    match out.try_send("x".to_owned()) {
                        Ok(()) => {}
                        Err(TrySendError::Full(item)) => break item,
                        Err(other) => panic!("{other:?}"),
                    }
                };
                let heavy = out.try_send("x".repeat(128 << 20)).unwrap_err();
                tell.send((full, matches!(heavy, TrySendError::TooHeavy(_))))?;
                Ok(())
            },
            |receiver| {
                let mut held = Vec::new();
                loop {
                    match receiver.recv(DEADLINE) {
                        Received::Message(delivery) => held.push(delivery),
                        Received::Closed => break,
                        Received::Timeout | Received::RoomWanted => {}
                    }
                }
                held.into_iter().for_each(|one| drop(one.ack()));
                Ok(())
            },
        )
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    assert_eq!(told.recv_timeout(DEADLINE), Ok(("x".to_owned(), true)));
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    let stats = &report.stats;
    assert!(report.is_balanced() && !report.is_lossy(), "{report:?}");
    assert_eq!((stats.received, stats.delivered), (1, 1));
}

#[test]
fn several_messages_are_received_at_once_as_far_as_they_are_there() {
    let (tell, sizes) = channel();
    let (go_on, may_go_on) = channel::<()>();
    let server = builder(|_| {})
        .start(bytes, move |receiver| {
            may_go_on.recv()?;
            while let Some(letters) = receiver.recv_many(4, Duration::from_secs(3600)) {
                tell.send(
                    letters
                        .iter()
                        .map(|letter| *letter.get())
                        .collect::<String>(),
                )?;
                for letter in letters {
                    letter.ack();
                }
            }
            Ok(())
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"abcdefghij").unwrap();
    wait_until("all are in the buffer", DEADLINE, || {
        server.stats().in_flight == 10
    });
    go_on.send(()).unwrap();
    let seen: Vec<_> = (0..3)
        .map(|_| sizes.recv_timeout(DEADLINE).unwrap())
        .collect();
    assert_eq!(seen, ["abcd", "efgh", "ij"]);
    // Fewer do not wait for more, and the end of the server ends the wait for the first.
    client.write_all(b"k").unwrap();
    assert_eq!(sizes.recv_timeout(DEADLINE).as_deref(), Ok("k"));
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert!(report.is_balanced() && report.stats.delivered == 11);
}

#[test]
fn several_messages_at_once_may_be_none() {
    let (tell, told) = channel();
    let server = builder(|config| config.buffer_messages = 2)
        .start(bytes, move |receiver| {
            let in_time = receiver.recv_many(4, Duration::from_millis(1));
            tell.send(in_time.map(|letters| letters.len()))?;
            // Two are held, and the third waits for their capacity.
            let mut held = Vec::new();
            while held.len() < 2 {
                held.extend(receiver.recv_many(4, Duration::from_secs(3600)).unwrap());
            }
            let wanted = receiver.recv_many(4, Duration::from_secs(3600));
            tell.send(wanted.map(|letters| letters.len()))?;
            for letter in held {
                letter.ack();
            }
            while let Some(letters) = receiver.recv_many(4, Duration::from_secs(3600)) {
                for letter in letters {
                    letter.ack();
                }
            }
            Ok(())
        })
        .unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Some(0)));
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"abc").unwrap();
    assert_eq!(told.recv_timeout(DEADLINE), Ok(Some(0)));
    client::half_close(client);
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.delivered, 3);
}

#[test]
fn a_handler_goes_on_past_what_was_dropped_and_not_past_the_end() {
    let (go_on, may_go_on) = channel::<()>();
    let server = builder(|config| {
        config.buffer_messages = 1;
        config.send_timeout = Duration::from_millis(10);
        config.when_full = WhenFull::Drop;
    })
    .start(
        |conn: &mut Connection, out: &Sender<String>| {
            for line in conn.messages(Framing::Lines, 100) {
                out.send(String::from_utf8(line?)?)
                    .or_else(SendError::unless_dropped)?;
            }
            Ok(())
        },
        move |receiver| {
            may_go_on.recv()?;
            while let Some(lines) = receiver.recv_many(1, Duration::from_secs(3600)) {
                lines.into_iter().for_each(|line| drop(line.ack()));
            }
            Ok(())
        },
    )
    .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"one\ntwo\nthree\n").unwrap();
    wait_until("two are dropped", DEADLINE, || {
        server.stats().dropped.get(DropReason::Full) == 2
    });
    go_on.send(()).unwrap();
    wait_until("the buffer is empty", DEADLINE, || {
        server.stats().delivered == 1
    });
    client.write_all(b"four\n").unwrap();
    wait_until("the same connection is served", DEADLINE, || {
        server.stats().delivered == 2
    });
    client::half_close(client);
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.ended.get(EndReason::Eof), 1);
}
