//! A handler's thread, as those see it who hand it a connection. It serves one, and for a short while waits for
//! another one.
//!
//! Making and joining a thread costs two to three times what a short connection itself costs. A thread whose
//! connection ended well parks at the gate with its permit, and the next client is handed to it. A thread
//! whose connection was cut, met a deadline or panicked always ends and is joined.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;

use parking_lot::Mutex;

/// One connection's handler, run to its end. Says whether its thread may serve another one.
pub(super) type Job = Box<dyn FnOnce() -> bool + Send>;

/// What a parked thread is woken for.
pub(super) enum Order {
    Serve(Job),
    Leave,
}

/// One thread, as others see it.
pub(super) struct Worker {
    pub(super) number: u64,
    thread: OnceLock<Thread>,
    order: Mutex<Option<Order>>,
}

impl Worker {
    pub(super) fn new(number: u64) -> Arc<Self> {
        Arc::new(Worker {
            number,
            thread: OnceLock::new(),
            order: Mutex::new(None),
        })
    }

    /// Whoever took it off the stack of parked threads gives it exactly one order, or puts it back.
    pub(super) fn give(&self, order: Order) {
        *self.order.lock() = Some(order);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    pub(super) fn take_order(&self) -> Option<Order> {
        self.order.lock().take()
    }

    /// It is this thread.
    pub(super) fn is_this_thread(&self) {
        let _ = self.thread.set(std::thread::current());
    }
}
