//! How long to wait before trying again what failed.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// A back-off that doubles from 100 ms to 5 s, jittered: each wait is between half and all of it, so that
/// many servers before one sink do not come back together.
///
/// Its longest wait is well below the default `send_timeout`: a short outage costs no connection.
#[derive(Clone, Debug)]
pub struct Backoff {
    next: Duration,
    random: u64,
}

impl Backoff {
    /// The first wait, before jitter.
    pub const FIRST: Duration = Duration::from_millis(100);
    /// The longest wait.
    pub const LONGEST: Duration = Duration::from_secs(5);

    /// A back-off at its beginning.
    pub fn new() -> Self {
        // std's hasher keys are random for each process: enough of a seed for jitter.
        Backoff {
            next: Self::FIRST,
            random: RandomState::new().hash_one(0) | 1,
        }
    }

    /// Something failed since the last reset.
    pub fn is_running(&self) -> bool {
        self.next > Self::FIRST
    }

    /// It worked: the next failure begins anew.
    pub fn reset(&mut self) {
        self.next = Self::FIRST;
    }

    /// How long to wait now.
    pub fn next_wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (self.next * 2).min(Self::LONGEST);
        // xorshift64
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let half = wait / 2;
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
        let mut whole = Backoff::FIRST;
        for _ in 0..20 {
            let wait = backoff.next_wait();
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
            whole = (whole * 2).min(Backoff::LONGEST);
        }
        assert_eq!(whole, Backoff::LONGEST);
        backoff.reset();
        assert!(backoff.next_wait() <= Backoff::FIRST);
    }
}
