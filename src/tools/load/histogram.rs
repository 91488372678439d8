//! Times as percentiles, without keeping each time.

use std::time::Duration;

/// A percentile has so many digits, so it is at most 1 % too long.
const DIGITS: u8 = 2;

/// How often which time was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    nanos: hdrhistogram::Histogram<u64>,
    /// To the nanosecond.
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            nanos: hdrhistogram::Histogram::new(DIGITS).expect("up to 5 digits are possible"),
            max: Duration::ZERO,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        // A histogram grows with what is put into it.
        let _ = self
            .nanos
            .record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        self.max = self.max.max(time);
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        let _ = self.nanos.add(&other.nanos);
        self.max = self.max.max(other.max);
    }

    pub(crate) fn count(&self) -> u64 {
        self.nanos.len()
    }

    /// The time that `part` (0 to 1) of all are not longer than. Zero where nothing was seen.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        Duration::from_nanos(self.nanos.value_at_quantile(part)).min(self.max)
    }

    pub(crate) fn max(&self) -> Duration {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let mut some = Histogram::default();
        assert_eq!(
            (some.quantile(0.5), some.max()),
            (Duration::ZERO, Duration::ZERO)
        );
        for nanos in 1..=20 {
            some.record(Duration::from_nanos(nanos));
        }
        let mut all = Histogram::default();
        all.record(Duration::from_secs(1));
        all.merge(&some);
        assert_eq!(all.count(), 21);
        assert_eq!(all.quantile(0.5), Duration::from_nanos(11));
        assert_eq!(all.quantile(0.95), Duration::from_nanos(20));
        assert_eq!(all.quantile(0.99), Duration::from_secs(1));
        assert_eq!(all.max(), Duration::from_secs(1));
    }

    #[test]
    fn a_percentile_is_at_most_1_percent_too_long() {
        for nanos in (0..64).map(|power| (1u64 << power) + (1 << power) / 3) {
            let mut two = Histogram::default();
            let (time, longest) = (Duration::from_nanos(nanos), Duration::from_nanos(u64::MAX));
            two.record(time);
            two.record(longest);
            let said = two.quantile(0.5);
            assert!(
                time <= said && said <= time + time / 100,
                "{nanos}: {said:?}"
            );
            assert_eq!(two.max(), longest);
        }
    }
}
