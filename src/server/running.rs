//! The running server, from outside: what it does, and how it ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

use super::ledger::EndReason;
use super::limits::Bound;
use super::report::{ConnectionInfo, Report, Stats};
use super::state::logger::Journal;
use super::state::{Ending, Shared};

/// What the last deadline's cut may take to be felt by threads that were waiting.
const GRACE: Duration = Duration::from_millis(250);
/// What an end may take in all after its deadline, and so a drop: once and again a grace, and what is left
/// of it for the journal to say its last lines.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// What becomes of handlers' threads that are past their handlers.
#[derive(Clone, Copy, Debug)]
enum Remaining {
    AreJoined,
    EndWithProcess,
}

/// Every thread of the server that is not a handler, with what ends it. Dropped before it is concluded it
/// cuts everything, so that a start that fails halfway leaves nothing running.
pub(super) struct Threads {
    shared: Arc<Shared>,
    /// Books what the consumer never took.
    drop_rest: Box<dyn Fn() + Send>,
    over: Arc<AtomicBool>,
    pub(super) acceptors: Vec<JoinHandle<()>>,
    pub(super) consumer: Option<JoinHandle<()>>,
    pub(super) reaper: Option<JoinHandle<()>>,
    pub(super) watchdog: Option<JoinHandle<()>>,
    pub(super) journal: Option<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn new(shared: Arc<Shared>, drop_rest: Box<dyn Fn() + Send>) -> Self {
        Threads {
            shared,
            drop_rest,
            over: Arc::new(AtomicBool::new(false)),
            acceptors: Vec::new(),
            consumer: None,
            reaper: None,
            watchdog: None,
            journal: None,
        }
    }

    pub(super) fn is_over(&self) -> impl Fn() -> bool + Send + 'static {
        let over = Arc::clone(&self.over);
        move || over.load(Ordering::Acquire)
    }

    /// Everything that ends has ended, or the deadline has passed: joins what can be joined and closes the
    /// books. The order: acceptors and consumer (ended by the drain), reaper, watchdog, and last whoever
    /// tells of it.
    fn conclude(&mut self, ended_in_time: bool, of_threads: Remaining) -> Report {
        let shared = Arc::clone(&self.shared);
        if !ended_in_time {
            shared.cut_consumer();
            shared.lifecycle.miss();
        }
        (self.drop_rest)();
        // Whoever waited until the deadline and a grace has spent the first one.
        let begun = Instant::now();
        let until = begun + GRACE;
        let mut left = 0;
        for thread in self.acceptors.drain(..).chain(self.consumer.take()) {
            left += join_until(thread, until);
        }
        let stuck = match of_threads {
            Remaining::AreJoined => shared.table.connections(),
            Remaining::EndWithProcess => shared.table.open_connections(),
        };
        // The reaper may sit in a join that a handler's thread_local holds up; then it is left there.
        let _ = shared.reaper.try_send(Ending::Server);
        left += self
            .reaper
            .take()
            .map_or(0, |reaper| join_until(reaper, until));
        self.over.store(true, Ordering::Release);
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.thread().unpark();
            let _ = watchdog.join();
        }
        if left == 0 && shared.table.is_empty() {
            shared.promise.lock().take();
        }
        let mut stats = shared.stats();
        stats.threads = stats.threads - shared.fixed_threads + left;
        let (error, timed_out) = (shared.lifecycle.error(), shared.lifecycle.has_missed());
        let report = Report {
            stats,
            error,
            timed_out,
            stuck,
        };
        for connection in &report.stuck {
            shared.journal.say_once("left behind", Level::Error, || {
                format!("left behind in its handler's own code: connection {connection}")
            });
        }
        shared.journal.close();
        if let Some(journal) = self.journal.take() {
            join_until(journal, begun + (LAST_SECOND - GRACE));
        }
        report
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Acquire) {
            self.shared.drain(Duration::ZERO);
            self.shared.exits.open();
            self.conclude(false, Remaining::AreJoined);
        }
    }
}

/// Joins a thread that ends within the time; leaves it otherwise. Returns how many it left.
fn join_until(thread: JoinHandle<()>, until: Instant) -> usize {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = thread.join();
    0
}

enum State {
    Running(Threads),
    Over(Box<Report>),
}

/// A running server.
///
/// # Close semantics
/// [`shutdown`](Handle::shutdown) and [`drain`](Handle::drain) end it in good order: listeners stop, what
/// the kernel holds for each connection is read and whole messages are sent, the consumer takes what is in
/// the buffer. Handlers have three quarters of the time, the consumer the rest; then everything that waits
/// is cut, and what is left is booked as dropped.
///
/// **Dropping** the handle is a shutdown within zero: sockets are cut, the rest is booked, one warning is
/// logged. It blocks for at most a second. A handler or a consumer that is in code of its own is left
/// there: Rust cannot end a thread.
pub struct Handle {
    addresses: Vec<SocketAddr>,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
}

impl Handle {
    pub(super) fn new(addresses: Vec<SocketAddr>, threads: Threads) -> Self {
        Handle {
            addresses,
            shared: Arc::clone(&threads.shared),
            state: Mutex::new(State::Running(threads)),
        }
    }

    /// Where it listens, in the order in which the listeners were added.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it needs at most, as computed at start.
    pub fn bound(&self) -> Bound {
        self.shared.bound.clone()
    }

    /// The ledger now, or at the end once [`wait`](Handle::wait) has returned. Takes two short locks, and walks
    /// the open connections.
    pub fn stats(&self) -> Stats {
        // Whoever concludes holds the lock for as long as that takes; the ledger is there all the same.
        match self.state.try_lock().as_deref() {
            Some(State::Over(report)) => report.stats.clone(),
            _ => self.shared.stats(),
        }
    }

    /// Every open connection, in the order in which they came.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.table.connections()
    }

    /// Ends one connection now, whatever its handler waits in: its reads, writes and sends fail, what it
    /// has in a waiting send is booked as aborted. `false`: there is no such connection, or it was ended
    /// already. Does not wait for its handler.
    pub fn abort(&self, id: u64) -> bool {
        let Some(record) = self.shared.table.find(id) else {
            return false;
        };
        let first = self.shared.budget.abort(&record, EndReason::Aborted);
        record.cut();
        first
    }

    /// The server's log, for lines that must not block whoever says them.
    pub fn journal(&self) -> Journal {
        self.shared.journal.clone()
    }

    /// Begins a shutdown that has `within` to end, and returns at once. A second call can only bring the
    /// deadline nearer. Collect the report with [`wait`](Handle::wait).
    pub fn drain(&self, within: Duration) {
        self.shared.drain(within);
    }

    /// Blocks until the server is over, for whatever reason: a [`drain`](Handle::drain), a consumer that
    /// died, a listener that broke. Without one of these it blocks for ever. With one, at most until a second
    /// after the drain's deadline: a cut has to be felt, and the log to say its last lines.
    /// Every caller gets the report.
    pub fn wait(&self) -> Report {
        self.wait_for_end();
        // The sink has all that it will get: now they may end as fast as the system lets them.
        self.shared.exits.open();
        let (shared, grace) = (&self.shared, GRACE);
        let ended = shared
            .lifecycle
            .wait_over(grace, || shared.table.is_empty());
        self.conclude(ended, Remaining::AreJoined)
    }

    /// As [`wait`](Handle::wait), for a process that ends next: handlers' threads that are past their handlers end
    /// with it. To join thousands can take seconds on a machine that is busy.
    pub fn wait_before_exit(&self) -> Report {
        let ended = self.wait_for_end();
        self.conclude(ended, Remaining::EndWithProcess)
    }

    /// Blocks until everything but threads that have nothing left to do has ended, or the deadline has passed.
    fn wait_for_end(&self) -> bool {
        let (shared, grace) = (&self.shared, GRACE);
        let no_handlers = || shared.table.has_no_connections();
        shared.lifecycle.wait_over(grace, no_handlers)
    }

    /// [`drain`](Handle::drain), then [`wait`](Handle::wait).
    pub fn shutdown(&self, within: Duration) -> Report {
        self.drain(within);
        self.wait()
    }

    /// The first to come concludes; others wait for it and get the same report.
    fn conclude(&self, ended: bool, of_threads: Remaining) -> Report {
        let mut state = self.state.lock();
        if let State::Running(threads) = &mut *state {
            let report = threads.conclude(ended, of_threads);
            *state = State::Over(Box::new(report));
        }
        match &*state {
            State::Over(report) => (**report).clone(),
            State::Running(_) => unreachable!("it was concluded above"),
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if let State::Running(_) = *self.state.get_mut() {
            if !self.shared.lifecycle.is_stopping() {
                let text = "the server's handle was dropped without a shutdown: everything is cut";
                self.shared.journal.say(Level::Warn, text);
            }
            self.shutdown(Duration::ZERO);
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
