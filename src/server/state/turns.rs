//! The order of a connection's writes: whole ones, first come, first served.
//!
//! A turn is held for as long as its write takes, also while the peer takes nothing. Nothing else
//! may be held for that long: see `ends/transport.rs`.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::thread::Thread;

use parking_lot::Mutex;

use crate::server::ledger::{EndReason, Reason};

/// What [writers](crate::Writer) hold of a connection between their writes: no socket, which would
/// be one above the limits once the connection is over.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    line: Mutex<Line>,
    /// The handler has returned.
    is_over: AtomicBool,
    /// As in the connection's state, from which it is copied.
    pub(super) ended: End,
}

#[derive(Debug, Default)]
struct Line {
    /// The number of the turn that writes now.
    current: Option<u64>,
    last: u64,
    /// The turns behind it, with the threads that wait for them.
    waiting: VecDeque<(u64, Thread)>,
}

impl Turns {
    /// Joins the line of those that write. The thread may write once the turn
    /// [is up](Turn::is_up): at once, if nobody else writes. Until then it parks, and is unparked
    /// when its turn has come.
    pub(crate) fn join(&self) -> Turn<'_> {
        let mut line = self.line.lock();
        line.last += 1;
        let number = line.last;
        match line.current {
            None => line.current = Some(number),
            Some(_) => line.waiting.push_back((number, std::thread::current())),
        }
        Turn {
            turns: self,
            number,
        }
    }

    /// From now on writers write nothing any more when their turns come.
    pub(super) fn close(&self) {
        self.is_over.store(true, Ordering::Release);
    }

    /// Whether the handler has returned. Within a turn that is up, `false` stays so: the handler's
    /// return waits for its own turn.
    pub(crate) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    pub(crate) fn ended(&self) -> Option<EndReason> {
        self.ended.get()
    }
}

/// A place in the line. Dropped, it lets the next turn come up, or leaves the line.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    turns: &'a Turns,
    number: u64,
}

impl Turn<'_> {
    pub(crate) fn is_up(&self) -> bool {
        self.turns.line.lock().current == Some(self.number)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let next = {
            let mut line = self.turns.line.lock();
            if line.current != Some(self.number) {
                line.waiting.retain(|(number, _)| *number != self.number);
                return;
            }
            let next = line.waiting.pop_front();
            line.current = next.as_ref().map(|(number, _)| *number);
            if next.is_none() {
                line.waiting = VecDeque::new();
            }
            next
        };
        if let Some((_, thread)) = next {
            thread.unpark();
        }
    }
}

/// Why a connection ended: an [`EndReason`]'s index + 1; 0 while it has not.
#[derive(Debug, Default)]
pub(super) struct End(AtomicU8);

impl End {
    pub(super) fn get(&self) -> Option<EndReason> {
        let code = self.0.load(Ordering::Acquire);
        EndReason::ALL
            .get(usize::from(code).wrapping_sub(1))
            .copied()
    }

    /// Keeps the first reason; returns whether this was the first.
    pub(super) fn set(&self, reason: EndReason) -> bool {
        let code = reason.index() as u8 + 1;
        self.0
            .compare_exchange(0, code, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_up_in_the_order_in_which_they_were_joined_and_one_at_a_time() {
        let turns = Turns::default();
        let mut line: VecDeque<Turn<'_>> = (0..5).map(|_| turns.join()).collect();
        while let Some(first) = line.pop_front() {
            assert!(first.is_up());
            assert!(line.iter().all(|behind| !behind.is_up()));
            drop(first);
        }
        assert!(turns.join().is_up(), "nobody writes any more");
    }

    #[test]
    fn a_turn_that_is_given_up_holds_up_nobody() {
        let turns = Turns::default();
        let (first, second, third) = (turns.join(), turns.join(), turns.join());
        drop(second);
        assert!(first.is_up() && !third.is_up());
        drop(first);
        assert!(third.is_up());
        drop(third);
        assert!(turns.join().is_up());
    }
}
