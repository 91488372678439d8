//! A rate that slows down and never drops: a token bucket that may go into debt.

use std::time::Duration;

/// What is taken is always taken; what it costs is the time to wait before taking again.
///
/// A tenth of a second's worth (at least one) may be taken in a burst.
#[derive(Clone, Debug)]
pub struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Duration,
}

impl Bucket {
    /// A full bucket that refills at `per_second`, starting at time `now`.
    pub fn new(per_second: f64, now: Duration) -> Self {
        let burst = (per_second / 10.0).max(1.0);
        Bucket {
            per_second,
            burst,
            tokens: burst,
            filled_at: now,
        }
    }

    /// Takes `tokens`, into debt if need be.
    pub fn take(&mut self, tokens: u64, now: Duration) {
        self.fill(now);
        self.tokens -= tokens as f64;
    }

    /// How long to wait from `now` until one token is there. Zero: go on.
    pub fn wait(&mut self, now: Duration) -> Duration {
        self.fill(now);
        let missing = 1.0 - self.tokens;
        if missing <= 1e-9 {
            return Duration::ZERO;
        }
        // A debt so deep that it overflows a Duration is still a wait that others can end.
        Duration::try_from_secs_f64(missing / self.per_second).unwrap_or(Duration::MAX)
    }

    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_rate_over_an_hour_whatever_the_size_of_a_take() {
        for size in [1, 7, 1_000] {
            let mut now = Duration::ZERO;
            let mut bucket = Bucket::new(100.0, now);
            let mut taken = 0;
            while now < Duration::from_secs(3600) {
                bucket.take(size, now);
                taken += size;
                now += bucket.wait(now);
            }
            let rate = taken as f64 / now.as_secs_f64();
            assert!((99.0..101.0).contains(&rate), "takes of {size}: {rate}/s");
        }
    }

    #[test]
    fn a_rest_saves_up_no_more_than_the_burst() {
        let mut bucket = Bucket::new(100.0, Duration::ZERO);
        let later = Duration::from_secs(3600);
        bucket.take(10, later);
        assert_eq!(bucket.wait(later).as_millis(), 10);
    }
}
