//! The one consumer thread. A consumer that dies does not leave a server behind that accepts and drains
//! nothing: the same thread drains on, and books what it drains.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use super::error::{BoxError, ServerError};
use super::inbox::{Inbox, Received};
use super::ledger::DropReason;
use super::panic_message;
use super::shared::Shared;

/// What the watchdog sees of the consumer.
#[derive(Debug)]
pub(super) struct ConsumerPulse {
    /// In its own code: at the sink, not waiting for an item or for its next try.
    working: AtomicBool,
    turns: AtomicU64,
    name: Mutex<String>,
}

impl ConsumerPulse {
    pub(super) fn new() -> Self {
        ConsumerPulse {
            working: AtomicBool::new(false),
            turns: AtomicU64::new(0),
            name: Mutex::new("the consumer".to_owned()),
        }
    }

    pub(super) fn waits(&self) {
        self.working.store(false, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn works(&self) {
        self.working.store(true, Ordering::Relaxed);
        self.turns.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn set_name(&self, name: &str) {
        name.clone_into(&mut self.name.lock());
    }

    pub(super) fn name(&self) -> String {
        self.name.lock().clone()
    }

    /// Whether it is in its own code, and a number that changes whenever it goes in or out.
    pub(super) fn sample(&self) -> (bool, u64) {
        (
            self.working.load(Ordering::Relaxed),
            self.turns.load(Ordering::Relaxed),
        )
    }
}

/// The body of the consumer's thread.
pub(super) fn run<T>(
    shared: &Arc<Shared>,
    mut inbox: Inbox<T>,
    consumer: impl FnOnce(&mut Inbox<T>) -> Result<(), BoxError>,
) {
    // The inbox is borrowed, so that whatever the consumer does it is still here.
    let outcome = catch_unwind(AssertUnwindSafe(|| consumer(&mut inbox)));
    let error = match outcome {
        Ok(Ok(())) => match inbox.try_recv() {
            Received::Closed => None,
            Received::Item(_) | Received::Tick => Some(ServerError::ConsumerLeft),
        },
        Ok(Err(error)) => Some(ServerError::ConsumerFailed(error.to_string())),
        Err(payload) => Some(ServerError::ConsumerPanicked(panic_message(payload))),
    };
    if let Some(error) = error {
        shared.budget.close(DropReason::SinkFailed);
        shared.fail(error);
    }
    while !matches!(drain_one(&mut inbox), Received::Closed) {}
    shared.lifecycle.consumer_ended();
}

/// Lets go of one item undone, which books it. An item whose own drop panics is booked all the same.
fn drain_one<T>(inbox: &mut Inbox<T>) -> Received<()> {
    let drained = catch_unwind(AssertUnwindSafe(|| {
        match inbox.recv(Duration::from_secs(1)) {
            Received::Item(delivery) => {
                drop(delivery);
                Received::Tick
            }
            Received::Tick => Received::Tick,
            Received::Closed => Received::Closed,
        }
    }));
    drained.unwrap_or(Received::Tick)
}
