//! A rate that slows down and never drops: a token bucket that may go into debt.

use std::time::Duration;

/// Less than any clock tells apart.
const ROUNDING_SECONDS: f64 = 2e-9;

/// What is taken is always taken; what it costs is the time to wait before taking again.
///
/// A tenth of a second's worth (at least one) may be taken in a burst.
#[derive(Clone, Debug)]
pub struct TokenBucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled_at: Duration,
}

impl TokenBucket {
    /// A full bucket that refills at `per_second`, starting at time `now`.
    pub fn new(per_second: f64, now: Duration) -> Self {
        let burst = (per_second / 10.0).max(1.0);
        TokenBucket {
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
        let seconds = (1.0 - self.tokens) / self.per_second;
        // A wait is told in whole nanoseconds, so what is missing after it is rounding.
        if seconds <= ROUNDING_SECONDS {
            return Duration::ZERO;
        }
        // A debt so deep that it overflows a Duration is still a wait that others can end.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn fill(&mut self, now: Duration) {
        let elapsed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = self.filled_at.max(now);
        self.tokens = (self.tokens + elapsed * self.per_second).min(self.burst);
    }
}

/// How much to read at a time under a rate, so that a read brings no more than a second's worth of
/// messages.
///
/// Nobody knows how many messages the unread bytes hold, but a byte holds at most one. So the size
/// begins with as many bytes as there may be messages, follows what the last read held, and doubles
/// while reads bring no whole message.
#[derive(Clone, Copy, Debug)]
pub struct ReadSize {
    per_second: u64,
    bytes: u64,
}

impl ReadSize {
    /// For `per_second` messages a second.
    pub fn new(per_second: u64) -> Self {
        let per_second = per_second.max(1);
        ReadSize {
            per_second,
            bytes: per_second,
        }
    }

    /// What to read at most.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// So many bytes were read, and so many messages found in them.
    pub fn took(&mut self, bytes: u64, messages: u64) {
        if bytes == 0 {
            return;
        }
        self.bytes = match messages {
            0 => self.bytes.saturating_mul(2),
            _ => self
                .per_second
                .saturating_mul(bytes / messages)
                .max(self.per_second),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads a stream of messages of these sizes, all of which is there: the most that a read has
    /// brought, and how many reads there were.
    fn reads(per_second: u64, sizes: &[u64]) -> (u64, usize) {
        let mut size = ReadSize::new(per_second);
        let ends: Vec<u64> = sizes
            .iter()
            .scan(0, |at, size| {
                *at += size;
                Some(*at)
            })
            .collect();
        let (mut at, mut most, mut reads) = (0, 0, 0);
        while at < ends[ends.len() - 1] {
            let to = at + size.bytes();
            let messages = ends.iter().filter(|&&end| end > at && end <= to).count() as u64;
            size.took(size.bytes(), messages);
            most = most.max(messages);
            (at, reads) = (to, reads + 1);
        }
        (most, reads)
    }

    #[test]
    fn a_read_brings_no_more_than_a_seconds_worth_of_messages_of_one_size() {
        for per_second in [1, 2, 40, 1000] {
            for size in [1, 2, 100, 65_536] {
                let (most, _) = reads(per_second, &[size; 3000]);
                // While it doubles it may find a second's worth more than it began with.
                assert!(most <= 2 * per_second, "{per_second}, {size}: {most}");
            }
        }
    }

    #[test]
    fn a_long_message_takes_few_reads_though_short_ones_came_before() {
        let sizes = [vec![1; 50], vec![65_536; 3], vec![1; 50]].concat();
        let (most, reads) = reads(1, &sizes);
        assert!(reads < 150, "{reads}");
        // One read goes beyond what is allowed: the one that had grown for the long message.
        assert!(most <= 51, "{most}");
    }

    #[test]
    fn holds_the_rate_over_an_hour_whatever_the_size_of_a_take() {
        for size in [1, 7, 1_000] {
            let mut now = Duration::ZERO;
            let mut bucket = TokenBucket::new(100.0, now);
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
        let mut bucket = TokenBucket::new(100.0, Duration::ZERO);
        let later = Duration::from_secs(3600);
        bucket.take(10, later);
        assert_eq!(bucket.wait(later).as_millis(), 10);
    }
}
