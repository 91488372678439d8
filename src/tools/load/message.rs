//! What is written: messages rendered once and sent again and again, or each rendered anew.

use std::time::SystemTime;

use drainline::ingest::OutputFraming;

use super::super::tag::{Tag, append_stamp};
use super::plan::{Plan, Sizes};

/// Messages in a ring whose sizes differ, unless they are large.
const VARIED: usize = 4096;
const MAX_RING_BYTES: usize = 4 << 20;

/// Where a load's bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    Ring(Ring),
    Renderer(Renderer),
}

impl Source {
    pub(super) fn new(plan: &Plan) -> Source {
        if plan.numbered || plan.timestamped {
            Source::Renderer(Renderer {
                sizes: plan.sizes,
                framing: plan.framing,
                numbered: plan.numbered,
                timestamped: plan.timestamped,
                filling: filling(plan.sizes.longest),
            })
        } else {
            Source::Ring(Ring::new(plan.sizes, plan.framing, plan.write_size))
        }
    }
}

/// A stream without end that repeats itself: sending it costs no more than the write.
#[derive(Debug)]
pub(super) struct Ring {
    /// A period, and as much of the next as one write may take.
    bytes: Vec<u8>,
    period: u64,
    /// Where each message of a period ends.
    ends: Vec<u64>,
}

impl Ring {
    pub(super) fn new(sizes: Sizes, framing: OutputFraming, write_size: usize) -> Ring {
        let filling = filling(sizes.longest);
        let (mut bytes, mut ends) = (Vec::new(), Vec::new());
        let varied = if sizes.shortest == sizes.longest {
            1
        } else {
            VARIED
        };
        // So long that a write is whole messages where messages are small.
        while ends.is_empty()
            || bytes.len() + frame_bytes(sizes.longest) <= write_size
            || (ends.len() < varied && bytes.len() < MAX_RING_BYTES)
        {
            let length = sizes.of(0, ends.len() as u64);
            frame(framing, length, &mut bytes, |bytes| {
                bytes.extend_from_slice(&filling[..length])
            });
            ends.push(bytes.len() as u64);
        }
        let period = bytes.len();
        while bytes.len() < period + write_size {
            let more = (period + write_size - bytes.len()).min(period);
            bytes.extend_from_within(..more);
        }
        Ring {
            bytes,
            period: period as u64,
            ends,
        }
    }

    /// The bytes of the stream's first `messages` messages.
    pub(super) fn bytes_of(&self, messages: u64) -> u64 {
        let count = self.ends.len() as u64;
        let part = match messages % count {
            0 => 0,
            some => self.ends[some as usize - 1],
        };
        (messages / count)
            .saturating_mul(self.period)
            .saturating_add(part)
    }

    /// Whole messages in the stream's first `bytes` bytes.
    pub(super) fn messages_in(&self, bytes: u64) -> u64 {
        let rest = bytes % self.period;
        let part = self.ends.partition_point(|end| *end <= rest);
        bytes / self.period * self.ends.len() as u64 + part as u64
    }

    /// `len` bytes of the stream from `from`; at most one write's.
    pub(super) fn slice(&self, from: u64, len: usize) -> &[u8] {
        &self.bytes[(from % self.period) as usize..][..len]
    }
}

/// Makes messages that differ: tagged, stamped, or both.
#[derive(Debug)]
pub(super) struct Renderer {
    sizes: Sizes,
    framing: OutputFraming,
    numbered: bool,
    timestamped: bool,
    filling: Vec<u8>,
}

impl Renderer {
    /// Appends message `seq` of `connection`, stamped with `nanos` where messages are.
    pub(super) fn render(&self, connection: u32, seq: u64, nanos: u64, to: &mut Vec<u8>) {
        let length = self.sizes.of(connection, seq);
        let stamp = self.timestamped.then_some(nanos);
        frame(self.framing, length, to, |bytes| {
            if self.numbered {
                let tag = Tag {
                    connection,
                    seq,
                    stamp,
                };
                tag.append(bytes, length);
            } else {
                let start = bytes.len();
                append_stamp(bytes, nanos);
                let rest = length - (bytes.len() - start);
                bytes.extend_from_slice(&self.filling[..rest]);
            }
        });
    }
}

/// Rendered messages, on their way into the kernel.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bytes: Vec<u8>,
    /// Where each message ends.
    pub(super) ends: Vec<usize>,
    /// How many bytes, and how many whole messages, the kernel took.
    pub(super) taken: usize,
    pub(super) messages: usize,
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.ends.clear();
        (self.taken, self.messages) = (0, 0);
    }

    pub(super) fn is_done(&self) -> bool {
        self.taken == self.bytes.len()
    }

    /// The kernel took `bytes` more. Returns how many messages that finished.
    pub(super) fn take(&mut self, bytes: usize) -> u64 {
        self.taken += bytes;
        let before = self.messages;
        while self
            .ends
            .get(self.messages)
            .is_some_and(|end| *end <= self.taken)
        {
            self.messages += 1;
        }
        (self.messages - before) as u64
    }

    /// Leaves of what is not taken only the rest of a message that has begun.
    pub(super) fn drop_unsent(&mut self) {
        let is_inside = self.begun();
        self.ends.truncate(self.messages + usize::from(is_inside));
        self.bytes.truncate(self.ends.last().copied().unwrap_or(0));
    }

    /// The kernel has a message of it in part.
    pub(super) fn begun(&self) -> bool {
        self.taken
            > self
                .messages
                .checked_sub(1)
                .map_or(0, |last| self.ends[last])
    }
}

/// Nanoseconds since 1970.
pub(super) fn now_nanos() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos() as u64)
}

/// A message of `length` bytes takes at most this many with its framing.
fn frame_bytes(length: usize) -> usize {
    length + 11
}

fn frame(
    framing: OutputFraming,
    length: usize,
    to: &mut Vec<u8>,
    message: impl FnOnce(&mut Vec<u8>),
) {
    match framing {
        OutputFraming::OctetCounted => {
            to.extend_from_slice(length.to_string().as_bytes());
            to.push(b' ');
        }
        OutputFraming::LengthPrefixed => to.extend_from_slice(&(length as u32).to_be_bytes()),
        _ => {}
    }
    message(to);
    to.extend(framing.delimiter());
}

/// Printable, without a LF, and not the same byte again and again.
fn filling(length: usize) -> Vec<u8> {
    (b'a'..=b'z')
        .chain(b'0'..=b'9')
        .cycle()
        .take(length)
        .collect()
}
