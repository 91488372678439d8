//! What the watchdog sees of the consumer, as a connection's state is what it sees of a handler.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// What the watchdog sees of the consumer.
#[derive(Debug)]
pub(crate) struct ConsumerState {
    /// In its own code: at the sink, not waiting for an item or for its next try.
    working: AtomicBool,
    turns: AtomicU64,
    name: Mutex<String>,
}

impl ConsumerState {
    pub(crate) fn new() -> Self {
        ConsumerState {
            working: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            name: Mutex::new("the consumer".to_owned()),
        }
    }

    pub(crate) fn waits(&self) {
        self.working.store(false, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn works(&self) {
        self.working.store(true, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.lock());
    }

    pub(crate) fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Whether it is in its own code, and a number that changes whenever it goes in or out.
    pub(crate) fn sample(&self) -> (bool, u64) {
        (
            self.working.load(Ordering::Relaxed),
            self.turns.load(Ordering::Relaxed),
        )
    }
}
