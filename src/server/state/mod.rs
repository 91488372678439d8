//! What the server's threads share: the parts, and the few things that touch several of them.

pub(crate) mod accept_queue;
pub(crate) mod accepting;
pub(crate) mod admission;
pub(crate) mod connection_state;
pub(crate) mod consumer_state;
pub(crate) mod crowd_lock;
pub(crate) mod exits;
pub(crate) mod handler_thread;
pub(crate) mod lifecycle;
pub(crate) mod listener;
pub(crate) mod logger;
pub(crate) mod promise;
pub(crate) mod quota;
pub(crate) mod running_clock;
pub(crate) mod table;
pub(crate) mod tick_time;
pub(crate) mod waker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::Level;
use parking_lot::Mutex;
use rustix::process::Pid;

use crate::policy::OverloadLevel;
use crate::server::config::Config;
use crate::server::error::ServerError;
use crate::server::ledger::{DropReason, EndReason, Spans};
use crate::server::limits::ResourceLimits;
use crate::server::report::{ConsumerInfo, Stats};
use accepting::Accepting;
use admission::Admission;
use consumer_state::ConsumerState;
use exits::Exits;
use lifecycle::Lifecycle;
use logger::Logger;
use promise::Promise;
use quota::Quota;
use table::Table;
use tick_time::TickTime;

/// The work of a thread, and how it is given one: [`Builder::spawner`](crate::server::Builder::spawner).
pub type ThreadBody = Box<dyn FnOnce() + Send + 'static>;
pub(crate) type Spawner =
    Box<dyn Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>> + Send + Sync>;

/// What the reaper is told.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReaperEvent {
    /// The handler's thread of this number is past its last line.
    HandlerEnding {
        number: u64,
        /// As the kernel numbers it.
        thread: Pid,
    },
    /// The server is over.
    ServerOver,
}

/// What the watchdog last saw.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OverloadSnapshot {
    pub(crate) level: OverloadLevel,
    pub(crate) is_paused: bool,
    pub(crate) seconds: Spans<OverloadLevel>,
    pub(crate) longest_wait: Duration,
    pub(crate) consumer_busy_for: Duration,
}

pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) limits: ResourceLimits,
    /// Given back when all of it has ended; what never ends keeps it.
    pub(in crate::server) promise: Mutex<Option<Promise>>,
    pub(crate) started: Instant,
    pub(crate) tick_time: TickTime,
    /// Threads of the server that are not handlers: they live as long as it does.
    pub(crate) fixed_threads: usize,
    pub(crate) admission: Arc<Admission>,
    pub(crate) accepting: Accepting,
    pub(crate) table: Table,
    pub(crate) quota: Arc<Quota>,
    pub(crate) consumer: Arc<ConsumerState>,
    pub(crate) exits: Arc<Exits>,
    pub(crate) reaper: Sender<ReaperEvent>,
    pub(crate) snapshot: Mutex<OverloadSnapshot>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) logger: Logger,
    pub(crate) spawner: Spawner,
}

impl Shared {
    /// Time since the server started, for the model.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Starts a drain, or brings its deadline nearer: listeners stop, handlers are told, reads end.
    /// Returns at once. Within zero everything is cut at once.
    pub(crate) fn drain(&self, within: Duration) {
        let first = self.lifecycle.begin_drain(within);
        if within.is_zero() {
            self.time_out_consumer();
        }
        if first {
            self.logger
                .log(Level::Info, format!("draining, for at most {within:?}"));
            self.accepting.drain(self.now());
            // Whoever is in the kernel's queue is still served, unless nothing is taken in any more.
            self.table.begin_drain();
            if self.lifecycle.error().is_some() {
                self.table.close();
            }
            self.table.for_each(|state| state.drain());
        }
        self.admission.close();
    }

    /// Handlers had their share of the drain: nothing more is taken in, and their sockets are cut. One
    /// that is in code of its own is left where it is; it keeps its permit, and the report names it.
    pub(crate) fn disconnect_handlers(&self) {
        if self.table.close() {
            // Acceptors may wait for permits.
            self.admission.wake();
        }
        self.quota.close(DropReason::Shutdown);
        let states = self.table.states();
        if !states.is_empty() {
            self.lifecycle.record_missed_deadline();
        }
        self.quota.abort_all(&states, EndReason::Shutdown);
        for state in states {
            state.disconnect();
        }
    }

    /// The last deadline has passed: the receiver is closed with whatever is in it.
    pub(crate) fn time_out_consumer(&self) {
        self.disconnect_handlers();
        if self.quota.counts().in_flight > 0 {
            self.lifecycle.record_missed_deadline();
        }
        self.quota.time_out();
    }

    /// The server cannot go on: it drains, and says why.
    pub(crate) fn fail(&self, error: ServerError) {
        self.logger.log(Level::Error, error.to_string());
        self.lifecycle.fail(error);
        self.drain(self.config.drain_timeout);
    }

    pub(crate) fn stats(&self) -> Stats {
        let connections = self.table.counts();
        let messages = self.quota.counts();
        let snapshot = *self.snapshot.lock();
        let (not_accepting, not_accepting_seconds) = self.accepting.read(self.now());
        Stats {
            received: messages.received,
            delivered: messages.delivered,
            dropped: messages.dropped,
            in_flight: messages.in_flight,
            buffered: messages.used,
            senders_waiting: messages.waiting,
            longest_wait: snapshot.longest_wait,
            accepted: connections.accepted,
            open: connections.open,
            rejected: connections.rejected,
            ended: connections.ended,
            unread_bytes: connections.unread_ended.total() + connections.unread_rejected.total(),
            unread_ended: connections.unread_ended,
            unread_rejected: connections.unread_rejected,
            accepts_starved: connections.starved,
            threads: self.fixed_threads + connections.unjoined,
            threads_peak: self.fixed_threads + connections.unjoined_peak,
            overload: snapshot.level,
            is_paused: snapshot.is_paused,
            not_accepting,
            not_accepting_seconds,
            overload_seconds: snapshot.seconds,
            consumer: ConsumerInfo {
                name: self.consumer.name(),
                busy_for: snapshot.consumer_busy_for,
            },
            log_lines_lost: self.logger.lost(),
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
