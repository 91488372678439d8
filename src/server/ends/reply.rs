//! An answer that a handler waits for.

use std::fmt;
use std::sync::Arc;
use std::thread::Thread;

use parking_lot::Mutex;

use super::weigh::Weigh;
use crate::server::deadline::MAX_PARK;
use crate::server::ledger::EndReason;

/// The way back for one answer: part of a message that [`Sender::request`](crate::Sender::request) sent.
///
/// # Drop
/// Dropped without an answer, it ends the wait of the handler as
/// [`Unanswered`](crate::RequestError::Unanswered).
#[must_use = "a reply that is dropped is an answer, too: none"]
pub struct Reply<R> {
    slot: Arc<Slot<R>>,
}

/// What a handler waits for.
pub(super) struct Answer<R> {
    slot: Arc<Slot<R>>,
}

/// Why there is none.
pub(super) enum NoAnswer {
    Dropped,
    Ended(EndReason),
}

struct Slot<R> {
    state: Mutex<State<R>>,
    asker: Thread,
}

enum State<R> {
    Open,
    Answered(R),
    Dropped,
}

impl<R> Reply<R> {
    /// For this thread, which is to wait.
    pub(super) fn new() -> (Reply<R>, Answer<R>) {
        let slot = Arc::new(Slot {
            state: Mutex::new(State::Open),
            asker: std::thread::current(),
        });
        let answer = Answer {
            slot: Arc::clone(&slot),
        };
        (Reply { slot }, answer)
    }

    /// Answers. Never blocks; nobody may be waiting any more.
    pub fn send(self, answer: R) {
        self.slot.settle(State::Answered(answer));
    }
}

impl<R> Drop for Reply<R> {
    fn drop(&mut self) {
        self.slot.settle(State::Dropped);
    }
}

impl<R> Slot<R> {
    /// What came first stays.
    fn settle(&self, outcome: State<R>) {
        let mut state = self.state.lock();
        if matches!(*state, State::Open) {
            *state = outcome;
            drop(state);
            self.asker.unpark();
        }
    }
}

impl<R> Answer<R> {
    /// Parks this thread until there is an answer, or none will come. Whatever ends the connection sets
    /// its end and unparks the thread.
    pub(super) fn wait(self, ended: impl Fn() -> Option<EndReason>) -> Result<R, NoAnswer> {
        loop {
            let outcome = std::mem::replace(&mut *self.slot.state.lock(), State::Open);
            match outcome {
                State::Answered(answer) => return Ok(answer),
                State::Dropped => return Err(NoAnswer::Dropped),
                State::Open => {}
            }
            if let Some(reason) = ended() {
                return Err(NoAnswer::Ended(reason));
            }
            std::thread::park_timeout(MAX_PARK);
        }
    }
}

/// The answer is weighed when it is there, by whoever has it: the way back holds little.
impl<R> Weigh for Reply<R> {
    fn bytes(&self) -> usize {
        super::weigh::heap_bytes(size_of::<Slot<R>>() + 2 * size_of::<usize>())
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}
