//! How much the sink takes.

use std::time::Duration;

use super::super::workload::{SinkPace, Stall};

const SECOND: u128 = 1_000_000_000;

/// The sink at its pace. What it could have taken while there was nothing is not made up for.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    /// `None`: as fast as they come.
    rate: Option<u64>,
    is_stalled: bool,
    /// Up to when its time is accounted for.
    clock: Duration,
    /// The part of a message that it is done with, in message-nanoseconds.
    carry: u128,
}

impl Sink {
    pub(super) fn new(pace: &SinkPace) -> Self {
        Sink {
            rate: pace.rate,
            is_stalled: false,
            clock: Duration::ZERO,
            carry: 0,
        }
    }

    /// Takes whatever comes, at once.
    pub(super) fn is_instant(&self) -> bool {
        self.rate.is_none() && !self.is_stalled
    }

    /// What it can take from its clock to `until`. A stall does not begin or end within.
    pub(super) fn capacity(&self, until: Duration) -> u64 {
        match self.rate {
            _ if self.is_stalled => 0,
            None => u64::MAX,
            Some(rate) => {
                let capacity = self.work(rate, until) / SECOND;
                u64::try_from(capacity).unwrap_or(u64::MAX)
            }
        }
    }

    /// Moves its clock to `until`: `taken` of its [`capacity`](Sink::capacity) was made use of, and
    /// then there was nothing left to take, or there was.
    pub(super) fn advance(&mut self, until: Duration, taken: u64, is_empty: bool) {
        self.carry = match self.rate {
            Some(rate) if !is_empty && !self.is_stalled => {
                let work = self.work(rate, until);
                work.saturating_sub(u128::from(taken) * SECOND)
            }
            _ => 0,
        };
        self.clock = self.clock.max(until);
    }

    pub(super) fn stall(&mut self, is_stalled: bool) {
        self.is_stalled = is_stalled;
    }

    /// From now on it has no rate.
    pub(super) fn hurry(&mut self) {
        self.rate = None;
    }

    /// How long it takes for so many messages; `None` while it stalls.
    pub(super) fn time_for(&self, messages: u64) -> Option<Duration> {
        match self.rate {
            _ if self.is_stalled => None,
            None => Some(Duration::ZERO),
            Some(rate) => {
                let work = (u128::from(messages) * SECOND).saturating_sub(self.carry);
                let nanos = work.div_ceil(u128::from(rate.max(1)));
                Some(Duration::from_nanos(
                    u64::try_from(nanos).unwrap_or(u64::MAX),
                ))
            }
        }
    }

    fn work(&self, rate: u64, until: Duration) -> u128 {
        let time = until.saturating_sub(self.clock).as_nanos();
        self.carry + time * u128::from(rate)
    }
}

/// When it stalls and when it goes on, in order. One that lasts beyond the load never ends.
pub(super) fn edges(stalls: &[Stall], duration: Duration) -> Vec<(Duration, bool)> {
    let mut edges = Vec::new();
    for stall in stalls {
        edges.push((stall.at, true));
        let end = stall.end();
        if end < duration {
            edges.push((end, false));
        }
    }
    edges
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_takes_its_rate_whatever_the_steps_and_nothing_in_a_stall() {
        for step in [1, 7, 100, 1000] {
            let mut sink = Sink::new(&SinkPace::new(Some(3), &[]));
            let (mut taken, mut now) = (0, 0);
            while now < 100_000 {
                now += step;
                let until = Duration::from_millis(now);
                sink.stall((30_000..40_000).contains(&(now - 1)));
                let capacity = sink.capacity(until);
                taken += capacity;
                sink.advance(until, capacity, false);
            }
            assert!((269..=271).contains(&taken), "{taken} in steps of {step}");
        }
    }

    #[test]
    fn idle_time_is_not_saved_up() {
        let mut sink = Sink::new(&SinkPace::new(Some(10), &[]));
        let hour = Duration::from_secs(3600);
        sink.advance(hour, 0, true);
        assert_eq!(sink.capacity(hour + Duration::from_millis(99)), 0);
        assert_eq!(sink.time_for(1), Some(Duration::from_millis(100)));
        assert_eq!(sink.capacity(hour + Duration::from_millis(100)), 1);
    }

    #[test]
    fn a_stall_beyond_the_load_does_not_end() {
        let seconds = Duration::from_secs;
        let stall = |at, lasts| Stall::new(seconds(at), seconds(lasts));
        let edges = edges(&[stall(1, 2), stall(5, 5)], Duration::from_secs(10));
        let expected = [(1, true), (3, false), (5, true)];
        assert_eq!(
            edges,
            expected.map(|(at, is)| (Duration::from_secs(at), is))
        );
    }
}
