//! What a server is to be set up for.

use std::time::Duration;

use drainline::WhenFull;

use super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};

/// Before the stall of a simulated timeline.
const BEFORE: Duration = Duration::from_secs(5);
/// After it, at least.
const AFTER: Duration = Duration::from_secs(5);
const WITHOUT_END: Duration = Duration::from_secs(60);
/// The longest timeline.
const MAX_DURATION: Duration = Duration::from_secs(3600);

/// A load, the sink behind it, and how much of its trouble is to be survived.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Inputs {
    /// Messages a second that arrive, over all connections.
    pub(crate) rate: u64,
    /// Bytes of a message, without its LF.
    pub(crate) size: usize,
    pub(crate) connections: usize,
    /// Messages a second that the sink takes. `None`: it keeps up with whatever comes.
    pub(crate) sink_rate: Option<u64>,
    /// The longest time that the sink may take nothing.
    pub(crate) stall: Duration,
    /// `None`: what fits the load.
    pub(crate) when_full: Option<WhenFull>,
    /// What the server may take of memory, in bytes.
    pub(crate) memory: Option<u64>,
}

impl Inputs {
    /// Whether the sink takes more than what arrives, so that it makes up for a stall some time.
    pub(crate) fn keeps_up(&self) -> bool {
        self.sink_rate.is_none_or(|rate| rate > self.rate)
    }

    /// What arrives while the sink takes nothing.
    pub(crate) fn arrives_in_stall(&self) -> u64 {
        let arrives = u128::from(self.rate) * self.stall.as_millis() / 1000;
        u64::try_from(arrives).unwrap_or(u64::MAX)
    }

    /// How long the sink needs to make up for the stall. `None`: for ever.
    pub(crate) fn recovery(&self) -> Option<Duration> {
        match self.sink_rate {
            None => Some(Duration::ZERO),
            Some(sink) => {
                let spare = sink.checked_sub(self.rate).filter(|spare| *spare > 0)?;
                let seconds = self.arrives_in_stall() as f64 / spare as f64;
                Duration::try_from_secs_f64(seconds).ok()
            }
        }
    }

    /// The part of one of several machines that share it evenly; what does not divide is each
    /// one's.
    pub(crate) fn share(&self, machines: u64) -> Inputs {
        let machines = machines.max(1);
        Inputs {
            rate: self.rate.div_ceil(machines),
            connections: self
                .connections
                .div_ceil(usize::try_from(machines).unwrap_or(usize::MAX)),
            // Whether the sink keeps up with all of them is not to change with what does not
            // divide.
            sink_rate: self.sink_rate.map(|rate| match self.keeps_up() {
                true => rate.div_ceil(machines),
                false => (rate / machines).max(1),
            }),
            ..self.clone()
        }
    }

    /// Clients and a sink that do just that: some time before the stall, the stall, and time to
    /// recover from it, an hour at most. Messages come evenly; where the rate does not divide, some
    /// connections send one a second more.
    pub(crate) fn workload(&self) -> Workload {
        let after = match self.recovery() {
            Some(recovery) => recovery.saturating_mul(2).saturating_add(AFTER),
            None => WITHOUT_END,
        };
        let duration = (BEFORE + self.stall)
            .saturating_add(after)
            .min(MAX_DURATION.max(BEFORE + self.stall + AFTER));
        let connections = self.connections as u64;
        let (each, more) = (self.rate / connections, self.rate % connections);
        let crowd = |connections: u64, rate| {
            let pace = ClientPace::Rate(rate);
            Crowd::new(connections as usize, self.size, pace, duration)
        };
        let mut crowds = vec![crowd(more, each + 1), crowd(connections - more, each)];
        crowds.retain(|crowd| crowd.connections > 0);
        let mut stalls = vec![Stall::new(BEFORE, self.stall)];
        stalls.retain(|stall| !stall.lasts.is_zero());
        Workload::new(crowds, SinkPace::new(self.sink_rate, &stalls))
    }
}
