//! A stress test of the quota, with waits shorter than any setting allows.

use std::net::{TcpListener, TcpStream};
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::{Receiver as Channel, Sender as Entrance, channel};
use std::thread;

use super::*;
use crate::server::state::connection_state::ListenerName;

const SENDERS: usize = 64;
const SENDS_EACH: usize = 400;
const LIMIT: Weight = Weight {
    messages: 24,
    bytes: 240,
};

/// A small random number generator (xorshift64).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

#[derive(Default)]
struct Counted {
    granted: AtomicU64,
    refused: AtomicU64,
    delivered: AtomicU64,
}

fn stream() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("its address");
    TcpStream::connect(address).expect("a connection")
}

fn state(id: u64, stream: &TcpStream) -> Arc<ConnectionState> {
    let stream = stream.try_clone().expect("a descriptor");
    let peer = stream.peer_addr().unwrap_or(([127, 0, 0, 1], 1).into());
    // Of two listeners, each has half of the connections.
    let listener = ListenerName::new((id % 2) as usize, 2, None, &peer.into());
    let state = ConnectionState::new(id, peer.into(), stream.into(), listener);
    let state = Arc::new(state);
    let _served_here = state.serve_on_current_thread();
    state
}

fn send_wait(random: &mut Random) -> SendWait {
    let wait = Duration::from_micros(200 + random.below(1800));
    match random.below(5) {
        0 | 1 => SendWait::AbortAfter(wait),
        2 => SendWait::DropAfter(wait),
        3 => SendWait::Never,
        _ => SendWait::Forever,
    }
}

/// Sends for one connection until that has ended, then for another, and so on.
fn send(
    quota: &Quota,
    shown: &Mutex<Arc<ConnectionState>>,
    seed: u64,
    into: &Entrance<(usize, Weight)>,
    counted: &Counted,
) {
    let (mut random, stream) = (Random(seed), stream());
    let mut current = state(seed, &stream);
    *shown.lock() = Arc::clone(&current);
    for _ in 0..SENDS_EACH {
        let weight = Weight {
            messages: 1 + random.below(5),
            bytes: random.below(60),
        };
        match quota.acquire(&current, weight, send_wait(&mut random)) {
            Acquired::Granted => {
                counted
                    .granted
                    .fetch_add(weight.messages, Ordering::Relaxed);
                into.send((current.listener.index(), weight))
                    .expect("the consumer is there");
            }
            Acquired::Refused(_) => {
                counted
                    .refused
                    .fetch_add(weight.messages, Ordering::Relaxed);
            }
        }
        assert_eq!(*current.wait.lock(), WaitState::None);
        if current.ended().is_some() {
            current = state(seed, &stream);
            *shown.lock() = Arc::clone(&current);
        }
    }
}

fn consume(quota: &Quota, items: &Channel<(usize, Weight)>, counted: &Counted) {
    let mut random = Random(3);
    while let Ok((listener, mut rest)) = items.recv() {
        quota.picked_up();
        if random.below(4) == 0 {
            quota.delivered_some(listener, 1);
            rest.messages -= 1;
            counted.delivered.fetch_add(1, Ordering::Relaxed);
        }
        match random.below(256) {
            0 => thread::sleep(Duration::from_micros(random.below(2000))),
            1..16 => {
                quota.nack(listener, rest);
                continue;
            }
            _ => {}
        }
        quota.delivered(listener, rest);
        counted
            .delivered
            .fetch_add(rest.messages, Ordering::Relaxed);
    }
}

fn assert_closes(quota: &Quota) {
    let (counts, rows) = quota.read();
    for row in &rows {
        let sum = row.delivered + row.dropped.total() + row.in_flight;
        assert_eq!(row.received, sum, "{rows:?}");
    }
    let in_flight: u64 = rows.iter().map(|row| row.in_flight).sum();
    assert_eq!(counts.in_flight, in_flight, "{rows:?}");
    let sum = counts.delivered + counts.dropped.total() + counts.in_flight;
    assert_eq!(counts.received, sum, "{counts:?}");
    let within = counts.used.messages <= LIMIT.messages && counts.used.bytes <= LIMIT.bytes;
    assert!(within, "{counts:?}");
}

#[test]
fn stress_timeouts_aborts_and_grants_leave_exact_sums_and_nobody_in_line() {
    let (quota, _nudged) = Quota::new(LIMIT, 2);
    let counted = Counted::default();
    let is_over = AtomicBool::new(false);
    let spare = stream();
    let states: Vec<_> = (0..SENDERS).map(|_| Mutex::new(state(0, &spare))).collect();
    thread::scope(|scope| {
        let (into, items) = channel();
        let (quota, counted, is_over) = (&quota, &counted, &is_over);
        scope.spawn(|| {
            let mut random = Random(5);
            while !is_over.load(Ordering::Relaxed) {
                let at = random.below(SENDERS as u64) as usize;
                let victim = Arc::clone(&states[at].lock());
                quota.abort(&victim, EndReason::Aborted);
                // As in every abort of a connection.
                victim.unpark();
                quota.tick();
                thread::sleep(Duration::from_micros(300));
            }
        });
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert_closes(quota);
                thread::yield_now();
            }
        });
        let consumer = scope.spawn(move || consume(quota, &items, counted));
        for (seed, shown) in (1..).zip(&states) {
            let into = into.clone();
            scope.spawn(move || send(quota, shown, seed, &into, counted));
        }
        drop(into);
        let consumed = consumer.join();
        is_over.store(true, Ordering::Relaxed);
        if consumed.is_err() {
            // Ends the senders that wait without a limit.
            quota.close(DropReason::SinkFailed);
            panic!("the consumer panicked");
        }
    });

    assert_closes(&quota);
    let (counts, rows) = quota.read();
    assert!(rows.iter().all(|row| row.delivered > 0), "{rows:?}");
    assert_eq!((counts.in_flight, counts.waiting), (0, 0), "{counts:?}");
    assert_eq!(counts.used, Weight::default());
    let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
    assert_eq!(counts.delivered, read(&counted.delivered));
    assert_eq!(
        counts.received,
        read(&counted.granted) + read(&counted.refused)
    );
    let sink_failed = counts.dropped.get(DropReason::SinkFailed);
    assert_eq!(read(&counted.granted), counts.delivered + sink_failed);
    assert_eq!(counts.dropped.total(), read(&counted.refused) + sink_failed);
    for reason in [
        DropReason::ConnectionClosed,
        DropReason::Full,
        DropReason::SinkFailed,
    ] {
        assert!(counts.dropped.get(reason) > 0, "{counts:?}");
    }
}
