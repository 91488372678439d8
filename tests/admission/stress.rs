//! The shells by stress: many handlers, small bounds, short timeouts, aborts, and a consumer that
//! is sometimes slow and sometimes lets go of an item. Sums are exact at the end and at every
//! reading, nobody is left in line, all are joined.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::puppets::Item;
use crate::common::small;
use crate::common::tagged::XorShift;
use crate::common::wait::{DEADLINE, try_wait_for};
use drainline::{
    BoxError, Connection, DropReason, EndReason, PauseAfter, Received, Receiver, Report, SendError,
    Sender, Server, WhenFull,
};

/// How long each test lasts.
const LASTS: Duration = Duration::from_millis(1500);
const HANDLERS: usize = 64;
const ABORT_EVERY: Duration = Duration::from_micros(300);
const MESSAGES: u64 = 32;
const BYTES: usize = 4096;

/// What the handlers and the consumer counted themselves, in messages.
#[derive(Debug, Default)]
struct Counted {
    sent: AtomicU64,
    full: AtomicU64,
    aborted: AtomicU64,
    closed: AtomicU64,
    done: AtomicU64,
    let_go: AtomicU64,
}

/// Mostly small; now and then heavier than the whole buffer, in either dimension.
fn item(random: &mut XorShift) -> Item {
    Item {
        name: 0,
        messages: random.up_to(6).pow(2) as u64,
        bytes: random.up_to(9).pow(4).saturating_sub(random.up_to(3000)),
    }
}

fn handler(conn: &mut Connection, out: &Sender<Item>, counted: &Counted) -> Result<(), BoxError> {
    let mut random = XorShift::new(conn.id());
    while !conn.is_draining() {
        let item = item(&mut random);
        let outcome = match out.send(item) {
            Ok(()) => &counted.sent,
            Err(SendError::Full(back)) => {
                assert_eq!(back, item);
                &counted.full
            }
            Err(SendError::TooHeavy(error)) => {
                assert_eq!(error.item, item);
                &counted.full
            }
            Err(SendError::Aborted(_)) => &counted.aborted,
            Err(SendError::Closed(_)) => &counted.closed,
            Err(other) => panic!("{other:?}"),
        };
        outcome.fetch_add(item.messages, Relaxed);
    }
    Ok(())
}

/// Holds items undone as long as it may, is slow now and then, and lets go of one in sixteen.
fn consumer(receiver: &mut Receiver<Item>, counted: &Counted) -> Result<(), BoxError> {
    let mut random = XorShift::new(7);
    let mut held = Vec::new();
    loop {
        let received = receiver.recv(Duration::from_secs(1));
        let is_closed = matches!(received, Received::Closed);
        if let Received::Message(delivery) = received {
            held.push(delivery);
            if random.up_to(4) > 1 {
                continue;
            }
        }
        for mut delivery in held.drain(..) {
            let first = delivery.remaining().min(random.up_to(3) as u64);
            delivery.ack_first(first);
            counted.done.fetch_add(first, Relaxed);
            if random.up_to(16) == 1 {
                counted.let_go.fetch_add(delivery.remaining(), Relaxed);
            } else {
                counted.done.fetch_add(delivery.remaining(), Relaxed);
                let _ = delivery.ack();
            }
        }
        if random.up_to(64) == 1 {
            let stumble = Duration::from_micros(random.up_to(3000) as u64);
            thread::sleep(stumble);
        }
        if is_closed {
            return Ok(());
        }
    }
}

/// Keeps as many connections as are served at once; nobody reads from or writes to one.
fn keep_connected(server: &Server, is_over: &AtomicBool) {
    let _over = Over(is_over);
    while !is_over.load(Relaxed) {
        if server.stats().open < HANDLERS as u64 {
            client::reset(client::connect(server.local_addrs()[0]));
        } else {
            thread::sleep(ABORT_EVERY);
        }
    }
}

fn abort_now_and_then(server: &Server, is_over: &AtomicBool) {
    let _over = Over(is_over);
    let mut random = XorShift::new(42);
    while !is_over.load(Relaxed) {
        let open = server.connections();
        if !open.is_empty() {
            server.abort(open[random.up_to(open.len()) - 1].id);
        }
        thread::sleep(ABORT_EVERY);
    }
}

/// Returns how many readings it took.
fn read_all_along(server: &Server, is_over: &AtomicBool) -> u64 {
    let _over = Over(is_over);
    let mut readings = 0;
    while !is_over.load(Relaxed) {
        let stats = server.stats();
        assert!(stats.is_balanced(), "{stats:?}");
        let bound_holds =
            stats.buffered.messages <= MESSAGES && stats.buffered.bytes <= BYTES as u64;
        assert!(bound_holds, "{stats:?}");
        assert!(stats.senders_waiting <= HANDLERS, "{stats:?}");
        readings += 1;
        thread::yield_now();
    }
    readings
}

/// Sets its flag when the thread that holds it ends, by a panic too, so that the others end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

fn stress(when_full: WhenFull, send_timeout: Duration) -> (Report, Arc<Counted>) {
    let mut config = small::config();
    config.max_connections = Some(HANDLERS);
    config.buffer_messages = MESSAGES as usize;
    config.buffer_bytes = BYTES;
    config.when_full = when_full;
    config.send_timeout = send_timeout;
    config.pause_after = PauseAfter::Off;
    let counted = Arc::new(Counted::default());
    let (for_handlers, for_consumer) = (Arc::clone(&counted), Arc::clone(&counted));
    let server = small::server::<Item>()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(
            move |conn, out| handler(conn, out, &for_handlers),
            move |receiver| consumer(receiver, &for_consumer),
        )
        .unwrap();
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| keep_connected(&server, &is_over));
        scope.spawn(|| abort_now_and_then(&server, &is_over));
        let reader = scope.spawn(|| read_all_along(&server, &is_over));
        try_wait_for(LASTS, || is_over.load(Relaxed).then_some(()));
        is_over.store(true, Relaxed);
        assert!(reader.join().unwrap() > 0);
    });
    let report = server.shutdown(DEADLINE);
    assert_exact(&report, &counted);
    (report, counted)
}

#[track_caller]
fn assert_exact(report: &Report, counted: &Counted) {
    let stats = &report.stats;
    let seen = format!("{counted:?} {report:?}");
    assert!(stats.is_balanced(), "{seen}");
    assert!(!report.timed_out && report.error.is_none(), "{seen}");
    // Nobody was left in line, nothing in the buffer, no thread unjoined.
    assert_eq!((stats.senders_waiting, stats.in_flight), (0, 0), "{seen}");
    assert_eq!(stats.buffered, Default::default(), "{seen}");
    assert_eq!((stats.open, report.stuck.len()), (0, 0), "{seen}");
    assert_eq!(stats.threads, 0, "{seen}");
    assert!(stats.threads_peak <= 5 + HANDLERS, "{seen}");

    let sent = counted.sent.load(Relaxed);
    let (full, aborted) = (counted.full.load(Relaxed), counted.aborted.load(Relaxed));
    let (done, let_go) = (counted.done.load(Relaxed), counted.let_go.load(Relaxed));
    let dropped = |reason| stats.dropped.get(reason);
    assert_eq!(stats.received, sent + full + aborted, "{seen}");
    assert_eq!(sent, done + let_go, "{seen}");
    assert_eq!(stats.delivered, done, "{seen}");
    assert_eq!(dropped(DropReason::SinkFailed), let_go, "{seen}");
    assert_eq!(dropped(DropReason::ConnectionClosed), aborted, "{seen}");
    assert_eq!(
        dropped(DropReason::Full) + dropped(DropReason::Oversize),
        full,
        "{seen}"
    );
    // A wake-up that was lost would show here: the drain ends such a wait at three quarters of its
    // time.
    assert_eq!(counted.closed.load(Relaxed), 0, "{seen}");
    assert!(sent > 0 && let_go > 0 && aborted > 0, "{seen}");
}

#[test]
fn stress_abort() {
    for send_timeout in [1, 2] {
        let (report, _) = stress(WhenFull::Abort, Duration::from_millis(send_timeout));
        assert!(report.stats.ended.get(EndReason::SendTimeout) > 0);
        assert_eq!(report.stats.dropped.get(DropReason::Full), 0);
    }
}

#[test]
fn stress_drop() {
    let (report, _) = stress(WhenFull::Drop, Duration::from_millis(1));
    assert!(report.stats.dropped.get(DropReason::Full) > 0);
    assert_eq!(report.stats.ended.get(EndReason::SendTimeout), 0);
}

#[test]
fn stress_wait() {
    let (report, _) = stress(WhenFull::Block, Duration::from_millis(1));
    assert_eq!(report.stats.dropped.get(DropReason::Full), 0);
    assert_eq!(report.stats.ended.get(EndReason::SendTimeout), 0);
    assert!(report.stats.ended.get(EndReason::Aborted) > 0);
}
