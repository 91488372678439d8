//! What a server is put to: its clients, and the sink behind it. Real in `lab`, simulated in
//! `plan`.

use std::fmt;
use std::time::Duration;

use crate::cli::units::print_duration;

/// Clients, a sink, and how long the clients send. Times count from the start of the load.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Workload {
    /// At least one; they send side by side.
    pub(crate) crowds: Vec<Crowd>,
    pub(crate) sink: SinkPace,
    /// From when the first connections stand until the last client stops.
    pub(crate) duration: Duration,
    /// What is drawn, is drawn from this.
    pub(crate) seed: u64,
}

/// Clients that do the same.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Crowd {
    pub(crate) connections: usize,
    /// Bytes of a message, without its LF.
    pub(crate) size: usize,
    pub(crate) pace: ClientPace,
    /// When they come and go, within the duration.
    pub(crate) from: Duration,
    pub(crate) until: Duration,
    /// How long a client stays on one connection before it hangs up, whatever became of what it
    /// sent, and comes back: half as long to one and a half times as long, evenly drawn. `None`:
    /// until the end.
    pub(crate) reconnect: Option<Duration>,
}

/// How clients send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum ClientPace {
    /// So many messages a second on each connection.
    Rate(u64),
    /// As fast as the server takes them.
    Greedy,
    /// One byte a second, and never the end of a message.
    Drip,
}

/// How fast the sink takes messages, and when it takes none.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SinkPace {
    /// Messages a second. `None`: as fast as they come.
    pub(crate) rate: Option<u64>,
    /// In order of time, without overlap.
    pub(crate) stalls: Vec<Stall>,
    /// When the load is over it takes all there is, as fast as it can, unless it is dead for good.
    pub(crate) catches_up: bool,
}

/// The sink takes nothing from `at` on, for as long as it `lasts`. One that lasts beyond the load
/// lasts until the server has ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Stall {
    pub(crate) at: Duration,
    pub(crate) lasts: Duration,
}

impl Crowd {
    /// Clients that stay from the start until `until`.
    pub(crate) fn new(connections: usize, size: usize, pace: ClientPace, until: Duration) -> Crowd {
        Crowd {
            connections,
            size,
            pace,
            from: Duration::ZERO,
            until,
            reconnect: None,
        }
    }
}

impl Workload {
    /// Lasts as long as the crowd that stays longest.
    pub(crate) fn new(crowds: Vec<Crowd>, sink: SinkPace) -> Workload {
        let ends = crowds.iter().map(|crowd| crowd.until);
        Workload {
            duration: ends.max().unwrap_or_default(),
            crowds,
            sink,
            seed: 1,
        }
    }

    /// Clients at once, at most.
    pub(crate) fn connections(&self) -> usize {
        let begins = self.crowds.iter().map(|crowd| crowd.from);
        let at = |time| {
            let there = |crowd: &&Crowd| (crowd.from..crowd.until).contains(&time);
            self.crowds
                .iter()
                .filter(there)
                .map(|crowd| crowd.connections)
                .sum()
        };
        begins.map(at).max().unwrap_or(0)
    }

    /// When the last stall ends, if the sink recovers while the load lasts.
    pub(crate) fn recovers_at(&self) -> Option<Duration> {
        let end = self.sink.stalls.last().map(Stall::end)?;
        (end < self.duration).then_some(end)
    }
}

impl SinkPace {
    /// Of a sink that is no faster when the load is over.
    pub(crate) fn new(rate: Option<u64>, stalls: &[Stall]) -> SinkPace {
        SinkPace {
            rate,
            stalls: stalls.to_vec(),
            catches_up: false,
        }
    }
}

impl Stall {
    pub(crate) const fn new(at: Duration, lasts: Duration) -> Stall {
        Stall { at, lasts }
    }

    pub(crate) fn end(&self) -> Duration {
        self.at.saturating_add(self.lasts)
    }
}

/// As typed: `2s@1s`.
impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (lasts, at) = (print_duration(self.lasts), print_duration(self.at));
        write!(f, "{lasts}@{at}")
    }
}
