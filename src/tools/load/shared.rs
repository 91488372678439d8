//! What the workers of a load share.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::counts::Counts;
use super::message::Source;
use super::plan::Plan;

pub(super) struct Shared<'a> {
    pub(super) plan: &'a Plan,
    pub(super) source: Source,
    stop: [&'a AtomicBool; 2],
    /// The server has taken nothing for too long.
    is_timed_out: AtomicBool,
    numbers: AtomicU32,
    is_reachable: AtomicBool,
    barrier: Mutex<Barrier>,
    opened: Condvar,
    pub(super) live: Vec<Live>,
}

/// What each worker waits at when it has connected, so that the clock runs for all alike.
struct Barrier {
    absent: usize,
    /// When all were there; `None` inside: nobody had a connection.
    opened: Option<Option<Instant>>,
}

/// What one worker tells while it works.
#[derive(Debug, Default)]
pub(super) struct Live {
    messages: AtomicU64,
    bytes: AtomicU64,
    through: AtomicU64,
    /// Closes by the server.
    closes: AtomicU64,
    holds: AtomicBool,
}

/// How far a load is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Connections that have sent all.
    pub(crate) through: u64,
    /// When the first connections stood.
    pub(crate) start: Option<Instant>,
    /// All is sent, and the connections are held.
    pub(crate) holds: bool,
    /// How long nothing has been taken, and no connection closed by the server, while something is
    /// to be sent or awaited.
    pub(crate) still: Duration,
}

impl<'a> Shared<'a> {
    pub(super) fn new(plan: &'a Plan, stop: [&'a AtomicBool; 2]) -> Shared<'a> {
        Shared {
            plan,
            source: Source::new(plan),
            stop,
            is_timed_out: AtomicBool::new(false),
            numbers: AtomicU32::new(0),
            is_reachable: AtomicBool::new(false),
            barrier: Mutex::new(Barrier {
                absent: plan.threads,
                opened: None,
            }),
            opened: Condvar::new(),
            live: (0..plan.threads).map(|_| Live::default()).collect(),
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.is_timed_out() || self.stop.iter().any(|stop| stop.load(Relaxed))
    }

    pub(super) fn time_out(&self) {
        self.is_timed_out.store(true, Relaxed);
    }

    pub(super) fn is_timed_out(&self) -> bool {
        self.is_timed_out.load(Relaxed)
    }

    pub(super) fn somebody_connected(&self) {
        self.is_reachable.store(true, Relaxed);
    }

    /// Of a connection that is about to send. One that sent nothing has none, so that a reader of
    /// what arrived misses none.
    pub(super) fn next_number(&self) -> u32 {
        self.numbers.fetch_add(1, Relaxed)
    }

    /// Blocks until each worker has called it, or is [absent](Shared::absent): all do when they
    /// have connected. Says when that was; or `None`: nobody could.
    pub(super) fn begin(&self) -> Option<Instant> {
        self.absent();
        let mut barrier = self.barrier.lock();
        loop {
            match barrier.opened {
                Some(start) => return start,
                None => self.opened.wait(&mut barrier),
            }
        }
    }

    /// One worker fewer is waited for.
    pub(super) fn absent(&self) {
        let mut barrier = self.barrier.lock();
        barrier.absent -= 1;
        if barrier.absent == 0 {
            let anybody = self.is_reachable.load(Relaxed);
            barrier.opened = Some(anybody.then(Instant::now));
            self.opened.notify_all();
        }
    }

    pub(super) fn hold(&self, worker: usize) {
        self.live[worker].holds.store(true, Relaxed);
    }

    /// Grows whenever the server has done something for the load.
    pub(super) fn moves(&self) -> u64 {
        let count = |live: &Live| live.bytes.load(Relaxed) + live.closes.load(Relaxed);
        self.live.iter().map(count).sum()
    }

    pub(super) fn progress(&self) -> Progress {
        let sum = |count: fn(&Live) -> &AtomicU64| {
            self.live.iter().map(|live| count(live).load(Relaxed)).sum()
        };
        Progress {
            messages: sum(|live| &live.messages),
            bytes: sum(|live| &live.bytes),
            through: sum(|live| &live.through),
            start: self.barrier.lock().opened.flatten(),
            holds: self.live.iter().all(|live| live.holds.load(Relaxed)),
            still: Duration::ZERO,
        }
    }
}

impl Live {
    pub(super) fn publish(&self, counts: &Counts, through: usize) {
        self.messages.store(counts.messages, Relaxed);
        self.bytes.store(counts.bytes, Relaxed);
        self.through.store(through as u64, Relaxed);
    }

    pub(super) fn was_closed(&self) {
        self.closes.fetch_add(1, Relaxed);
    }
}
