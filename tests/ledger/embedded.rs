//! The ledger closes whatever an embedder's code does: handlers that panic or fail, consumers that
//! fail, panic or leave.

use std::io::{BufRead, BufReader, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::tagged::{Cut, Sent, Tagged};
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{
    BoxError, Builder, Connection, DropReason, EndReason, Received, Receiver, Sender, ServerError,
};

const SIZE: usize = 120;

fn server() -> Builder<Vec<u8>> {
    small::server::<Vec<u8>>().listen("127.0.0.1:0".parse().unwrap())
}

/// Sends each line; does as a line says that is an order.
fn obey(connection: &mut Connection, out: &Sender<Vec<u8>>) -> Result<(), BoxError> {
    let mut lines = BufReader::new(connection);
    loop {
        let mut line = Vec::new();
        if lines.read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        line.pop();
        match line.as_slice() {
            b"panic" => panic!("as told"),
            b"fail" => return Err("as told".into()),
            b"return" => return Ok(()),
            _ => out.send(line)?,
        }
    }
}

/// What a consumer was given and called delivered.
type Seen = Arc<Mutex<Checker>>;

fn total(seen: &Seen) -> u64 {
    seen.lock().unwrap().total()
}

#[test]
fn a_handler_that_panics_or_fails_ends_its_own_connection_and_its_permit_returns() {
    const EACH: u32 = 5;
    let seen = Seen::default();
    let counted = Arc::clone(&seen);
    let mut config = small::config();
    config.max_connections = Some(1);
    let server = server()
        .config(config)
        .start_each(obey, move |line| {
            counted.lock().unwrap().message(&line);
            Ok(())
        })
        .unwrap();
    let addr = server.local_addrs()[0];
    // One after the other through a single permit: each finds it only if the one before has
    // returned it.
    let orders = [&b"panic\n"[..], b"fail\n", b"return\n"];
    for connection in 0..3 * EACH {
        let mut stream = client::connect(addr);
        let _ = Tagged::new(connection)
            .send(&mut stream, 0..10, SIZE, Cut::Once)
            .all();
        stream.write_all(orders[connection as usize % 3]).unwrap();
        client::wait_for_close(&mut stream);
    }
    let mut last = client::connect(addr);
    let _ = Tagged::new(3 * EACH)
        .send(&mut last, 0..10, SIZE, Cut::Once)
        .all();
    client::half_close(last);

    let stats = server.shutdown(DEADLINE).stats;
    assert_closes(&stats);
    let counts: Vec<_> = (0..=3 * EACH).map(|connection| (connection, 10)).collect();
    seen.lock().unwrap().expect_exact(&counts);
    let ends = [
        EndReason::HandlerPanicked,
        EndReason::HandlerError,
        EndReason::HandlerReturned,
    ];
    assert!(
        ends.iter()
            .all(|&end| stats.ended.get(end) == u64::from(EACH)),
        "{stats:?}"
    );
    assert_eq!((stats.received, stats.delivered), (160, 160), "{stats:?}");
}

/// How a consumer comes to its end, after this many messages, with one in its hands.
#[derive(Clone, Copy, Debug)]
enum Death {
    Error,
    Panic,
    Leaves,
}

const LIVES_FOR: u64 = 50;

fn consume(receiver: &mut Receiver<Vec<u8>>, seen: &Seen, death: Death) -> Result<(), BoxError> {
    loop {
        match receiver.recv(Duration::from_secs(1)) {
            Received::Message(delivery) if total(seen) == LIVES_FOR => match death {
                Death::Error => {
                    return Err(format!("died at {} bytes", delivery.get().len()).into());
                }
                Death::Panic => panic!("died as told"),
                Death::Leaves => return Ok(()),
            },
            Received::Message(delivery) => seen.lock().unwrap().message(&delivery.ack()),
            Received::Timeout | Received::RoomWanted => {}
            Received::Closed => return Ok(()),
        }
    }
}

#[test]
fn a_consumer_that_dies_ends_the_server_and_every_message_after_it_is_booked_to_it() {
    for death in [Death::Error, Death::Panic, Death::Leaves] {
        let seen = Seen::default();
        let consumers = Arc::clone(&seen);
        let mut config = small::config();
        // Little capacity, so that senders wait for the consumer when it dies.
        config.buffer_messages = 16;
        let server = server()
            .config(config)
            .start(obey, move |receiver| consume(receiver, &consumers, death))
            .unwrap();
        let addr = server.local_addrs()[0];
        // Connected before anything is sent, since the server is soon over.
        let streams = client::connect_many(addr, 6);
        let senders: Vec<_> = (0..)
            .zip(streams)
            .map(|(connection, mut stream)| {
                thread::spawn(move || -> Sent {
                    let sent =
                        Tagged::new(connection).send(&mut stream, 0..1000, SIZE, Cut::Blocks);
                    client::wait_for_close(&mut stream);
                    sent
                })
            })
            .collect();
        // Nobody asked it to end: it is over by itself, with every handler joined.
        let report = server.wait();
        let sent: Vec<Sent> = senders
            .into_iter()
            .map(|sender| sender.join().unwrap())
            .collect();

        let stats = &report.stats;
        assert_closes(stats);
        match (death, report.error.as_ref().unwrap()) {
            (Death::Error, ServerError::ConsumerFailed { message, .. }) => {
                assert!(message.starts_with("died at"))
            }
            (Death::Panic, ServerError::ConsumerPanicked(text)) => assert_eq!(text, "died as told"),
            (Death::Leaves, ServerError::ConsumerLeft) => {}
            (_, error) => panic!("{death:?} became {error:?}"),
        }
        assert!(
            report.stuck.is_empty() && !report.timed_out,
            "{death:?}: {report:?}"
        );
        assert_eq!(stats.delivered, LIVES_FOR, "{death:?}: {stats:?}");
        let dropped = stats.dropped.get(DropReason::SinkFailed);
        assert_eq!(
            (dropped, stats.dropped.total()),
            (stats.received - LIVES_FOR, dropped),
            "{stats:?}"
        );
        let counts: Vec<_> = (0..).zip(sent.iter().map(|sent| sent.messages)).collect();
        seen.lock().unwrap().expect_prefix(&counts);
        let bytes: u64 = sent.iter().map(|sent| sent.bytes).sum();
        assert!(stats.unread_bytes <= bytes, "{stats:?}");
    }
}

#[test]
fn a_send_that_was_refused_is_booked_once_and_what_a_handler_drops_is_booked_too() {
    let delivered = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&delivered);
    let mut config = small::config();
    config.buffer_bytes = 4096;
    let server = server()
        .config(config)
        .start_each(
            |connection, out| {
                for line in BufReader::new(connection).split(b'\n') {
                    let line = line?;
                    match line.as_slice() {
                        b"spam" => out.record_dropped(DropReason::ByHandler, 3),
                        b"giant" => assert!(out.send(vec![0; 5000]).is_err()),
                        _ => out.send(line)?,
                    }
                }
                Ok(())
            },
            move |_| {
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            },
        )
        .unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    stream
        .write_all(b"one\nspam\ngiant\ntwo\ngiant\nthree\n")
        .unwrap();
    client::half_close(stream);
    wait_until("three delivered", DEADLINE, || {
        delivered.load(Ordering::Relaxed) == 3
    });
    let stats = server.shutdown(DEADLINE).stats;
    assert_closes(&stats);
    assert_eq!((stats.received, stats.delivered), (8, 3), "{stats:?}");
    let dropped =
        [DropReason::ByHandler, DropReason::Oversize].map(|reason| stats.dropped.get(reason));
    assert_eq!(dropped, [3, 2], "{stats:?}");
}
