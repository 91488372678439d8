//! How long to wait before trying again what failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A back-off that doubles from 100 ms to 5 s, jittered: each wait is between half and all of it,
/// so that many servers before one sink do not come back together.
///
/// Its longest wait is well below the default `send_timeout`: a short outage costs no connection.
#[derive(Clone, Debug)]
pub struct Backoff {
    /// The last wait, before jitter; zero since the last reset.
    last: Duration,
    random: u64,
}

impl Backoff {
    /// The first wait, before jitter.
    pub const FIRST_WAIT: Duration = Duration::from_millis(100);
    /// The longest wait.
    pub const MAX_WAIT: Duration = Duration::from_secs(5);

    /// A back-off at its beginning.
    pub fn new() -> Self {
        // std's hasher keys are random for each process: enough of a seed for jitter.
        Backoff {
            last: Duration::ZERO,
            random: RandomState::new().hash_one(0) | 1,
        }
    }

    /// Whether something failed since the last reset.
    pub fn is_running(&self) -> bool {
        !self.last.is_zero()
    }

    /// A try ended well: the next failure begins with the shortest wait. For a try that delivered
    /// something and failed all the same there is [`eased_wait`](Backoff::eased_wait).
    pub fn reset(&mut self) {
        self.last = Duration::ZERO;
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        self.last = (self.last * 2).clamp(Self::FIRST_WAIT, Self::MAX_WAIT);
        self.jittered()
    }

    /// How long to wait now, after a try that delivered something before it failed: half as long as
    /// the last time. A sink that takes little at a time is soon tried often, and one success does
    /// not end a long outage.
    pub fn eased_wait(&mut self) -> Duration {
        self.last = (self.last / 2).max(Self::FIRST_WAIT);
        self.jittered()
    }

    fn jittered(&mut self) -> Duration {
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = self.last / 2;
        half + half.mul_f64((self.random >> 11) as f64 / (1u64 << 53) as f64)
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_to_its_longest_and_stays_within_its_jitter() {
        let mut backoff = Backoff::new();
        let mut whole = Backoff::FIRST_WAIT;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(Backoff::MAX_WAIT);
        }
        assert_eq!(whole, Backoff::MAX_WAIT);
        assert!(backoff.is_running());
        backoff.reset();
        assert!(!backoff.is_running());
        assert!(backoff.next_wait() <= Backoff::FIRST_WAIT);
    }

    #[test]
    fn is_halved_by_what_a_failing_try_brought() {
        let mut backoff = Backoff::new();
        assert!(backoff.eased_wait() <= Backoff::FIRST_WAIT);
        for _ in 0..20 {
            backoff.next_wait();
        }
        let mut whole = Backoff::MAX_WAIT;
        for _ in 0..10 {
            whole = (whole / 2).max(Backoff::FIRST_WAIT);
            let wait = backoff.eased_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
        assert_eq!(whole, Backoff::FIRST_WAIT);
        assert!(backoff.is_running());
    }
}
