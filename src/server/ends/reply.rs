//! The answer to a request, for which a handler waits.

use std::fmt;
use std::sync::Arc;
use std::thread::Thread;

use parking_lot::Mutex;

use super::weigh::Weigh;
use crate::server::deadline::MAX_PARK;
use crate::server::ledger::EndReason;
use crate::server::limits::heap_bytes;

/// Sends the answer to one request: part of a message that
/// [`Sender::request`](crate::Sender::request) sent.
///
/// A message's [weight](Weigh) includes that of its reply: the heap memory of the slot for the
/// answer.
///
/// # Drop
/// A reply that is dropped without an answer ends the handler's wait as
/// [`Unanswered`](crate::RequestError::Unanswered).
#[must_use = "a reply that is dropped is an answer, too: none"]
pub struct Reply<R> {
    slot: Arc<Slot<R>>,
}

/// The handler's side: waits for the answer.
pub(super) struct Answer<R> {
    slot: Arc<Slot<R>>,
}

/// Why there is no answer.
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
    /// A reply and its answer, for which the calling thread is to wait.
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

    /// Sends the answer. Never blocks. If the handler no longer waits, the answer is dropped.
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
    /// Stores the outcome, unless one is there already, and wakes the handler.
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
    /// Blocks the calling thread until there is an answer or none will come. Whatever ends the
    /// connection sets its end reason and unparks the thread.
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

/// Counts the slot for the answer, but not what the answer will hold on the heap.
impl<R> Weigh for Reply<R> {
    fn bytes(&self) -> usize {
        heap_bytes(size_of::<Slot<R>>() + 2 * size_of::<usize>())
    }
}

impl<R> fmt::Debug for Reply<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reply")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_weighs_the_slot_for_the_answer() {
        let (reply, _answer) = Reply::<[u8; 1000]>::new();
        assert!((1000..1100).contains(&reply.bytes()), "{}", reply.bytes());
    }
}
