//! Running, draining, over: who is told, and who waits for whom.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::server::deadline::Deadline;
use crate::server::error::ServerError;

#[derive(Clone, Copy, Debug)]
struct Drain {
    /// Handlers have until here: then the quota is closed and their sockets are cut.
    handlers: Deadline,
    /// The consumer has until here: then the receiver is closed with whatever is in it.
    consumer: Deadline,
}

#[derive(Debug)]
struct Inner {
    drain: Option<Drain>,
    acceptors: usize,
    consumer: bool,
    error: Option<ServerError>,
}

#[derive(Debug)]
pub(crate) struct Lifecycle {
    inner: Mutex<Inner>,
    changed: Condvar,
    stopping: AtomicBool,
    /// A deadline of the drain came before what it was set for had ended.
    missed: AtomicBool,
}

/// What a drain's deadlines ask for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DrainStep {
    None,
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
                acceptors,
                consumer: true,
                error: None,
            }),
            changed: Condvar::new(),
            stopping: AtomicBool::new(false),
            missed: AtomicBool::new(false),
        }
    }

    /// Sets the deadlines; a second call can only bring them nearer. Says whether this was the first.
    pub(crate) fn begin_drain(&self, within: Duration) -> bool {
        let next = Drain {
            handlers: Deadline::after(within / 4 * 3),
            consumer: Deadline::after(within),
        };
        let mut inner = self.inner.lock();
        let first = inner.drain.is_none();
        inner.drain = Some(match inner.drain {
            None => next,
            Some(set) => Drain {
                handlers: set.handlers.sooner(next.handlers),
                consumer: set.consumer.sooner(next.consumer),
            },
        });
        self.stopping.store(true, Ordering::Release);
        self.changed.notify_all();
        first
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

    /// Nothing is due once all has ended. Handlers that have all ended need no more of their time: the
    /// consumer, which may wait before it tries again, is told so.
    pub(crate) fn due_step(&self, no_handlers: impl Fn() -> bool) -> DrainStep {
        let inner = self.inner.lock();
        let is_idle = inner.acceptors == 0 && no_handlers();
        if is_idle && !inner.consumer {
            return DrainStep::None;
        }
        match inner.drain {
            Some(drain) if drain.consumer.has_passed() => DrainStep::CloseReceiver,
            Some(drain) if drain.handlers.has_passed() || is_idle => DrainStep::DisconnectHandlers,
            _ => DrainStep::None,
        }
    }

    /// The first error stays.
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

    /// A handler's thread was joined; only of interest once the server stops.
    pub(crate) fn handler_joined(&self) {
        if self.is_stopping() {
            // The lock orders this after a waiter's look at the table.
            let _inner = self.inner.lock();
            self.changed.notify_all();
        }
    }

    /// Waits until every acceptor and the consumer ended and `no_handlers` holds; at most `grace` longer
    /// than the drain's deadline. Says whether all ended.
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
