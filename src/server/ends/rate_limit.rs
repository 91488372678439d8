//! What a connection has read and sent, against its rate limit.

use std::time::{Duration, Instant};

use crate::policy::{ReadSize, TokenBucket};

/// Reads the clock at each charge. Without a rate limit, reads need no clock.
pub(super) struct RateLimit {
    bucket: TokenBucket,
    started: Instant,
    /// Messages that the bucket was charged with.
    charged: u64,
    size: ReadSize,
    /// Messages that were sent when the last read began, and bytes that it returned.
    sent_at_read: u64,
    read: u64,
    has_waited: bool,
}

impl RateLimit {
    /// `rate` in messages a second.
    pub(super) fn new(rate: u64) -> Self {
        RateLimit {
            bucket: TokenBucket::new(rate as f64, Duration::ZERO),
            started: Instant::now(),
            charged: 0,
            size: ReadSize::new(rate),
            sent_at_read: 0,
            read: 0,
            has_waited: false,
        }
    }

    /// Charges the `messages` so far. Returns how long to wait before more of them.
    pub(super) fn charge(&mut self, messages: u64) -> Duration {
        let now = self.started.elapsed();
        self.bucket.take(messages - self.charged, now);
        self.charged = messages;
        self.bucket.wait(now)
    }

    /// Whether no wait came before this one, which the caller is about to make.
    pub(super) fn is_first_wait(&mut self) -> bool {
        !std::mem::replace(&mut self.has_waited, true)
    }

    pub(super) fn has_read(&mut self, bytes: usize) {
        self.read += bytes as u64;
    }

    /// How many bytes the next read may return, after `messages` that were sent: about a second's
    /// worth.
    pub(super) fn next_read(&mut self, messages: u64) -> usize {
        let sent = messages - self.sent_at_read;
        self.size.took(self.read, sent);
        (self.sent_at_read, self.read) = (messages, 0);
        usize::try_from(self.size.bytes()).unwrap_or(usize::MAX)
    }
}
