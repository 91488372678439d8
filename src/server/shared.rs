//! What the server's threads share: the parts, and the few things that touch several of them.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::Level;
use parking_lot::Mutex;
use rustix::process::Pid;

use super::accepting::Accepting;
use super::budget::Budget;
use super::config::Config;
use super::error::ServerError;
use super::exits::Exits;
use super::gate::Gate;
use super::journal::Journal;
use super::ledger::{DropReason, EndReason};
use super::lifecycle::Lifecycle;
use super::limits::{Bound, Promise};
use super::pulse::ConsumerPulse;
use super::report::{ConsumerInfo, Stats};
use super::table::Table;
use crate::model::Rung;

/// The work of a thread, and how it is given one: [`Builder::spawner`](super::Builder::spawner).
pub type ThreadBody = Box<dyn FnOnce() + Send + 'static>;
pub(super) type Spawner =
    Box<dyn Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>> + Send + Sync>;

/// What the reaper is told.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ending {
    /// The handler's thread of this number is past its last line.
    Handler {
        number: u64,
        /// As the kernel numbers it.
        thread: Pid,
    },
    /// The server is over.
    Server,
}

/// What the watchdog last saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) rung: Rung,
    pub(super) is_paused: bool,
    pub(super) seconds_in: [Duration; 4],
    pub(super) longest_wait: Duration,
    pub(super) consumer_busy_for: Duration,
}

pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) bound: Bound,
    /// Given back when all of it has ended; what never ends keeps it.
    pub(super) promise: Mutex<Option<Promise>>,
    pub(super) started: Instant,
    /// Threads of the server that are not handlers: they live as long as it does.
    pub(super) fixed_threads: usize,
    pub(super) gate: Arc<Gate>,
    pub(super) accepting: Accepting,
    pub(super) table: Table,
    pub(super) budget: Arc<Budget>,
    pub(super) consumer: Arc<ConsumerPulse>,
    pub(super) exits: Arc<Exits>,
    pub(super) reaper: Sender<Ending>,
    pub(super) standing: Mutex<Standing>,
    pub(super) lifecycle: Lifecycle,
    pub(super) journal: Journal,
    pub(super) spawner: Spawner,
}

impl Shared {
    /// Time since the server started, for the model.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts a drain, or brings its deadline nearer: listeners stop, handlers are told, reads end.
    /// Returns at once. Within zero everything is cut at once.
    pub(super) fn drain(&self, within: Duration) {
        let first = self.lifecycle.begin_drain(within);
        if within.is_zero() {
            self.cut_consumer();
        }
        if first {
            self.journal
                .say(Level::Info, format!("draining, for at most {within:?}"));
            self.accepting.drain(self.now());
            // Whoever is in the kernel's queue is still served, unless nothing is taken in any more.
            self.table.begin_drain();
            if self.lifecycle.error().is_some() {
                self.table.close();
            }
            self.table.for_each(|record| record.drain());
        }
        self.gate.close();
    }

    /// Handlers had their share of the drain: nothing more is taken in, and their sockets are cut. One
    /// that is in code of its own is left where it is; it keeps its permit, and the report names it.
    pub(super) fn cut_handlers(&self) {
        if self.table.close() {
            // Acceptors may wait for permits.
            self.gate.ring();
        }
        self.budget.close(DropReason::Shutdown);
        let records = self.table.records();
        if !records.is_empty() {
            self.lifecycle.miss();
        }
        self.budget.abort_all(&records, EndReason::Shutdown);
        for record in records {
            record.cut();
        }
    }

    /// The last deadline has passed: the inbox is closed with whatever is in it.
    pub(super) fn cut_consumer(&self) {
        self.cut_handlers();
        if self.budget.counts().in_flight > 0 {
            self.lifecycle.miss();
        }
        self.budget.cut();
    }

    /// The server cannot go on: it drains, and says why.
    pub(super) fn fail(&self, error: ServerError) {
        self.journal.say(Level::Error, error.to_string());
        self.lifecycle.fail(error);
        self.drain(self.config.drain_timeout);
    }

    pub(super) fn stats(&self) -> Stats {
        let traffic = self.table.traffic();
        let counts = self.budget.counts();
        let standing = *self.standing.lock();
        let (not_accepting, not_accepting_seconds) = self.accepting.read(self.now());
        Stats {
            received: counts.received,
            delivered: counts.delivered,
            dropped: counts.dropped,
            in_flight: counts.in_flight,
            buffered: counts.used,
            senders_waiting: counts.waiting,
            longest_wait: standing.longest_wait,
            accepted: traffic.accepted,
            open: traffic.open,
            rejected: traffic.rejected,
            ended: traffic.ended,
            unread_bytes: traffic.unread_ended.total() + traffic.unread_rejected.total(),
            unread_ended: traffic.unread_ended,
            unread_rejected: traffic.unread_rejected,
            accepts_starved: traffic.starved,
            threads: self.fixed_threads + traffic.unjoined,
            threads_peak: self.fixed_threads + traffic.unjoined_peak,
            rung: standing.rung,
            is_paused: standing.is_paused,
            not_accepting,
            not_accepting_seconds,
            seconds_in: standing.seconds_in,
            consumer: ConsumerInfo {
                name: self.consumer.name(),
                busy_for: standing.consumer_busy_for,
            },
            log_lines_lost: self.journal.lost(),
            uptime: self.started.elapsed(),
        }
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
