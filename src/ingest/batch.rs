//! Whole messages of one read, in one buffer.

use std::fmt;
use std::mem::size_of;

use memchr::memchr_iter;

use crate::server::{Config, Weigh};

/// Whole messages in one buffer, each followed by a delimiter byte that none of them holds.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Vec<u8>,
    messages: u64,
    delimiter: u8,
}

impl Batch {
    /// A batch of `messages` messages that `bytes` holds, each ended by `delimiter`.
    pub(super) fn new(bytes: Vec<u8>, messages: u64, delimiter: u8) -> Self {
        Batch {
            bytes,
            messages,
            delimiter,
        }
    }

    /// Its messages, in the order in which they came, without their delimiters.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        let mut start = 0;
        memchr_iter(self.delimiter, &self.bytes).map(move |end| {
            let message = &self.bytes[start..end];
            start = end + 1;
            message
        })
    }

    /// Its messages as they are written to a file of lines: each followed by the delimiter.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The byte that follows each message.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// How many messages end in these bytes of [`as_bytes`](Batch::as_bytes).
    pub(super) fn count_in(&self, range: std::ops::Range<usize>) -> u64 {
        memchr_iter(self.delimiter, &self.bytes[range]).count() as u64
    }

    pub(super) fn into_buffer(self) -> Vec<u8> {
        self.bytes
    }
}

/// Without the bytes: payloads stay out of logs.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("messages", &self.messages)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Weigh for Batch {
    fn messages(&self) -> u64 {
        self.messages
    }

    fn bytes(&self) -> usize {
        self.bytes.capacity()
    }
}

/// How much a batch may hold: an eighth of either bound of the buffer, so that one that waits for room at
/// the head of the line leaves at most that much idle. A single message may weigh more.
#[derive(Clone, Copy, Debug)]
pub(super) struct BatchLimit {
    messages: u64,
    bytes: usize,
}

impl BatchLimit {
    pub(super) fn of(config: &Config) -> Self {
        BatchLimit {
            messages: (config.buffer_messages as u64 / 8).max(1),
            bytes: (config.buffer_bytes / 8).saturating_sub(size_of::<Batch>() * 2),
        }
    }

    pub(super) fn holds(&self, messages: u64, bytes: usize) -> bool {
        messages <= self.messages && bytes <= self.bytes
    }
}
