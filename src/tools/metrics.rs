//! What a server came to under a workload, real or simulated: its metrics, and their timeline.

use std::time::Duration;

use drainline::policy::OverloadLevel;
/// A wait or a recovery is told no finer than the server's watchdog looks.
pub(crate) use drainline::ranges::TICK;

/// How things stood at one time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Point {
    /// Since the load began.
    pub(crate) at: Duration,
    /// Of the server's process, as /proc has them.
    pub(crate) threads: u64,
    pub(crate) memory_bytes: u64,
    pub(crate) descriptors: u64,
    /// Messages in the buffer, and those of senders that wait for room in it.
    pub(crate) buffered: u64,
    pub(crate) longest_wait: Duration,
    /// So far: what the sink took, and what the server dropped, by its own count.
    pub(crate) delivered: u64,
    pub(crate) lost: u64,
    /// Clients rejected so far.
    pub(crate) rejected: u64,
    /// Where the overload stood, where there is one.
    pub(crate) level: Option<OverloadLevel>,
}

/// What the timeline comes to.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Metrics {
    pub(crate) peak_threads: u64,
    /// Threads before the first client, and when the load had ended and the server had been given
    /// time to settle.
    pub(crate) threads_before: u64,
    pub(crate) threads_after: u64,
    pub(crate) peak_memory_bytes: u64,
    pub(crate) peak_descriptors: u64,
    pub(crate) peak_buffered: u64,
    /// Whole messages that the clients' kernels took.
    pub(crate) sent: u64,
    /// Messages that came out of the sink's end.
    pub(crate) delivered: u64,
    /// Messages dropped, by the server's reasons; empty where it counts none.
    pub(crate) lost: Vec<(String, u64)>,
    /// Clients rejected, by the server's reasons.
    pub(crate) rejected: Vec<(String, u64)>,
    /// 99 of 100 times that a client was held up, it was for no longer than this.
    pub(crate) held_up_p99: Duration,
    pub(crate) recovery: Recovery,
    pub(crate) ledger: Ledger,
    /// Where it was ended: the ceiling of the lab, as `3,000 threads`, or of the simulation.
    pub(crate) stopped_at: Option<String>,
    /// How it ended by itself, before it was asked to.
    pub(crate) died: Option<String>,
}

/// From the end of the last stall until nobody waits and the buffer is all but empty.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Recovery {
    /// There was no stall that ended.
    #[default]
    NotAsked,
    After(Duration),
    Never,
}

/// Whether every message is accounted for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Ledger {
    /// It keeps none.
    #[default]
    None,
    Closes,
    Open,
}

impl Point {
    /// Nobody waits for longer than anybody may who shares a buffer, and the buffer is all but
    /// empty for one that held or may hold `most` messages: what is in it is on its way.
    pub(crate) fn is_calm(&self, most: u64) -> bool {
        self.longest_wait <= TICK && self.buffered <= (most / 50).max(100)
    }
}

impl Metrics {
    /// Threads that are still there after all clients have gone.
    pub(crate) fn threads_left(&self) -> u64 {
        self.threads_after.saturating_sub(self.threads_before)
    }

    /// Messages that the clients sent, and that were neither delivered nor counted as dropped: what
    /// kernels held of disconnected or never accepted connections, and what a server without a
    /// ledger lost.
    pub(crate) fn unseen(&self) -> u64 {
        self.sent.saturating_sub(self.delivered + self.lost())
    }

    /// Messages dropped, for whatever reason.
    pub(crate) fn lost(&self) -> u64 {
        self.lost.iter().map(|(_, count)| count).sum()
    }

    /// Clients rejected, for whatever reason.
    pub(crate) fn rejected(&self) -> u64 {
        self.rejected.iter().map(|(_, count)| count).sum()
    }
}
