//! Reads a connection and makes batches of whole messages, one read at a time.

use std::io::{self, Read};

use super::assembly::{Assembly, Form, Frames};
use super::batch::Batch;
use super::buffer::Buffer;
use super::framing::{Decoder, Discard, End};
use super::ledger::{ByteLedger, Entry};
use super::pool::Pool;
use crate::server::Connection;

/// A first read into this much stack costs neither a page nor a system call more, and an idle connection
/// holds no buffer at all.
const SMALL_READ: usize = 512;

/// A read that is worth a system call has this much room, at least.
const LEAST_ROOM: usize = 4 << 10;

/// One connection's reader.
///
/// Small reads go by way of the stack into memory of their own size. A read that fills the small buffer is
/// the sign of more: then whole buffers are read, without waiting, until little or nothing is there; only the
/// small read waits.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pool: &'a Pool,
    ledger: &'a ByteLedger,
    form: Form,
    decoder: Decoder,
    /// What is read and not yet whole.
    pending: Buffer,
    /// There was more than a small read takes.
    is_eager: bool,
    /// What the ledger knows of `pending`.
    pending_booked: u64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        pool: &'a Pool,
        ledger: &'a ByteLedger,
        form: Form,
        decoder: Decoder,
    ) -> Self {
        let (pending, is_eager, pending_booked) = (Buffer::default(), false, 0);
        Reader {
            pool,
            ledger,
            form,
            decoder,
            pending,
            is_eager,
            pending_booked,
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
    #[inline(never)]
    pub(super) fn finish(&mut self, end: End) -> Frames {
        let rest = std::mem::take(&mut self.pending);
        let (mut frames, mut entry) = (Frames::default(), Entry::default());
        let capacity = rest.capacity();
        let mut assembly = Assembly::new(
            self.form,
            self.pool,
            &rest,
            capacity,
            &mut frames,
            &mut entry,
        );
        self.decoder
            .finish(&rest, end, |event| assembly.take(event));
        assembly.finish(rest.len());
        self.pool.put(rest);
        self.book(entry);
        frames
    }

    /// An unfinished message has begun.
    pub(super) fn is_inside(&self) -> bool {
        self.decoder.is_inside(self.pending.len())
    }

    fn fill(&mut self, connection: &mut Connection) -> io::Result<usize> {
        // Nothing here replies, and what was read before is sent. After a delay several messages are there.
        self.is_eager |= connection.delay_read();
        if self.is_eager {
            self.grow();
            let read = self.pending.fill(|free| connection.read_ready(free))?;
            if let Some(read) = read {
                // So little is all that there was.
                self.is_eager = read >= LEAST_ROOM;
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
        if self.pending.capacity() - len >= LEAST_ROOM {
            return;
        }
        if len + LEAST_ROOM <= self.pool.buffer_bytes() {
            let mut buffer = self.pool.take();
            buffer.append(&self.pending);
            self.pending = buffer;
        } else {
            let mut larger = Buffer::with_capacity(len + (len / 2).max(LEAST_ROOM));
            larger.append(&self.pending);
            self.pool.put(std::mem::replace(&mut self.pending, larger));
        }
    }

    /// Nothing is there: whoever waits holds little more than what is pending.
    fn shrink(&mut self) {
        if self.pending.len() < self.pending.capacity() / 4 {
            self.pending = self.pool.right_sized(std::mem::take(&mut self.pending));
        }
    }

    /// On its own, as [`read_small`](Reader::read_small) is.
    #[inline(never)]
    fn cut(&mut self, entry: &mut Entry) -> Frames {
        let mut input = std::mem::take(&mut self.pending);
        let mut frames = Frames::default();
        let capacity = input.capacity();
        let mut assembly =
            Assembly::new(self.form, self.pool, &input, capacity, &mut frames, entry);
        let consumed = self.decoder.decode(&input, |event| assembly.take(event));
        let whole = assembly.finish(consumed);
        if consumed == 0 {
            self.pending = input;
            return frames;
        }
        self.pending = Buffer::from(&input[consumed..]);
        let Some((len, messages)) = whole else {
            self.pool.put(input);
            return frames;
        };
        input.truncate(len);
        // Taken as it is, unless that would pin a large buffer for little.
        if len < capacity / 2 {
            input = self.pool.right_sized(input);
        }
        frames
            .batches
            .push(Batch::new(input, messages, self.form.framing, Vec::new()));
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

#[cfg(test)]
mod tests;
