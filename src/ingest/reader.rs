//! Reads a connection and makes batches of whole messages, one at a time.

use std::io::{self, Read};

use super::batch::Batch;
use super::batch::buffer::{Buffer, MAPPED_FROM};
use super::batch::builder::{BatchBuilder, BatchFormat, Decoded, Uncollected};
use super::batch::pool::Pool;
use super::framing::{Decoder, End, Unfinished, protocol_of};
use super::ledger::{ByteLedger, Entry};
use crate::server::{Connection, Discard};

/// A first read into this much stack costs neither a page nor a system call more, and an idle connection
/// holds no buffer at all.
const SMALL_READ: usize = 512;

/// A read that is worth a system call has this much room, at least.
const MIN_ROOM: usize = 4 << 10;

/// Bytes that are looked through for each message that a batch may hold, at least: where batches are small, a whole
/// read would be searched anew for each.
const LOOK_AHEAD: usize = 256;

/// One connection's reader.
///
/// Small reads go by way of the stack into memory of their own size. A read that fills the small buffer is
/// the sign of more: then whole buffers are read, without waiting, until little or nothing is there; only the
/// small read waits.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pool: &'a Pool,
    ledger: &'a ByteLedger,
    form: BatchFormat,
    decoder: Decoder,
    /// What is read and not yet in a batch, from `start` on. While more is read it is less than one message.
    pending: Buffer,
    start: usize,
    /// Whole messages may be in `pending`: the batch before had no room for them.
    has_more: bool,
    /// There was more than a small read takes.
    is_eager: bool,
    /// The room that the last long message came to need.
    long: usize,
    /// What the ledger knows of `pending`.
    pending_booked: u64,
    opening: Opening,
}

/// The first bytes of the stream, of the first read that brought any.
#[derive(Debug)]
enum Opening {
    Awaited,
    Messages,
    /// They look like this protocol's.
    LooksLike(&'static str),
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        ledger: &'a ByteLedger,
        form: BatchFormat,
        decoder: Decoder,
    ) -> Self {
        let (pending, is_eager, pending_booked) = (Buffer::default(), false, 0);
        let (start, has_more, long) = (0, false, 0);
        Reader {
            pool,
            ledger,
            form,
            decoder,
            pending,
            start,
            has_more,
            long,
            is_eager,
            pending_booked,
            opening: Opening::Awaited,
        }
    }

    /// The next batch, of `most` messages at most: of what is there, or of one read. `None`: the peer ended its
    /// stream.
    ///
    /// One batch is made at a time, and no more is read before all that is whole is in one: so a handler holds one
    /// read buffer and one batch, whatever was read.
    ///
    /// # Errors
    /// As [`Connection::read`]. Then, as at the end, [`finish`](Reader::finish) gives the rest.
    pub(super) fn next(
        &mut self,
        connection: &mut Connection,
        most: u64,
    ) -> io::Result<Option<Decoded>> {
        let mut entry = Entry::default();
        if !self.has_more {
            let read = self.fill(connection)?;
            if read == 0 {
                return Ok(None);
            }
            entry.read = read as u64;
            if matches!(self.opening, Opening::Awaited) {
                self.opening = protocol_of(&self.pending[self.start..])
                    .map_or(Opening::Messages, Opening::LooksLike);
            }
        }
        let frames = self.cut(&mut entry, most);
        self.book(entry);
        Ok(Some(frames))
    }

    /// What the stream's first bytes look like, if that is another protocol than messages: what it was cut for may begin
    /// anywhere, behind whatever ended a message in there.
    pub(super) fn looks_like(&self) -> Option<&'static str> {
        match self.opening {
            Opening::LooksLike(what) => Some(what),
            Opening::Awaited | Opening::Messages => None,
        }
    }

    /// Books what is there of whole messages, which nobody takes any more, and says how many they are and how many
    /// of them are dropped for their length.
    pub(super) fn give_up_rest(&mut self) -> Decoded {
        let input = std::mem::take(&mut self.pending);
        let (mut frames, mut entry) = (Decoded::default(), Entry::default());
        let mut uncollected = Uncollected {
            frames: &mut frames,
            entry: &mut entry,
        };
        let consumed = self.decoder.decode(&input[self.start..], &mut uncollected);
        self.has_more = false;
        let at = self.start + consumed;
        self.keep(input, at);
        self.book(entry);
        frames
    }

    /// The last message, if the peer ended its stream inside one; otherwise books what is left as discarded.
    #[inline(never)]
    pub(super) fn finish(&mut self, end: End) -> Decoded {
        let buffer = std::mem::take(&mut self.pending);
        let rest = &buffer[std::mem::take(&mut self.start)..];
        self.has_more = false;
        let (mut frames, mut entry) = (Decoded::default(), Entry::default());
        let mut assembly = BatchBuilder::new(
            self.form,
            self.pool,
            rest,
            buffer.capacity(),
            &mut frames,
            &mut entry,
        );
        self.decoder.finish(rest, end, &mut assembly);
        assembly.finish(rest.len());
        self.pool.put(buffer);
        self.book(entry);
        frames
    }

    /// What there is of an unfinished message.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        self.decoder.unfinished(&self.pending[self.start..])
    }

    /// An unfinished message has begun.
    pub(super) fn is_inside(&self) -> bool {
        self.decoder.is_inside(self.pending.len() - self.start)
    }

    fn fill(&mut self, connection: &mut Connection) -> io::Result<usize> {
        // Nothing here replies, and what was read before is sent. After a delay several messages are there.
        self.is_eager |= connection.delay_read();
        if self.is_eager {
            self.grow();
            let read = self.pending.fill(|free| connection.read_ready(free))?;
            if let Some(read) = read {
                // So little is all that there was.
                self.is_eager = read >= MIN_ROOM;
                return Ok(read);
            }
            self.is_eager = false;
        }
        self.shrink();
        self.read_small(connection)
    }

    /// On its own: what is on the stack here must not be below what a send needs of it. An idle thread holds each
    /// page that it ever touched.
    #[inline(never)]
    fn read_small(&mut self, connection: &mut Connection) -> io::Result<usize> {
        let mut small = [0; SMALL_READ];
        let read = connection.read(&mut small)?;
        self.pending.append(&small[..read]);
        self.is_eager = read == SMALL_READ;
        Ok(read)
    }

    /// Makes room to read into. The usual buffer is one of the pool's; a message that is longer grows its own,
    /// by half at least, so that however slowly it comes its bytes are copied a few times and no more.
    fn grow(&mut self) {
        let len = self.pending.len();
        if self.pending.capacity() - len >= MIN_ROOM {
            return;
        }
        let usual = self.pool.buffer_bytes();
        let mut larger = if len + MIN_ROOM <= usual && self.long <= usual {
            self.pool.take()
        } else {
            let more = (len + (len / 2).max(MIN_ROOM)).max(MAPPED_FROM);
            self.pool.take_large(more.max(self.long))
        };
        larger.append(&self.pending);
        self.pool.put(std::mem::replace(&mut self.pending, larger));
    }

    /// Nothing is there: whoever waits holds little more than what is pending.
    fn shrink(&mut self) {
        if self.pending.len() < self.pending.capacity() / 4 {
            self.pending = self.pool.right_sized(std::mem::take(&mut self.pending));
        }
    }

    /// On its own, as [`read_small`](Reader::read_small) is.
    #[inline(never)]
    fn cut(&mut self, entry: &mut Entry, most: u64) -> Decoded {
        let input = std::mem::take(&mut self.pending);
        let form = BatchFormat {
            limit: self.form.limit.within(most),
            ..self.form
        };
        let rest = &input[self.start..];
        let mut window = usize::try_from(form.limit.messages())
            .unwrap_or(usize::MAX)
            .saturating_mul(LOOK_AHEAD)
            .max(MIN_ROOM);
        let mut frames = Decoded::default();
        let (consumed, whole) = loop {
            let seen = &rest[..window.min(rest.len())];
            let mut assembly =
                BatchBuilder::new(form, self.pool, seen, input.capacity(), &mut frames, entry);
            let consumed = self.decoder.decode(seen, &mut assembly);
            let (whole, is_full) = assembly.finish(consumed);
            self.has_more = is_full || seen.len() < rest.len();
            // A message that is longer than what was looked at.
            if consumed > 0 || seen.len() == rest.len() {
                break (consumed, whole);
            }
            window *= 2;
        };
        let at = self.start + consumed;
        if frames.finished > 0 {
            let is_long = frames.finished == 1 && consumed > self.pool.buffer_bytes();
            self.long = if is_long { input.capacity() } else { 0 };
        }
        if let Some((len, messages)) = whole {
            let capacity = input.capacity();
            // Taken as it is, unless that would pin a large buffer for little, or much would have to move.
            let is_all = self.start == 0
                && len >= capacity / 2
                && input.len() - at <= len
                && form.limit.holds(messages, input.weight());
            let bytes = if is_all {
                self.pending = Buffer::from(&input[at..]);
                self.start = 0;
                let mut bytes = input;
                bytes.truncate(len);
                bytes
            } else {
                let bytes = Buffer::from(&input[self.start..self.start + len]);
                self.keep(input, at);
                bytes
            };
            frames.batch = Some(Batch::new(bytes, messages, form.framing, Vec::new()));
        } else {
            self.keep(input, at);
        }
        frames
    }

    /// What is left of `input` from `at` on.
    fn keep(&mut self, input: Buffer, at: usize) {
        if self.has_more || at == 0 {
            self.pending = input;
            self.start = at;
        } else {
            self.pending = Buffer::from(&input[at..]);
            self.start = 0;
            self.pool.put(input);
        }
    }

    fn book(&mut self, mut entry: Entry) {
        entry.pending_before = self.pending_booked;
        entry.pending_after = (self.pending.len() - self.start) as u64;
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

#[cfg(test)]
mod tests;
