//! Reads a connection and makes batches of whole messages, one read at a time.

use std::io::{self, Read};

use super::batch::{Batch, BatchLimit};
use super::framing::{Delimited, Discard, End, Event};
use super::ledger::{ByteLedger, Entry};
use super::pool::Pool;
use crate::server::Connection;

/// A first read into this much stack costs neither a page nor a system call more, and an idle connection
/// holds no buffer at all.
const SMALL_READ: usize = 512;

/// One connection's reader.
///
/// Small reads go by way of the stack into memory of their own size. A read that fills the small buffer is
/// the sign of more: then whole buffers are read, without waiting, until nothing is there; only the small
/// read waits.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pool: &'a Pool,
    ledger: &'a ByteLedger,
    limit: BatchLimit,
    decoder: Delimited,
    /// What is read and not yet whole.
    pending: Vec<u8>,
    /// There was more than a small read takes.
    is_eager: bool,
    /// What the ledger knows of `pending`.
    pending_booked: u64,
}

/// What a read brought.
#[derive(Debug, Default)]
pub(super) struct Frames {
    /// Whole messages: one batch, where the limits do not ask for more.
    pub(super) batches: Vec<Batch>,
    /// Messages dropped for being too long.
    pub(super) dropped: u64,
    /// Messages in `batches` and dropped ones.
    pub(super) finished: u64,
    /// The peer broke the protocol.
    pub(super) is_violation: bool,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        ledger: &'a ByteLedger,
        limit: BatchLimit,
        decoder: Delimited,
    ) -> Self {
        Reader {
            pool,
            ledger,
            limit,
            decoder,
            pending: Vec::new(),
            is_eager: false,
            pending_booked: 0,
        }
    }

    /// Reads once and cuts what came into messages. `None`: the peer ended its stream.
    ///
    /// # Errors
    /// As [`Connection::read`]. Then, as at the end, [`finish`](Reader::finish) gives the rest.
    pub(super) fn read(&mut self, connection: &mut Connection) -> io::Result<Option<Frames>> {
        let read = self.fill(connection)?;
        if read == 0 {
            return Ok(None);
        }
        let mut entry = Entry {
            read: read as u64,
            ..Entry::default()
        };
        let frames = self.cut(&mut entry);
        self.book(entry);
        Ok(Some(frames))
    }

    /// The last message, if the peer ended its stream inside one; otherwise books what is left as discarded.
    pub(super) fn finish(&mut self, end: End) -> Frames {
        let rest = std::mem::take(&mut self.pending);
        if rest.is_empty() {
            return Frames::default();
        }
        let mut entry = Entry::default();
        let mut assembly = Assembly::new(self.limit, self.decoder.delimiter(), rest.capacity());
        let mut at = 0;
        self.decoder.finish(&rest, end, |event| {
            assembly.take(event, &rest, &mut at, &mut entry)
        });
        if end == End::Eof {
            entry.partial = assembly.frames.finished - assembly.frames.dropped;
        }
        let frames = assembly.finish();
        self.book(entry);
        frames
    }

    /// An unfinished message has begun.
    pub(super) fn is_inside(&self) -> bool {
        self.decoder.is_inside(self.pending.len())
    }

    fn fill(&mut self, connection: &mut Connection) -> io::Result<usize> {
        if self.is_eager {
            self.grow();
            match connection.read_ready(&mut self.pending)? {
                Some(read) => return Ok(read),
                None => self.shrink(),
            }
        }
        let mut small = [0; SMALL_READ];
        let read = connection.read(&mut small)?;
        self.pending.extend_from_slice(&small[..read]);
        self.is_eager = read == SMALL_READ;
        Ok(read)
    }

    /// Gets a whole buffer, with what is pending at its beginning.
    fn grow(&mut self) {
        if self.pending.capacity() < self.pool.buffer_bytes() {
            let mut buffer = self.pool.take();
            buffer.extend_from_slice(&self.pending);
            self.pending = buffer;
        }
    }

    /// Nothing is there: whoever waits holds no more than what is pending.
    fn shrink(&mut self) {
        self.is_eager = false;
        let buffer = std::mem::take(&mut self.pending);
        self.pending = Vec::from(&buffer[..]);
        self.pool.put(buffer);
    }

    fn cut(&mut self, entry: &mut Entry) -> Frames {
        let input = std::mem::take(&mut self.pending);
        let mut assembly = Assembly::new(self.limit, self.decoder.delimiter(), input.capacity());
        let mut at = 0;
        let consumed = self
            .decoder
            .decode(&input, |event| assembly.take(event, &input, &mut at, entry));
        debug_assert_eq!(consumed, at, "every consumed byte is in an event");
        if consumed == 0 {
            self.pending = input;
            return assembly.finish();
        }
        let rest = Vec::from(&input[consumed..]);
        let frames = match assembly.whole {
            // Taken as it is, unless that would pin a large buffer for little.
            Some((len, messages)) if len >= input.capacity() / 2 => {
                let mut bytes = input;
                bytes.truncate(len);
                assembly.finish_with(Batch::new(bytes, messages, self.decoder.delimiter()))
            }
            Some((len, _)) => {
                assembly.copy_whole(&input[..len]);
                self.pool.put(input);
                assembly.finish()
            }
            None => {
                self.pool.put(input);
                assembly.finish()
            }
        };
        self.pending = rest;
        frames
    }

    fn book(&mut self, mut entry: Entry) {
        entry.pending_before = self.pending_booked;
        entry.pending_after = self.pending.len() as u64;
        self.pending_booked = entry.pending_after;
        self.ledger.book(&entry);
    }
}

/// A handler that ends in a way of its own leaves no byte unbooked.
impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.finish(End::Cut(Discard::Failed));
    }
}

/// Makes batches of events. Nothing is copied while all that came is one run that fits one batch.
struct Assembly {
    limit: BatchLimit,
    delimiter: u8,
    /// The input's.
    capacity: usize,
    /// The input's first bytes are this run, and nothing has been added to it.
    whole: Option<(usize, u64)>,
    bytes: Vec<u8>,
    messages: u64,
    frames: Frames,
}

impl Assembly {
    fn new(limit: BatchLimit, delimiter: u8, capacity: usize) -> Self {
        let (bytes, frames) = (Vec::new(), Frames::default());
        Assembly {
            limit,
            delimiter,
            capacity,
            whole: None,
            bytes,
            messages: 0,
            frames,
        }
    }

    fn take(&mut self, event: Event, input: &[u8], at: &mut usize, entry: &mut Entry) {
        let start = *at;
        match event {
            Event::Run { len, messages } => {
                *at += len;
                entry.messages += len as u64 - messages;
                entry.framing += messages;
                self.frames.finished += messages;
                if start > 0 {
                    self.unfold(input);
                }
                self.add_run(&input[start..*at], messages, start == 0);
            }
            Event::Message { len, is_truncated } => {
                *at += len;
                entry.messages += len as u64;
                entry.truncated += u64::from(is_truncated);
                self.frames.finished += 1;
                self.unfold(input);
                self.add(&input[start..*at], true);
            }
            Event::Framing { len } => {
                *at += len;
                entry.framing += len as u64;
            }
            Event::Discard { len, reason } => {
                *at += len;
                entry.discarded.add(reason, len as u64);
            }
            Event::Dropped => {
                self.frames.dropped += 1;
                self.frames.finished += 1;
            }
            Event::Violation => self.frames.is_violation = true,
        }
    }

    fn add_run(&mut self, run: &[u8], messages: u64, is_first: bool) {
        // It will weigh its buffer, or its own length if that is less than half of it: see `cut`.
        let weight = self.capacity.min(run.len() * 2);
        if is_first && self.limit.holds(messages, weight) {
            self.whole = Some((run.len(), messages));
            return;
        }
        let mut start = 0;
        for end in memchr::memchr_iter(self.delimiter, run) {
            self.add(&run[start..=end], false);
            start = end + 1;
        }
    }

    /// There is more than the one run: it has to be copied after all.
    fn unfold(&mut self, input: &[u8]) {
        if let Some((len, _)) = self.whole.take() {
            self.copy_whole(&input[..len]);
        }
    }

    fn copy_whole(&mut self, run: &[u8]) {
        self.whole = None;
        self.bytes.extend_from_slice(run);
        self.messages += memchr::memchr_iter(self.delimiter, run).count() as u64;
    }

    fn add(&mut self, message: &[u8], needs_delimiter: bool) {
        let len = message.len() + usize::from(needs_delimiter);
        if self.messages > 0 && !self.limit.holds(self.messages + 1, self.bytes.len() + len) {
            self.flush();
        }
        self.bytes.extend_from_slice(message);
        if needs_delimiter {
            self.bytes.push(self.delimiter);
        }
        self.messages += 1;
    }

    fn flush(&mut self) {
        let (mut bytes, messages) = (
            std::mem::take(&mut self.bytes),
            std::mem::take(&mut self.messages),
        );
        if messages > 0 {
            bytes.shrink_to_fit();
            self.frames
                .batches
                .push(Batch::new(bytes, messages, self.delimiter));
        }
    }

    fn finish(mut self) -> Frames {
        self.flush();
        self.frames
    }

    fn finish_with(mut self, batch: Batch) -> Frames {
        self.frames.batches.push(batch);
        self.frames
    }
}
