//! Whether the server is running, draining or over, and the waits for the next of these states.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::server::deadline::Deadline;
use crate::server::error::ServerError;
use crate::server::state::leave::LATE_WAIT;

/// For how long a drain waits for clients that are still opening their connections, all of them
/// together: those of the kernel's queue come one after the other as permits come back, and none of
/// them may take the time of the others. At most the handlers' share of the drain.
const OPENINGS: Duration = Duration::from_secs(5);

/// For how long a drain reads on from a peer that it has told that the server leaves, since it was
/// told or last held up: one that looks before it writes ends its stream then, and nothing that it
/// has sent is lost. At most an eighth of the drain, since whoever never ends is waited for this
/// long.
const LEAVE: Duration = Duration::from_millis(250);

/// How long is waited for what the kernel of a client from the queue has for our window, once an
/// eighth of the drain is over.
const SHORT_LATE_WAIT: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// For so long it is read on from peers that were told that the server leaves.
    leave: Duration,
    /// Then clients that the drain has let in are waited for a moment only.
    late: Deadline,
    /// Then nobody is waited for who is opening a connection and has sent nothing.
    silent: Deadline,
    /// Then nobody is waited for who is opening a connection: what has come is all.
    openings: Deadline,
    /// Then the quota is closed, and sockets of handlers that have not returned are shut down.
    handlers: Deadline,
    /// Then the receiver is closed, and what is still buffered is dropped.
    consumer: Deadline,
}

#[derive(Debug)]
struct Inner {
    drain: Option<Drain>,
    /// Whoever was to be told that the server leaves is told.
    has_told: bool,
    acceptors: usize,
    consumer: bool,
    error: Option<ServerError>,
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    inner: Mutex<Inner>,
    changed: Condvar,
    stopping: AtomicBool,
    /// A deadline of the drain passed while something had not ended yet.
    missed: AtomicBool,
}

/// What a drain has to do now, because a deadline passed or nobody needs the time that is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainStep {
    None,
    /// With each tick once peers were told, as long as handlers have time.
    EndLeaves,
    DisconnectHandlers,
    CloseReceiver,
}

impl Inner {
    fn is_over(&self, no_handlers: impl Fn() -> bool) -> bool {
        self.acceptors == 0 && !self.consumer && no_handlers()
    }
}

impl Lifecycle {
    pub(crate) fn new(acceptors: usize) -> Self {
        Lifecycle {
            inner: Mutex::new(Inner {
                drain: None,
                has_told: false,
                acceptors,
                consumer: true,
                error: None,
            }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            missed: AtomicBool::new(false),
        }
    }

    /// Sets the drain's deadlines; later calls can only bring them nearer. Returns whether this
    /// call was the first.
    pub(crate) fn begin_drain(&self, within: Duration) -> bool {
        let handlers = within / 4 * 3;
        let openings = handlers.min(OPENINGS);
        let next = Drain {
            leave: LEAVE.min(within / 8),
            late: Deadline::after(within / 8),
            silent: Deadline::after(openings / 4),
            openings: Deadline::after(openings),
            handlers: Deadline::after(handlers),
            consumer: Deadline::after(within),
        };
        let mut inner = self.inner.lock();
        let first = inner.drain.is_none();
        inner.drain = Some(match inner.drain {
            None => next,
            Some(set) => Drain {
                leave: set.leave.min(next.leave),
                late: set.late.sooner(next.late),
                silent: set.silent.sooner(next.silent),
                openings: set.openings.sooner(next.openings),
                handlers: set.handlers.sooner(next.handlers),
                consumer: set.consumer.sooner(next.consumer),
            },
        });
        self.stopping.store(true, Ordering::Release);
        self.changed.notify_all();
        first
    }

    /// When the drain is over; never while none has begun.
    pub(in crate::server) fn last_deadline(&self) -> Deadline {
        let drain = self.inner.lock().drain;
        drain.map_or(Deadline::NEVER, |drain| drain.consumer)
    }

    /// Until when a client that is opening its connection in the drain is waited for: one that has
    /// sent nothing, until a moment of the drain; any other, for a quarter of the time that the
    /// drain has left for that, so that something is left for those behind it.
    pub(in crate::server) fn opening_deadline(&self, is_silent: bool) -> Deadline {
        let drain = self.inner.lock().drain;
        match drain {
            None => Deadline::NEVER,
            Some(drain) if is_silent => drain.silent,
            Some(drain) => {
                let left = drain.openings.remaining(OPENINGS).unwrap_or_default();
                Deadline::after(left / 4)
            }
        }
    }

    /// For how long more is waited for of a client that the drain has let in: longer than a round
    /// trip, but where there are many of them, that is not for those who come last.
    pub(crate) fn late_wait(&self) -> Duration {
        match self.inner.lock().drain {
            Some(drain) if drain.late.has_passed() => SHORT_LATE_WAIT,
            _ => LATE_WAIT,
        }
    }

    /// Every peer is told that is to know that the server leaves. Before, a tick would take those
    /// that are not told yet for some that never are.
    pub(crate) fn set_told(&self) {
        self.inner.lock().has_told = true;
    }

    /// For how long a drain reads on from a peer that was told that the server leaves.
    pub(crate) fn leave(&self) -> Duration {
        let drain = self.inner.lock().drain;
        drain.map_or(LEAVE, |drain| drain.leave)
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }

    pub(crate) fn record_missed_deadline(&self) {
        self.missed.store(true, Ordering::Release);
    }

    pub(crate) fn has_missed_deadline(&self) -> bool {
        self.missed.load(Ordering::Acquire)
    }

    /// Nothing is due once everything has ended. When all handlers have ended, their step is due
    /// before its deadline: the quota is closed, so that a consumer that waits to retry knows of
    /// the drain.
    pub(crate) fn due_step(&self, no_handlers: impl Fn() -> bool) -> DrainStep {
        let inner = self.inner.lock();
        let is_idle = inner.acceptors == 0 && no_handlers();
        if is_idle && !inner.consumer {
            return DrainStep::None;
        }
        match inner.drain {
            Some(drain) if drain.consumer.has_passed() => DrainStep::CloseReceiver,
            Some(drain) if drain.handlers.has_passed() || is_idle => DrainStep::DisconnectHandlers,
            Some(_) if inner.has_told => DrainStep::EndLeaves,
            _ => DrainStep::None,
        }
    }

    /// Stores why the server failed. The first error is kept.
    pub(crate) fn fail(&self, error: ServerError) {
        self.inner.lock().error.get_or_insert(error);
    }

    pub(crate) fn error(&self) -> Option<ServerError> {
        self.inner.lock().error.clone()
    }

    pub(crate) fn acceptor_ended(&self) {
        self.inner.lock().acceptors -= 1;
        self.changed.notify_all();
    }

    pub(crate) fn consumer_ended(&self) {
        self.inner.lock().consumer = false;
        self.changed.notify_all();
    }

    /// Must be called whenever a handler's thread was joined. Wakes
    /// [`wait_over`](Lifecycle::wait_over), but only once the server stops: before, nobody waits.
    pub(crate) fn handler_joined(&self) {
        if self.is_stopping() {
            // A waiter checks the table under this lock, so the wake-up cannot come in
            // between.
            let _inner = self.inner.lock();
            self.changed.notify_all();
        }
    }

    /// Blocks until every acceptor and the consumer have ended and `no_handlers` holds, for at most
    /// `grace` after the drain's deadline. Returns whether all of them have ended.
    pub(crate) fn wait_over(&self, grace: Duration, no_handlers: impl Fn() -> bool) -> bool {
        let mut inner = self.inner.lock();
        loop {
            if inner.is_over(&no_handlers) {
                return true;
            }
            match inner.drain {
                None => self.changed.wait(&mut inner),
                Some(drain) => match drain.consumer.past(grace) {
                    Some(at) if Instant::now() >= at => return false,
                    Some(at) => {
                        self.changed.wait_until(&mut inner, at);
                    }
                    None => self.changed.wait(&mut inner),
                },
            }
        }
    }
}
