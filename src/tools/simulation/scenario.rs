//! What is simulated, and what it came to.

use std::time::Duration;

use drainline::policy::Change;
use drainline::{Config, DropReason, Reason};

use super::super::metrics::{Metrics, Point};
use super::super::workload::Workload;

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
    /// The simulation ends after so many steps at the latest: then the metrics say where.
    pub(crate) max_steps: u64,
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

/// Messages by where they are: offered = delivered + lost + in the server + in sockets + with the
/// senders. Each is counted on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Whereabouts {
    /// Since the load began.
    pub(crate) at: Duration,
    /// What the clients were to send; of those that send as fast as they can, what they sent.
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    /// Dropped, or in the kernel when its connection was disconnected.
    pub(crate) lost: u64,
    /// In the buffer, or in a handler's hands that waits for room in it.
    pub(crate) in_server: u64,
    /// Taken by the kernel, and not read.
    pub(crate) in_sockets: u64,
    /// Due, and not taken by the kernel: who sends has to keep them.
    pub(crate) at_senders: u64,
    /// The most that one sender has to keep.
    pub(crate) at_one_sender: u64,
    /// How long the oldest of those that nobody has read has been due.
    pub(crate) late: Duration,
}

/// What was seen of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Watched {
    /// When the load ended, or the simulation, whichever was first.
    pub(crate) at_end: Whereabouts,
    /// The most that was in each place at any look.
    pub(crate) most: Whereabouts,
    /// From the end of the last stall until no message was late any more.
    pub(crate) caught_up: Option<Duration>,
    pub(super) next_look: Duration,
}

impl Whereabouts {
    #[cfg(test)]
    pub(crate) fn closes(&self) -> bool {
        let placed = self.delivered + self.lost + self.in_server;
        self.offered == placed + self.in_sockets + self.at_senders
    }
}

impl Watched {
    pub(super) fn see(&mut self, now: &Whereabouts) {
        let most = &mut self.most;
        most.in_server = most.in_server.max(now.in_server);
        most.in_sockets = most.in_sockets.max(now.in_sockets);
        most.at_senders = most.at_senders.max(now.at_senders);
        most.at_one_sender = most.at_one_sender.max(now.at_one_sender);
        most.late = most.late.max(now.late);
    }
}
