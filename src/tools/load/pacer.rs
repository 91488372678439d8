//! When which connection is to send: evenly spread over time and over connections.

use std::time::{Duration, Instant};

use super::plan::Plan;

/// The schedule of one worker. The messages of all connections of a load together are one even
/// stream, in which the connections take turns; a worker has every `workers`th of them. So it needs
/// no queue of what is due next.
#[derive(Debug)]
pub(super) struct Pacer {
    start: Instant,
    connections: u64,
    rate: u64,
    worker: u64,
    workers: u64,
    lanes: u64,
    messages: Option<u64>,
    duration: Option<Duration>,
    next: u64,
}

impl Pacer {
    /// For the `worker`th of `workers`, with `lanes` connections of its own. `None` where the plan
    /// has no rate.
    pub(super) fn new(
        plan: &Plan,
        (worker, workers): (usize, usize),
        lanes: usize,
        start: Instant,
    ) -> Option<Pacer> {
        Some(Pacer {
            start,
            connections: plan.connections as u64,
            rate: plan.rate?,
            worker: worker as u64,
            workers: workers as u64,
            lanes: lanes as u64,
            messages: plan.messages,
            duration: plan.duration,
            next: 0,
        })
    }

    /// When message `message` of `lane` is due.
    pub(super) fn due(&self, lane: usize, message: u64) -> Instant {
        self.start + self.after_start(lane as u64, message)
    }

    fn after_start(&self, lane: u64, message: u64) -> Duration {
        let place = u128::from(self.worker + lane * self.workers)
            + u128::from(message) * u128::from(self.connections);
        let nanos = place * 1_000_000_000 / (u128::from(self.connections) * u128::from(self.rate));
        Duration::from_nanos(nanos as u64)
    }

    /// When the next message is due. `None`: there is none any more.
    pub(super) fn next_due(&self) -> Option<Instant> {
        let (lane, message) = (self.next % self.lanes, self.next / self.lanes);
        let after_start = self.after_start(lane, message);
        let is_over = self.messages.is_some_and(|messages| message >= messages)
            || self
                .duration
                .is_some_and(|duration| after_start >= duration);
        (!is_over).then(|| self.start + after_start)
    }

    /// The lane of the next message, if that is due by `now`, and since when.
    pub(super) fn take(&mut self, now: Instant) -> Option<(usize, Duration)> {
        let due = self.next_due().filter(|due| *due <= now)?;
        let lane = self.next % self.lanes;
        self.next += 1;
        Some((lane as usize, now - due))
    }
}
