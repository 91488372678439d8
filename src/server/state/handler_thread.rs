//! A handler's thread, as those see it who hand it a connection. It serves one, and for a short while waits for
//! another one.
//!
//! Making and joining a thread costs two to three times what a short connection itself costs. A thread whose
//! connection ended well parks at the gate with its permit, and the next client is handed to it. A thread
//! whose connection was cut, met a deadline or panicked always ends and is joined.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use crate::server::deadline::Deadline;

/// One connection's handler, run to its end. Says whether its thread may serve another one.
pub(crate) type Job = Box<dyn FnOnce() -> bool + Send>;

/// What a parked thread is woken for.
pub(crate) enum Order {
    Serve(Job),
    Leave,
}

/// How often a thread whose patience is at its end, but that somebody has taken off its list this very moment, looks for
/// its order.
const ORDER_IS_NEAR: Duration = Duration::from_millis(10);

/// One thread, as others see it.
pub(crate) struct Worker {
    pub(crate) number: u64,
    thread: OnceLock<Thread>,
    order: Mutex<Option<Order>>,
}

impl Worker {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(Worker {
            number,
            thread: OnceLock::new(),
            order: Mutex::new(None),
        })
    }

    /// Whoever took it off the stack of parked threads gives it exactly one order, or puts it back.
    pub(crate) fn give(&self, order: Order) {
        *self.order.lock() = Some(order);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Parks this thread, the worker's, until it is given an order, at most for `patience`: then it calls `leave`, which
    /// takes it off the list that it waits on, and says whether it was still there. Both under the lock of those who
    /// take threads off: it is either given an order or gone. `None`: it is to end.
    pub(crate) fn wait_for_order(
        &self,
        patience: Duration,
        leave: impl Fn() -> bool,
    ) -> Option<Job> {
        let until = Deadline::after(patience);
        loop {
            match self.order.lock().take() {
                Some(Order::Serve(job)) => return Some(job),
                Some(Order::Leave) => return None,
                None => {}
            }
            match until.remaining(patience) {
                Some(left) => std::thread::park_timeout(left),
                None if leave() => return None,
                None => std::thread::park_timeout(ORDER_IS_NEAR),
            }
        }
    }

    /// It is this thread.
    pub(crate) fn is_this_thread(&self) {
        let _ = self.thread.set(std::thread::current());
    }
}
