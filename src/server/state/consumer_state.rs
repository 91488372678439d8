//! What the watchdog sees of the consumer: the counterpart of a handler's `ConnectionState`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Published by the consumer's thread, read by the watchdog once a tick.
#[derive(Debug)]
pub(crate) struct ConsumerState {
    /// The consumer runs user code, such as a sink; it does not wait for a message or a retry.
    working: AtomicBool,
    /// How often the consumer began to wait or to work.
    turns: AtomicU64,
    name: Mutex<String>,
    /// For how long it has been in its own code without finishing anything, in microseconds, as the
    /// watchdog last saw it.
    busy_us: AtomicU64,
    /// Messages that the thread has finished, where it is not the consumer itself.
    finished: AtomicU64,
    /// Threads that work for the consumer.
    assistants: Mutex<Vec<Arc<ConsumerState>>>,
}

impl ConsumerState {
    pub(crate) fn new() -> Self {
        ConsumerState {
            working: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            name: Mutex::new("the consumer".to_owned()),
            busy_us: AtomicU64::new(0),
            finished: AtomicU64::new(0),
            assistants: Mutex::default(),
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

    pub(crate) fn finished(&self, messages: u64) {
        self.finished.fetch_add(messages, Ordering::Relaxed);
    }

    pub(crate) fn finished_by_assistant(&self) -> u64 {
        self.finished.load(Ordering::Relaxed)
    }

    pub(crate) fn set_busy_for(&self, busy: Duration) {
        let busy_us = u64::try_from(busy.as_micros()).unwrap_or(u64::MAX);
        self.busy_us.store(busy_us, Ordering::Relaxed);
    }

    pub(crate) fn busy_for(&self) -> Duration {
        Duration::from_micros(self.busy_us.load(Ordering::Relaxed))
    }

    pub(crate) fn add_assistant(&self, assistant: Arc<ConsumerState>) {
        self.assistants.lock().push(assistant);
    }

    pub(crate) fn assistants(&self) -> Vec<Arc<ConsumerState>> {
        self.assistants.lock().clone()
    }

    /// Whether the consumer runs user code, and a number that changes whenever that changes.
    pub(crate) fn sample(&self) -> (bool, u64) {
        (
            self.working.load(Ordering::Relaxed),
            self.turns.load(Ordering::Relaxed),
        )
    }
}
