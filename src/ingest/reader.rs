//! Reads a connection and makes batches of whole messages, one at a time.

use std::io;
use std::time::SystemTime;

use super::batch::buffer::Buffer;
use super::batch::builder::{BatchBuilder, BatchFormat, Decoded, Uncollected};
use super::batch::pool::Pool;
use super::batch::{Batch, Origin};
use super::framing::{Decoder, End};
use super::incoming::{Incoming, MIN_READ};
use super::ledger::{ByteLedger, Entry};
use super::shared::Shared;
use crate::server::{Connection, Discard};

/// Bytes that are looked through for each message that a batch may hold, at least: where batches
/// are small, a whole read would be searched anew for each.
const LOOK_AHEAD: usize = 256;

/// One connection's reader.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    pool: &'a Pool,
    ledger: &'a ByteLedger,
    format: BatchFormat,
    incoming: Incoming,
    /// Whole messages may be pending: the batch before had no capacity for them.
    has_more: bool,
    /// Bytes of the last read that the ledger does not know of yet.
    unbooked: u64,
    /// What the ledger knows of what is pending.
    pending_booked: u64,
    origin: Origin,
    has_exact_times: bool,
}

impl<'a> Reader<'a> {
    /// The reader of this connection: its batches say so, and when they were read.
    #[inline(never)]
    pub(super) fn of(connection: &Connection, shared: &'a Shared) -> Self {
        let input = &shared.inputs[connection.listener_index()];
        let decoder = input.decoder.clone();
        let mut reader = Reader::new(&shared.pool, &shared.ledger, input.format, decoder);
        reader.origin = Origin {
            connection: connection.id(),
            peer: connection.peer(),
            tls_name: connection.shared_tls_name(),
            listener: connection.listener_index() as u32,
            listener_name: Some(connection.listener_name()),
            received_at: connection.tick_time(),
        };
        reader.has_exact_times = shared.has_exact_times;
        reader
    }

    fn new(pool: &'a Pool, ledger: &'a ByteLedger, format: BatchFormat, decoder: Decoder) -> Self {
        Reader {
            pool,
            ledger,
            format,
            // The limits count what a buffer of this decoder's messages can grow to.
            incoming: Incoming::new(decoder, usize::MAX),
            has_more: false,
            unbooked: 0,
            pending_booked: 0,
            origin: Origin::default(),
            has_exact_times: false,
        }
    }

    /// What is read and not in a batch.
    pub(super) fn incoming(&self) -> &Incoming {
        &self.incoming
    }

    /// Reads, unless whole messages of the read before are not in a batch yet: so a handler holds
    /// one read buffer and one batch, whatever was read. `false`: the peer ended its stream.
    ///
    /// # Errors
    /// As [`Connection::read`]. Then, as at the end, [`finish`](Reader::finish) gives the rest.
    pub(super) fn read(&mut self, connection: &mut Connection) -> io::Result<bool> {
        if self.has_more {
            return Ok(true);
        }
        // Nothing here replies, and what was read before is sent.
        let read = self.incoming.read(connection, self.pool, true)?;
        self.unbooked = read as u64;
        self.origin.received_at = match self.has_exact_times {
            true => SystemTime::now(),
            false => connection.tick_time(),
        };
        Ok(read > 0)
    }

    /// Decodes the next batch of what was read, of `max_messages` at most, into `decoded`.
    ///
    /// A function of its own, so that its stack frame is gone when the batch is sent: an idle
    /// thread holds each page of stack that it ever touched.
    #[inline(never)]
    pub(super) fn next(&mut self, max_messages: u64, decoded: &mut Decoded) {
        let mut entry = Entry {
            read: std::mem::take(&mut self.unbooked),
            ..Entry::default()
        };
        self.decode(max_messages, decoded, &mut entry);
        self.book(&mut entry);
        self.set_origin(decoded);
    }

    /// Books whole messages that are pending and that nobody takes any more. Returns how many there
    /// are, and how many of them are dropped for their length.
    pub(super) fn give_up_rest(&mut self) -> Decoded {
        let input = std::mem::take(&mut self.incoming.pending);
        let (mut decoded, mut entry) = (Decoded::default(), Entry::default());
        let mut uncollected = Uncollected {
            decoded: &mut decoded,
            entry: &mut entry,
        };
        let start = self.incoming.start;
        let consumed = self
            .incoming
            .decoder
            .decode(&input[start..], &mut uncollected);
        self.has_more = false;
        self.keep(input, start + consumed);
        self.book(&mut entry);
        decoded
    }

    /// The last message, if the peer ended its stream inside one; otherwise books what is left as
    /// discarded.
    #[inline(never)]
    pub(super) fn finish(&mut self, end: End) -> Decoded {
        let buffer = std::mem::take(&mut self.incoming.pending);
        let rest = &buffer[std::mem::take(&mut self.incoming.start)..];
        self.has_more = false;
        let (mut decoded, mut entry) = (Decoded::default(), Entry::default());
        let mut builder = BatchBuilder::new(
            self.format,
            self.pool,
            rest,
            buffer.capacity(),
            &mut decoded,
            &mut entry,
        );
        self.incoming.decoder.finish(rest, end, &mut builder);
        builder.finish(rest.len());
        self.pool.put(buffer);
        self.book(&mut entry);
        self.set_origin(&mut decoded);
        decoded
    }

    fn set_origin(&self, decoded: &mut Decoded) {
        if let Some(batch) = &mut decoded.batch {
            batch.set_origin(self.origin.clone());
        }
    }

    fn decode(&mut self, max_messages: u64, decoded: &mut Decoded, entry: &mut Entry) {
        let input = std::mem::take(&mut self.incoming.pending);
        let start = self.incoming.start;
        let format = BatchFormat {
            limit: self.format.limit.within(max_messages),
            ..self.format
        };
        let rest = &input[start..];
        let mut window = usize::try_from(format.limit.messages())
            .unwrap_or(usize::MAX)
            .saturating_mul(LOOK_AHEAD)
            .max(MIN_READ);
        let (consumed, whole) = loop {
            let seen = &rest[..window.min(rest.len())];
            let mut builder =
                BatchBuilder::new(format, self.pool, seen, input.capacity(), decoded, entry);
            let consumed = self.incoming.decoder.decode(seen, &mut builder);
            let (whole, is_full) = builder.finish(consumed);
            self.has_more = is_full || seen.len() < rest.len();
            // A message that is longer than what was looked at needs a larger window.
            if consumed > 0 || seen.len() == rest.len() {
                break (consumed, whole);
            }
            window *= 2;
        };
        let at = start + consumed;
        if decoded.finished > 0 {
            let is_long = decoded.finished == 1 && consumed > self.pool.buffer_bytes();
            self.incoming.long = if is_long { input.capacity() } else { 0 };
        }
        match whole {
            None => self.keep(input, at),
            Some((len, messages)) => {
                let is_all = start == 0
                    && input.len() - at <= len
                    && format.limit.holds(messages, input.weight());
                decoded.batch = Some(self.take_whole(input, len, at, is_all, messages));
            }
        }
    }

    /// The batch of the first `len` bytes of what is pending; what is left begins at `at`. The
    /// input is taken as it is if it may be, unless that would pin a large buffer for little, or
    /// much would have to move.
    #[inline(never)]
    fn take_whole(
        &mut self,
        mut input: Buffer,
        len: usize,
        at: usize,
        may_take: bool,
        messages: u64,
    ) -> Batch {
        let bytes = if may_take && len >= input.capacity() / 2 {
            self.incoming.pending = Buffer::from(&input[at..]);
            self.incoming.start = 0;
            input.truncate(len);
            input
        } else {
            let start = self.incoming.start;
            let bytes = Buffer::from(&input[start..start + len]);
            self.keep(input, at);
            bytes
        };
        Batch::new(bytes, messages, self.format.framing, Vec::new())
    }

    /// What is left of `input` from `at` on.
    fn keep(&mut self, input: Buffer, at: usize) {
        if self.has_more || at == 0 {
            self.incoming.pending = input;
            self.incoming.start = at;
        } else {
            self.incoming.pending = Buffer::from(&input[at..]);
            self.incoming.start = 0;
            self.pool.put(input);
        }
    }

    fn book(&mut self, entry: &mut Entry) {
        entry.pending_before = self.pending_booked;
        entry.pending_after = self.incoming.rest().len() as u64;
        self.pending_booked = entry.pending_after;
        self.ledger.book(self.origin.listener as usize, entry);
    }
}

/// A handler that ends in a way of its own leaves no byte unbooked.
impl Drop for Reader<'_> {
    fn drop(&mut self) {
        self.finish(End::Interrupted(Discard::Failed));
    }
}

#[cfg(test)]
mod tests;
