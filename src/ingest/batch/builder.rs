//! Makes a batch of what a decoder finds, framed as it is written out.

use std::mem::size_of;
use std::ops::Range;

use memchr::{memchr, memchr_iter, memrchr};

use super::buffer::Buffer;
use super::pool::Pool;
use super::{Batch, BatchLimit};
use crate::ingest::framing::{Event, Framing, OutputFraming, Seen, Take, Violation};
use crate::ingest::ledger::Entry;
use crate::server::heap_bytes;

/// What one step of decoding found.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    /// The whole messages.
    pub(crate) batch: Option<Batch>,
    /// Messages dropped for being too long.
    pub(crate) dropped: u64,
    /// Messages in the batch that are the beginning of longer ones.
    pub(crate) truncated: u64,
    /// The first message that was too long, unless `violation` tells of it.
    pub(crate) oversize: Option<Seen>,
    /// Messages in the batch, and dropped ones.
    pub(crate) finished: u64,
    /// The peer broke the protocol.
    pub(crate) violation: Option<Violation>,
}

/// How batches are made for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchFormat {
    pub(crate) limit: BatchLimit,
    pub(crate) input: Framing,
    pub(crate) framing: OutputFraming,
    /// A message may hold the delimiter of `framing`.
    pub(crate) is_indexed: bool,
}

impl BatchFormat {
    /// Messages in a batch with an index: an index of more would be as large as a read.
    const MAX_INDEXED: u64 = 4096;

    /// What the index of a batch takes at most, in bytes.
    pub(crate) fn index_bytes(&self) -> usize {
        match self.is_indexed {
            true => heap_bytes(Self::MAX_INDEXED as usize * size_of::<u32>()),
            false => 0,
        }
    }

    fn max_messages(&self) -> u64 {
        match self.is_indexed {
            true => self.limit.messages().min(Self::MAX_INDEXED),
            false => self.limit.messages(),
        }
    }
}

/// Makes the batch of one input. Nothing is copied while the input is one run that can be written
/// out as it came.
///
/// The builder takes what one batch holds and no more: a handler never has a second batch, however
/// many messages one read brought.
pub(crate) struct BatchBuilder<'a> {
    format: BatchFormat,
    pool: &'a Pool,
    input: &'a [u8],
    /// What the input's buffer would weigh as a batch.
    capacity: usize,
    at: usize,
    /// The input's first bytes are a run of this length with so many messages, and nothing has been
    /// added to it.
    whole: Option<(usize, u64)>,
    bytes: Buffer,
    ends: Vec<u32>,
    messages: u64,
    /// The batch had no capacity for some message.
    is_full: bool,
    decoded: &'a mut Decoded,
    entry: &'a mut Entry,
}

impl<'a> BatchBuilder<'a> {
    /// What is found in `input`, whose buffer weighs `capacity`, goes into `decoded` and `entry`.
    pub(crate) fn new(
        format: BatchFormat,
        pool: &'a Pool,
        input: &'a [u8],
        capacity: usize,
        decoded: &'a mut Decoded,
        entry: &'a mut Entry,
    ) -> Self {
        BatchBuilder {
            format,
            pool,
            input,
            capacity,
            at: 0,
            whole: None,
            bytes: Buffer::default(),
            ends: Vec::new(),
            messages: 0,
            is_full: false,
            decoded,
            entry,
        }
    }

    /// Completes the `Decoded` and the entry. Where the input's first bytes are the batch as they
    /// are, returns how many they are and how many messages they hold; and whether some message
    /// found no capacity in the batch.
    pub(crate) fn finish(mut self, consumed: usize) -> (Option<(usize, u64)>, bool) {
        debug_assert_eq!(consumed, self.at, "every consumed byte is in an event");
        self.decoded.truncated = self.entry.truncated;
        debug_assert_eq!(
            self.messages + self.decoded.dropped,
            self.decoded.finished,
            "every finished message is in the batch or dropped"
        );
        if self.whole.is_none() && self.messages > 0 {
            self.ends.shrink_to_fit();
            let mut bytes = std::mem::take(&mut self.bytes);
            // The buffer is taken as it is, unless that would pin a large one for little, or be too
            // much at once.
            let weight = bytes.capacity() + self.ends.capacity() * size_of::<u32>();
            if bytes.len() < bytes.capacity() / 2 || !self.format.limit.holds(self.messages, weight)
            {
                bytes = self.pool.right_sized(bytes);
            }
            let ends = std::mem::take(&mut self.ends);
            self.decoded.batch = Some(Batch::new(bytes, self.messages, self.format.framing, ends));
        }
        (self.whole, self.is_full)
    }

    /// Passes the next `len` bytes of the input, and returns where they are.
    fn pass(&mut self, len: usize) -> Range<usize> {
        let start = self.at;
        self.at += len;
        start..self.at
    }

    /// The most bytes that are copied into a batch: they stay within one of the pool's buffers,
    /// since a buffer that was outgrown would not come back.
    fn max_copied(&self) -> usize {
        self.format.limit.bytes().min(self.pool.buffer_bytes())
    }

    /// Bytes that are copied, or would have to be if more came.
    fn copied(&self) -> usize {
        let whole = self.whole.map_or(0, |(len, _)| len);
        whole + self.bytes.len() + self.ends.len() * size_of::<u32>()
    }

    /// How much of a run can be a batch without being copied: the length in bytes, and the
    /// messages.
    fn whole_part(&self, run: &[u8], messages: u64, delimiter: u8) -> (usize, u64) {
        let limit = &self.format.limit;
        // The batch will weigh its buffer, or its own length if that is less than half of the
        // buffer.
        if limit.holds(messages, self.capacity.min(run.len() * 2)) {
            return (run.len(), messages);
        }
        // A part of the run has to be copied.
        let max = self.max_copied().min(run.len());
        match nth(run, delimiter, limit.messages()) {
            Some(end) if end < max => (end + 1, limit.messages()),
            _ => match memrchr(delimiter, &run[..max]) {
                Some(last) => {
                    let messages = memchr_iter(delimiter, &run[..=last]).count();
                    (last + 1, messages as u64)
                }
                // A message alone may weigh more.
                None => (memchr(delimiter, run).map_or(run.len(), |end| end + 1), 1),
            },
        }
    }

    /// More than the one run goes into the batch: the run has to be copied after all.
    fn unfold(&mut self) {
        if let Some((len, _)) = self.whole.take() {
            let input = self.input;
            self.reserve(len).append(&input[..len]);
        }
    }

    fn add(&mut self, message: &[u8]) {
        self.unfold();
        let framing = self.format.framing;
        self.reserve(message.len() + OutputFraming::MAX_BYTES)
            .append_framed(message, framing);
        if self.format.is_indexed {
            // A batch is at most an eighth of the buffer, or one message: below 2^32.
            self.ends.push((self.bytes.len() - 1) as u32);
        }
        self.messages += 1;
    }

    /// The buffer that the batch is written to, with capacity for `more` bytes. A large batch uses
    /// one of the pool's buffers, which come back from the sink, instead of the allocator. Only a
    /// message that is alone outgrows one of those.
    fn reserve(&mut self, more: usize) -> &mut Buffer {
        let (whole, len) = (self.pool.buffer_bytes(), self.bytes.len());
        let is_outgrown = self.bytes.capacity() - len < more;
        let is_much = self.input.len() >= whole / 2 || len.max(more) + len > whole / 2;
        if is_outgrown && is_much && len + more <= whole && self.max_copied() > whole / 2 {
            let mut larger = self.pool.take();
            larger.append(&self.bytes);
            self.bytes = larger;
        }
        &mut self.bytes
    }

    /// A message that begins at `start` is too long.
    fn see(&mut self, start: usize) {
        let message = &self.input[start..];
        let seen = || Seen::of_too_long(message, self.format.input);
        self.decoded.oversize.get_or_insert_with(seen);
    }

    fn book_run(&mut self, len: usize, messages: u64, delimiter: u8) {
        let run = Event::Run {
            len,
            messages,
            delimiter,
        };
        self.decoded.book(&run, self.entry);
    }
}

impl Decoded {
    /// Books what an event says of bytes and messages.
    fn book(&mut self, event: &Event, entry: &mut Entry) {
        match *event {
            Event::Run { len, messages, .. } => {
                entry.messages += len as u64 - messages;
                entry.framing += messages;
                self.finished += messages;
            }
            Event::Message { len, is_truncated } => {
                entry.messages += len as u64;
                entry.truncated += u64::from(is_truncated);
                self.finished += 1;
            }
            Event::Framing { len } => entry.framing += len as u64,
            Event::Discard { len, reason } => entry.discarded.add(reason, len as u64),
            Event::Dropped => {
                self.dropped += 1;
                self.finished += 1;
            }
            Event::Unterminated => entry.unterminated += 1,
            Event::Violation(violation) => self.violation = Some(violation),
        }
    }
}

/// Books messages that nobody takes any more, and makes no batch of them.
pub(crate) struct Uncollected<'a> {
    pub(crate) decoded: &'a mut Decoded,
    pub(crate) entry: &'a mut Entry,
}

impl Take for Uncollected<'_> {
    fn take(&mut self, event: Event) {
        self.decoded.book(&event, self.entry);
    }
}

impl Take for BatchBuilder<'_> {
    fn take(&mut self, event: Event) {
        match event {
            Event::Run {
                len,
                messages,
                delimiter,
            } => {
                self.take_run(len, messages, delimiter);
                return;
            }
            Event::Message { len, is_truncated } => {
                let message = self.pass(len);
                if is_truncated {
                    self.see(message.start);
                }
                let input = self.input;
                self.add(&input[message]);
            }
            Event::Framing { len } | Event::Discard { len, .. } => {
                self.pass(len);
            }
            Event::Dropped => self.see(self.at),
            Event::Unterminated | Event::Violation(_) => {}
        }
        self.decoded.book(&event, self.entry);
    }

    fn can_take(&mut self, len: usize) -> bool {
        let index = if self.format.is_indexed {
            size_of::<u32>()
        } else {
            0
        };
        let more = len + OutputFraming::MAX_BYTES + index;
        let fits =
            self.messages < self.format.max_messages() && self.copied() + more <= self.max_copied();
        // A message alone may weigh more.
        let can_take = fits || self.messages == 0;
        self.is_full |= !can_take;
        can_take
    }

    fn take_run(&mut self, len: usize, messages: u64, delimiter: u8) -> usize {
        let input = self.input;
        let run = &input[self.at..self.at + len];
        let goes_as_it_is =
            self.format.framing.delimiter() == Some(delimiter) && !self.format.is_indexed;
        if goes_as_it_is && self.at == 0 {
            let (part, messages) = self.whole_part(run, messages, delimiter);
            self.pass(part);
            self.book_run(part, messages, delimiter);
            self.whole = Some((part, messages));
            self.messages = messages;
            self.is_full |= part < len;
            return part;
        }
        if goes_as_it_is
            && self.format.limit.holds(self.messages + messages, 0)
            && self.copied() + len <= self.max_copied()
        {
            self.unfold();
            self.pass(len);
            self.book_run(len, messages, delimiter);
            self.reserve(len).append(run);
            self.messages += messages;
            return len;
        }
        let mut start = 0;
        for end in memchr_iter(delimiter, run) {
            if !self.can_take(end - start) {
                break;
            }
            self.add(&run[start..end]);
            self.book_run(end + 1 - start, 1, delimiter);
            start = end + 1;
        }
        self.pass(start).len()
    }
}

/// Where the n-th of these bytes is, counted from 1.
fn nth(run: &[u8], delimiter: u8, n: u64) -> Option<usize> {
    let before = usize::try_from(n).ok()?.checked_sub(1)?;
    memchr_iter(delimiter, run).nth(before)
}
