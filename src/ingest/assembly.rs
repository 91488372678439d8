//! Makes batches of what a decoder finds, framed as they are written out.

use std::mem::{size_of, take};
use std::ops::Range;

use memchr::memchr_iter;

use super::batch::{Batch, BatchLimit};
use super::buffer::Buffer;
use super::framing::{Event, OutputFraming, Violation};
use super::ledger::Entry;
use super::pool::Pool;

/// What a read brought.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Whole messages: one batch, where the limits do not ask for more.
    pub(super) batches: Vec<Batch>,
    /// Messages dropped for being too long.
    pub(super) dropped: u64,
    /// Messages in `batches` that are the beginning of longer ones.
    pub(super) truncated: u64,
    /// Messages in `batches` and dropped ones.
    pub(super) finished: u64,
    /// The peer broke the protocol.
    pub(super) violation: Option<Violation>,
}

/// How batches are made for a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Form {
    pub(super) limit: BatchLimit,
    pub(super) framing: OutputFraming,
    /// A message may hold what ends one in `framing`.
    pub(super) is_indexed: bool,
}

/// The batches of one input, as they are made. Nothing is copied while all that came is one run that goes out as
/// it came, in one batch.
pub(super) struct Assembly<'a> {
    form: Form,
    pool: &'a Pool,
    input: &'a [u8],
    /// What the input's buffer would weigh.
    capacity: usize,
    at: usize,
    /// The input's first bytes are this run, and nothing has been added to it.
    whole: Option<(usize, u64)>,
    bytes: Buffer,
    ends: Vec<u32>,
    messages: u64,
    frames: &'a mut Frames,
    entry: &'a mut Entry,
}

impl<'a> Assembly<'a> {
    /// What is found in `input`, whose buffer weighs `capacity`, goes into `frames` and `entry`.
    pub(super) fn new(
        form: Form,
        pool: &'a Pool,
        input: &'a [u8],
        capacity: usize,
        frames: &'a mut Frames,
        entry: &'a mut Entry,
    ) -> Self {
        Assembly {
            form,
            pool,
            input,
            capacity,
            at: 0,
            whole: None,
            bytes: Buffer::default(),
            ends: Vec::new(),
            messages: 0,
            frames,
            entry,
        }
    }

    pub(super) fn take(&mut self, event: Event) {
        match event {
            Event::Run {
                len,
                messages,
                delimiter,
            } => {
                let run = self.pass(len);
                self.entry.messages += len as u64 - messages;
                self.entry.framing += messages;
                self.frames.finished += messages;
                self.add_run(run, messages, delimiter);
            }
            Event::Message { len, is_truncated } => {
                let message = self.pass(len);
                self.entry.messages += len as u64;
                self.entry.truncated += u64::from(is_truncated);
                self.frames.finished += 1;
                self.unfold();
                self.add(&self.input[message]);
            }
            Event::Framing { len } => {
                self.pass(len);
                self.entry.framing += len as u64;
            }
            Event::Discard { len, reason } => {
                self.pass(len);
                self.entry.discarded.add(reason, len as u64);
            }
            Event::Dropped => {
                self.frames.dropped += 1;
                self.frames.finished += 1;
            }
            Event::Partial => self.entry.partial += 1,
            Event::Violation(violation) => self.frames.violation = Some(violation),
        }
    }

    /// All of the input was passed. What was found is in the frames and in the entry, but for what is returned: so
    /// many of its first bytes, holding so many messages, are a batch as they are.
    pub(super) fn finish(mut self, consumed: usize) -> Option<(usize, u64)> {
        debug_assert_eq!(consumed, self.at, "every consumed byte is in an event");
        self.flush();
        self.frames.truncated = self.entry.truncated;
        let sent = |batch: &Batch| crate::server::Weigh::messages(batch);
        debug_assert_eq!(
            self.frames.batches.iter().map(sent).sum::<u64>()
                + self.frames.dropped
                + self.whole.map_or(0, |(_, messages)| messages),
            self.frames.finished,
            "every finished message is in a batch or dropped"
        );
        self.whole
    }

    /// The next `len` bytes of the input.
    fn pass(&mut self, len: usize) -> Range<usize> {
        let start = self.at;
        self.at += len;
        start..self.at
    }

    fn add_run(&mut self, run: Range<usize>, messages: u64, delimiter: u8) {
        let goes_as_it_is =
            self.form.framing.delimiter() == Some(delimiter) && !self.form.is_indexed;
        // It will weigh its buffer, or its own length if that is less than half of it.
        let weight = self.capacity.min(run.len() * 2);
        if goes_as_it_is && run.start == 0 && self.form.limit.holds(messages, weight) {
            self.whole = Some((run.len(), messages));
            return;
        }
        self.unfold();
        if goes_as_it_is
            && self
                .form
                .limit
                .holds(self.messages + messages, self.bytes.len() + run.len())
        {
            let input = self.input;
            self.room(run.len()).append(&input[run]);
            self.messages += messages;
            return;
        }
        let run = &self.input[run];
        let mut start = 0;
        for end in memchr_iter(delimiter, run) {
            self.add(&run[start..end]);
            start = end + 1;
        }
    }

    /// There is more than the one run: it has to be copied after all.
    fn unfold(&mut self) {
        if let Some((len, messages)) = self.whole.take() {
            let input = self.input;
            self.room(len).append(&input[..len]);
            self.messages += messages;
        }
    }

    fn add(&mut self, message: &[u8]) {
        let more = message.len() + OutputFraming::MOST_BYTES;
        let ends = (self.ends.len() + 1) * size_of::<u32>();
        let limit = &self.form.limit;
        let is_in_limit = limit.holds(self.messages + 1, self.bytes.len() + more + ends);
        // One of the pool's buffers is not outgrown: it would not come back.
        let is_full = self.bytes.capacity() == self.pool.buffer_bytes()
            && self.bytes.len() + more > self.bytes.capacity();
        if self.messages > 0 && (is_full || !is_in_limit) {
            self.flush();
        }
        let framing = self.form.framing;
        framing.write(message, self.room(more));
        if self.form.is_indexed {
            // A batch is at most an eighth of the buffer, or one message: below 2^32.
            self.ends.push((self.bytes.len() - 1) as u32);
        }
        self.messages += 1;
    }

    /// Where the next batch is written, of `first` bytes at least. If there is much, one of the pool's buffers spares the
    /// allocator: they come back from the sink, unless they are outgrown.
    fn room(&mut self, first: usize) -> &mut Buffer {
        let whole = self.pool.buffer_bytes();
        if self.bytes.capacity() == 0 && self.input.len() >= whole / 2 && first <= whole {
            self.bytes = self.pool.take();
        }
        &mut self.bytes
    }

    fn flush(&mut self) {
        let (mut bytes, mut ends, messages) = (
            take(&mut self.bytes),
            take(&mut self.ends),
            take(&mut self.messages),
        );
        if messages > 0 {
            ends.shrink_to_fit();
            // Taken as it is, unless that would pin a large buffer for little, or be too much at once.
            let weight = bytes.capacity() + ends.capacity() * size_of::<u32>();
            if bytes.len() < bytes.capacity() / 2 || !self.form.limit.holds(messages, weight) {
                bytes = self.pool.right_sized(bytes);
            }
            self.frames
                .batches
                .push(Batch::new(bytes, messages, self.form.framing, ends));
        }
    }
}
