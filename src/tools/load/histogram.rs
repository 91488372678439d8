//! Times, counted in buckets of 3 %: percentiles without keeping the times.

use std::time::Duration;

/// Buckets for each power of two.
const STEPS: u64 = 32;
const STEP_BITS: u32 = STEPS.ilog2();
const BUCKETS: usize = 64 * STEPS as usize;

/// How often which time was seen.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Vec<u64>,
    count: u64,
    max_nanos: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Histogram {
            counts: vec![0; BUCKETS],
            count: 0,
            max_nanos: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn record(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)] += 1;
        self.count += 1;
        self.max_nanos = self.max_nanos.max(nanos);
    }

    pub(crate) fn merge(&mut self, other: &Histogram) {
        for (sum, count) in self.counts.iter_mut().zip(&other.counts) {
            *sum += count;
        }
        self.count += other.count;
        self.max_nanos = self.max_nanos.max(other.max_nanos);
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The time that `part` (0 to 1) of all are not longer than: at most 3 % too long. Zero where
    /// nothing was seen.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let rank = ((self.count as f64 * part).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_nanos(longest(bucket).min(self.max_nanos));
            }
        }
        Duration::ZERO
    }

    pub(crate) fn max(&self) -> Duration {
        Duration::from_nanos(self.max_nanos)
    }
}

/// Below 32 each number has a bucket; above, each power of two has 32.
fn bucket(nanos: u64) -> usize {
    if nanos < STEPS {
        return nanos as usize;
    }
    let power = nanos.ilog2() - STEP_BITS;
    let step = (nanos >> power) - STEPS;
    ((u64::from(power) + 1) * STEPS + step) as usize
}

/// The longest time in a bucket.
fn longest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    let step = bucket % STEPS + STEPS;
    ((u128::from(step + 1) << power) - 1).min(u128::from(u64::MAX)) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_in_the_bucket_that_ends_at_most_3_percent_above_it() {
        let mut last = 0;
        for power in 0..64 {
            for offset in [0u64, 1, 2, 5] {
                let nanos = (1u64 << power).saturating_add(offset << power.max(3) >> 3);
                let end = longest(bucket(nanos));
                assert!(end >= nanos, "{nanos} is behind {end}");
                assert!((end - nanos) as f64 <= nanos as f64 / 32.0, "{nanos} {end}");
                assert!(bucket(nanos) < BUCKETS);
                last = last.max(bucket(nanos));
            }
        }
        for first in 0..last {
            let next = longest(first).saturating_add(1);
            assert_eq!(bucket(next), first + 1, "behind bucket {first}");
        }
        assert_eq!(longest(bucket(u64::MAX)), u64::MAX);
    }

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
}
