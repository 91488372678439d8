//! What comes next.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

/// Something that happens at a time of its own. What may be out of date by then says of which turn
/// it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Event {
    /// The watchdog looks.
    Tick,
    /// The sink is done with something.
    Sink,
    /// The sink stops taking messages, or goes on.
    Stall(bool),
    /// The load is over, and the sink takes all there is.
    CatchUp,
    /// The load is over: where are its messages?
    LoadEnds,
    /// The clients of a crowd come, or go for good.
    Come(usize),
    Go(usize),
    /// A client tries to connect again.
    Connect {
        client: usize,
        epoch: u32,
    },
    /// A client gives up its connection for another.
    HangUp {
        client: usize,
        epoch: u32,
    },
    /// A handler is done with a read that took its time, or with a pause.
    Wake {
        connection: usize,
        turns: u32,
    },
    /// Whoever has waited longest in line may have waited long enough.
    Timeout,
    /// The accept rate lets the next one in.
    Admit,
}

/// In order of time, and at one time in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct EventQueue {
    events: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    added: u64,
}

impl EventQueue {
    pub(super) fn add(&mut self, at: Duration, event: Event) {
        self.added += 1;
        self.events.push(Reverse((at, self.added, event)));
    }

    pub(super) fn next_at(&self) -> Option<Duration> {
        self.events.peek().map(|Reverse((at, _, _))| *at)
    }

    pub(super) fn pop(&mut self) -> Option<(Duration, Event)> {
        self.events.pop().map(|Reverse((at, _, event))| (at, event))
    }
}
