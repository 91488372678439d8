//! What the server's threads share: one file for each part of the state, and in this file the few
//! operations that touch several parts.

pub(crate) mod accept_queue;
pub(crate) mod accepting;
pub(crate) mod admission;
pub(crate) mod busy_polling;
pub(crate) mod connection_state;
pub(crate) mod consumer_state;
pub(crate) mod crowd_lock;
pub(crate) mod exits;
pub(crate) mod handler_thread;
pub(crate) mod leave;
pub(crate) mod lifecycle;
pub(crate) mod listener;
pub(crate) mod listener_state;
pub(crate) mod logger;
pub(crate) mod promise;
pub(crate) mod quota;
pub(crate) mod running_clock;
pub(crate) mod socket_file;
pub(crate) mod table;
pub(crate) mod tick_time;
pub(crate) mod turns;
pub(crate) mod unix_queue;
pub(crate) mod waker;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Sender;
use log::Level;
use parking_lot::Mutex;
use rustix::process::Pid;

use crate::policy::OverloadLevel;
use crate::server::config::Config;
use crate::server::error::{ServerError, drop_caught};
use crate::server::ledger::{Bytes, DropReason, EndReason, RejectReason, Spans, counted};
use crate::server::limits::ResourceLimits;
use crate::server::report::{ConsumerInfo, ListenerStats, Stats};
use accepting::Accepting;
use admission::Admission;
use busy_polling::BusyPolling;
use connection_state::ConnectionState;
use consumer_state::ConsumerState;
use exits::Exits;
use lifecycle::Lifecycle;
use listener_state::ListenerState;
use logger::Logger;
use promise::Promise;
use quota::Quota;
use table::Table;
use tick_time::TickTime;

/// The body of a thread, which a [spawner](crate::server::Builder::spawner) is asked to run.
pub type ThreadBody = Box<dyn FnOnce() + Send + 'static>;
pub(crate) type Spawner =
    Box<dyn Fn(std::thread::Builder, ThreadBody) -> io::Result<JoinHandle<()>> + Send + Sync>;

/// What wakes the reaper.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReaperEvent {
    /// A handler's thread has run its last line: the thread can be joined.
    HandlerEnding {
        number: u64,
        /// The kernel's id of the thread (gettid(2)).
        thread: Pid,
    },
    /// No handler's thread is left, and the reaper ends.
    ServerOver,
}

/// How loaded the server was at the watchdog's last tick.
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
    /// By the index of the listener.
    pub(crate) listeners: Vec<ListenerState>,
    /// Dropped when every thread of the server has ended. A server that leaves a thread behind
    /// keeps the promise for as long as the process lives.
    pub(in crate::server) promise: Mutex<Option<Promise>>,
    pub(crate) started: Instant,
    pub(crate) tick_time: TickTime,
    /// Ticks of the watchdog that are over.
    pub(crate) ticks: AtomicU64,
    /// The number of threads that are not handlers' and live as long as the server.
    pub(crate) fixed_threads: usize,
    pub(crate) admission: Arc<Admission>,
    pub(crate) accepting: Accepting,
    pub(crate) table: Arc<Table>,
    pub(crate) busy_polling: BusyPolling,
    pub(crate) quota: Arc<Quota>,
    pub(crate) consumer: Arc<ConsumerState>,
    pub(crate) exits: Arc<Exits>,
    pub(crate) reaper: Sender<ReaperEvent>,
    pub(crate) snapshot: Mutex<OverloadSnapshot>,
    pub(crate) lifecycle: Lifecycle,
    pub(crate) logger: Logger,
    /// `None`: std spawns handlers' threads.
    pub(crate) spawner: Option<Spawner>,
}

impl Shared {
    /// Time since the server started: the clock that the policy is given.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// The listener that accepted a connection.
    pub(crate) fn listener_of(&self, connection: &ConnectionState) -> &ListenerState {
        &self.listeners[connection.listener.index()]
    }

    /// Tells the reaper of a thread that has run its last line and whose JoinHandle is in the
    /// table.
    pub(crate) fn tell_reaper(&self, number: u64, thread: Pid) {
        // The channel has a slot for each permit, and the thread has a permit: never full.
        let event = ReaperEvent::HandlerEnding { number, thread };
        let _ = self.reaper.try_send(event);
    }

    /// The system has refused a thread, or its body was dropped. Acceptors are woken: one of them
    /// has to try again.
    pub(crate) fn thread_refused(&self, number: u64) {
        if let Some(pid) = self.table.refused(number) {
            self.tell_reaper(number, pid);
        }
        self.admission.wake();
    }

    /// Starts a drain, or brings its deadline nearer: listeners stop, handlers are told, reads end.
    /// Returns at once. A drain `within` zero disconnects everybody before it returns.
    pub(crate) fn drain(&self, within: Duration) {
        let first = self.lifecycle.begin_drain(within);
        let last_deadline = self.lifecycle.last_deadline();
        self.quota.set_last_deadline(last_deadline);
        if within.is_zero() {
            self.time_out_consumer();
        }
        if first {
            self.logger
                .log(Level::Info, format!("draining for at most {within:?}"));
            self.accepting.drain(self.now());
            self.quota.begin_drain();
            // Clients in the kernel's queue are still served, unless an error ends the server: what
            // they send would be dropped.
            self.table.begin_drain();
            let has_failed = self.lifecycle.error().is_some();
            if has_failed {
                self.close_table();
            }
            let may_leave = !has_failed && !within.is_zero();
            self.table.for_each(|state| {
                if has_failed {
                    state.end_opening();
                }
                // Told before it is read from no more: in between, a peer that looks before it
                // writes ends its stream, and what is on its way still arrives.
                if !(may_leave && state.take_leave()) {
                    state.drain();
                }
            });
            self.lifecycle.set_told();
        } else if self.lifecycle.error().is_some() {
            self.table.for_each(|state| state.drain());
        }
        self.admission.close();
    }

    /// Ends the reading from peers that were told that the server leaves, and have had their moment
    /// to end their streams. Called with each tick of a drain.
    pub(crate) fn end_leaves(&self) {
        let moment = self.lifecycle.leave();
        self.table.for_each(|state| {
            if !state.is_read_on(moment) {
                state.end_leave();
            }
        });
    }

    /// The handlers' share of the drain is over: nobody is admitted any more, sends are refused,
    /// and sockets are shut down. A handler that does not return keeps its permit, and the report
    /// names its connection.
    pub(crate) fn disconnect_handlers(&self) {
        self.close_table();
        // Looked up first: a handler whose send ends here may return at once.
        let states = self.table.states();
        // Who is still opening has sent nothing that could be lost.
        if states.iter().any(|state| !state.is_opening()) {
            self.lifecycle.record_missed_deadline();
        }
        self.quota.close(DropReason::Shutdown);
        self.quota.abort_all(&states, EndReason::Shutdown);
        for state in states {
            state.disconnect();
        }
    }

    /// Admits nobody any more, and rejects the clients that wait for threads.
    fn close_table(&self) {
        let Some(rejected) = self.table.close() else {
            return;
        };
        if !rejected.is_empty() {
            if self.lifecycle.error().is_none() {
                self.lifecycle.record_missed_deadline();
            }
            let clients = counted(rejected.len() as u64, "client");
            let reason = RejectReason::Shutdown;
            let text = format!("rejected {clients} that waited for a thread: {reason}");
            self.logger.log(Level::Warn, text);
        }
        rejected.into_iter().for_each(drop_caught);
        // Acceptors may be waiting for permits.
        self.admission.wake();
        self.lifecycle.handler_joined();
    }

    /// The drain's last deadline has passed: the receiver is closed, and what is still buffered is
    /// dropped.
    pub(crate) fn time_out_consumer(&self) {
        self.disconnect_handlers();
        if self.quota.counts().in_flight > 0 {
            self.lifecycle.record_missed_deadline();
        }
        self.quota.time_out();
    }

    /// Drains the server because of an error, which is logged and reported. The first error is
    /// kept.
    pub(crate) fn fail(&self, error: ServerError) {
        self.logger.log(Level::Error, error.to_string());
        self.lifecycle.fail(error);
        self.drain(self.config.drain_timeout);
    }

    pub(crate) fn stats(&self) -> Stats {
        let (table, connection_rows) = self.table.read();
        let connections = table.connections;
        let (messages, message_rows) = self.quota.read();
        let snapshot = *self.snapshot.lock();
        let (accepting, accepting_rows) = self.accepting.read(self.now());
        let (not_accepting, not_accepting_seconds) = accepting;
        let rows = connection_rows.iter().zip(message_rows).zip(accepting_rows);
        let listeners = self.listeners.iter().zip(rows).map(
            |(listener, ((connections, messages), (not_accepting, not_accepting_seconds)))| {
                ListenerStats {
                    name: listener.name.shared(),
                    address: listener.address.clone(),
                    received: messages.received,
                    delivered: messages.delivered,
                    dropped: messages.dropped,
                    in_flight: messages.in_flight,
                    starting: connections.starting,
                    accepted: connections.accepted,
                    open: connections.open,
                    rejected: connections.rejected,
                    ended: connections.ended,
                    unread_ended: connections.unread_ended,
                    unread_rejected: connections.unread_rejected,
                    bytes: Bytes::default(),
                    not_accepting,
                    not_accepting_seconds,
                }
            },
        );
        Stats {
            received: messages.received,
            delivered: messages.delivered,
            dropped: messages.dropped,
            in_flight: messages.in_flight,
            buffered: messages.used,
            senders_waiting: messages.waiting,
            longest_wait: snapshot.longest_wait,
            starting: connections.starting,
            accepted: connections.accepted,
            open: connections.open,
            rejected: connections.rejected,
            ended: connections.ended,
            unread_bytes: connections.unread_ended.total() + connections.unread_rejected.total(),
            unread_ended: connections.unread_ended,
            unread_rejected: connections.unread_rejected,
            accept_failures: table.accept_failures,
            threads: self.fixed_threads + table.unjoined,
            threads_peak: self.fixed_threads + table.unjoined_peak,
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
            listeners: listeners.collect(),
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
