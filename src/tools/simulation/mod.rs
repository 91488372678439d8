//! What a server would do under a [`Workload`], on a simulated clock: an hour of thousands of
//! clients in seconds.
//!
//! The decisions are the server's own: [`WeightedSemaphore`] says who may put how much into the
//! buffer, [`Overload`] whether new clients are accepted, [`Watch`] which connection is past a
//! deadline, [`TokenBucket`] how long a rate holds somebody back, [`Coalesce`] how many messages a
//! read brings. Around them, in the order in which a message passes: a `schedule` says when the
//! clients of a crowd are due to send; `clients` connect, meet the `admission`, and hang up;
//! `handlers` make `reads` and send what they brought into the `buffer`; the `sink` takes it out.
//! The `tick` is the watchdog's, and what it sees is the `timeline`, with the `whereabouts` of all
//! messages. The `simulator` holds all that, and an `event_queue` of what comes next; between two
//! events is the `flow`.
//!
//! While nobody waits, the flow between two events is added up at once, and from the moment when
//! somebody may have to wait it is message by message. Every message is counted either way: sent =
//! delivered + dropped + unseen.
//!
//! Not in it: what processors take (but for clients that send as fast as they can), and what a
//! network delays.
//!
//! [`WeightedSemaphore`]: drainline::policy::WeightedSemaphore
//! [`Overload`]: drainline::policy::Overload
//! [`Watch`]: drainline::policy::Watch
//! [`TokenBucket`]: drainline::policy::TokenBucket
//! [`Coalesce`]: drainline::policy::Coalesce

mod schedule;

mod admission;
mod clients;

mod connection;
mod handlers;
mod reads;

mod buffer;
mod sink;

mod tick;
mod timeline;
mod whereabouts;

mod event_queue;
mod flow;
mod simulator;

#[cfg(test)]
mod tests;

use std::time::Duration;

use drainline::policy::Change;
use drainline::{Config, DropReason, Reason};

use super::metrics::{Metrics, Point};
use super::workload::Workload;

pub(crate) use reads::{LARGE_READ, heaviest};
pub(crate) use simulator::WHOLE;
pub(crate) use timeline::{SLOT_BYTES, Watched};

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario<'a> {
    /// The server's settings. They passed [`Config::check`].
    pub(crate) config: &'a Config,
    /// A longer message is truncated to this, in bytes.
    pub(crate) max_message: usize,
    pub(crate) workload: &'a Workload,
    /// How long the server may go on delivering after the load, before it is shut down and what is
    /// left is dropped.
    pub(crate) settle: Duration,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Simulated {
    pub(crate) timeline: Vec<Point>,
    pub(crate) metrics: Metrics,
    pub(crate) watched: Watched,
    /// Each change of the overload's level, and when it came.
    pub(crate) changes: Vec<(Duration, Change)>,
    /// When new clients were no longer accepted, when they were accepted again, and so on.
    pub(crate) pauses: Vec<Duration>,
    /// Messages that kernels held of disconnected or never accepted connections; counted on its
    /// own, not by difference.
    pub(crate) unseen: u64,
    /// Those of them that were still on their way when the server was shut down.
    pub(crate) unseen_at_end: u64,
    /// Steps that the simulation took: what its time goes by.
    pub(crate) steps: u64,
}

impl Simulated {
    /// The longest time that any sender waited for room in the buffer.
    pub(crate) fn longest_wait(&self) -> Duration {
        let waits = self.timeline.iter().map(|point| point.longest_wait);
        waits.max().unwrap_or_default()
    }

    /// How long new clients were not accepted, until the simulation ended.
    pub(crate) fn paused_for(&self) -> Duration {
        let end = self.timeline.last().map_or(Duration::ZERO, |last| last.at);
        let pauses = self.pauses.chunks(2);
        let lasted = |pause: &[Duration]| {
            let until = pause.get(1).copied().unwrap_or(end);
            until.saturating_sub(pause[0])
        };
        pauses.map(lasted).sum()
    }

    /// Messages that were lost while the server ran.
    pub(crate) fn lost(&self) -> u64 {
        self.losses().map(|(_, count)| count).sum()
    }

    /// The messages behind [`lost`](Simulated::lost) by reason. What was on its way when the
    /// simulation ended is not lost.
    pub(crate) fn losses(&self) -> impl Iterator<Item = (&str, u64)> {
        let while_it_runs = |(reason, _): &&(String, u64)| reason != DropReason::Shutdown.name();
        let dropped = self.metrics.lost.iter().filter(while_it_runs);
        let dropped = dropped.map(|(reason, count)| (reason.as_str(), *count));
        let unseen = self.unseen.saturating_sub(self.unseen_at_end);
        let unseen = (unseen > 0).then_some(("unread when their connection ended", unseen));
        dropped.chain(unseen)
    }
}

/// Simulates. Ends after [`MAX_STEPS`](simulator::MAX_STEPS) at the latest: then the metrics say
/// where it was stopped.
pub(crate) fn run(scenario: &Scenario<'_>) -> Simulated {
    run_watched(scenario, &mut |_| {})
}

/// As [`run`]. Tells `watch` from time to time how far it is, in [`WHOLE`] parts of the way.
pub(crate) fn run_watched(scenario: &Scenario<'_>, watch: &mut dyn FnMut(u64)) -> Simulated {
    simulator::Simulator::new(scenario).run(watch)
}
