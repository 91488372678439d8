//! What was read of one connection's stream and is not passed on yet.

use std::io::{self, Read};

use log::Level;

use super::batch::buffer::{Buffer, MAPPED_FROM};
use super::batch::pool::Pool;
use super::framing::{Decoder, Protocol, Seen, Unfinished, protocol_of};
use crate::server::Connection;

/// A first read into this much stack costs neither a page nor a system call more, and an idle
/// connection holds no buffer at all.
const SMALL_READ: usize = 512;

/// A read that is worth a system call has this much free capacity, at least.
pub(super) const MIN_READ: usize = 4 << 10;

/// The unread part of a stream, with its decoder.
///
/// Small reads go by way of the stack into memory of their own size. A read that fills the small
/// buffer is the sign of more: then whole buffers are read, without waiting, until little or
/// nothing is there; only the small read waits.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) decoder: Decoder,
    /// What is read and not passed on, from `start` on. Before each read that is less than one
    /// message.
    pub(super) pending: Buffer,
    pub(super) start: usize,
    /// There was more than a small read takes.
    is_eager: bool,
    /// The capacity that the last long message came to need.
    pub(super) long: usize,
    /// The capacity that `pending` never outgrows.
    max_capacity: usize,
    opening: Opening,
}

/// What the stream begins with, by the first read that brought any bytes.
#[derive(Debug)]
enum Opening {
    Awaited,
    Messages,
    /// The first bytes look like this protocol.
    LooksLike(Protocol),
}

impl Incoming {
    /// Whoever decodes leaves less than `max_capacity` less [`MIN_READ`] bytes before each read.
    pub(super) fn new(decoder: Decoder, max_capacity: usize) -> Self {
        Incoming {
            decoder,
            pending: Buffer::default(),
            start: 0,
            is_eager: false,
            long: 0,
            max_capacity,
            opening: Opening::Awaited,
        }
    }

    /// The bytes that are read and not passed on.
    pub(super) fn rest(&self) -> &[u8] {
        &self.pending[self.start..]
    }

    /// Reads, and waits if nothing is there; where `may_delay` says so the read may be delayed.
    /// Returns how much was read, 0 at the peer's end of stream. `start` is 0.
    ///
    /// # Errors
    /// As [`Connection::read`].
    pub(super) fn read(
        &mut self,
        connection: &mut Connection,
        pool: &Pool,
        may_delay: bool,
    ) -> io::Result<usize> {
        debug_assert_eq!(self.start, 0, "nothing that was passed on is kept");
        let read = self.fill(connection, pool, may_delay)?;
        debug_assert!(
            self.pending.capacity() <= self.max_capacity.max(pool.buffer_bytes()),
            "no buffer is larger than the limits count"
        );
        if read > 0 && matches!(self.opening, Opening::Awaited) {
            self.opening = Opening::Messages;
            if let Some(protocol) = protocol_of(self.rest()) {
                self.opening = Opening::LooksLike(protocol);
                log_opening(connection, protocol, self.rest());
            }
        }
        Ok(read)
    }

    /// What there is of an unfinished message.
    pub(super) fn unfinished(&self) -> Option<Unfinished> {
        self.decoder.unfinished(self.rest())
    }

    /// An unfinished message has begun.
    pub(super) fn is_inside(&self) -> bool {
        self.decoder.is_inside(self.rest().len())
    }

    /// What the stream's first bytes look like, if that is another protocol than messages. A later
    /// message says less: in binary data a message begins behind any byte that is a delimiter by
    /// chance.
    pub(super) fn looks_like(&self) -> Option<&'static str> {
        match self.opening {
            Opening::LooksLike(protocol) => Some(protocol.words()),
            Opening::Awaited | Opening::Messages => None,
        }
    }

    fn fill(
        &mut self,
        connection: &mut Connection,
        pool: &Pool,
        may_delay: bool,
    ) -> io::Result<usize> {
        // After a delay several messages are there.
        self.is_eager |= may_delay && connection.delay_read();
        if self.is_eager {
            self.grow(pool);
            let read = self.pending.fill(|free| connection.read_ready(free))?;
            if let Some(read) = read {
                // A read this short took all that there was.
                self.is_eager = read >= MIN_READ;
                return Ok(read);
            }
            self.is_eager = false;
        }
        self.shrink(pool);
        self.read_small(connection)
    }

    /// A function of its own: what is on the stack here must not be below what a send needs of the
    /// stack. An idle thread holds each page that it ever touched.
    #[inline(never)]
    fn read_small(&mut self, connection: &mut Connection) -> io::Result<usize> {
        let mut small = [0; SMALL_READ];
        let read = connection.read(&mut small)?;
        let len = self.pending.len();
        if self.pending.capacity() - len < read {
            let doubled = len.min(self.max_capacity.saturating_sub(len));
            self.pending.reserve_exact(read.max(doubled));
        }
        self.pending.append(&small[..read]);
        self.is_eager = read == SMALL_READ;
        Ok(read)
    }

    /// Frees capacity to read into. The usual buffer is one of the pool's; a message that is longer
    /// grows a buffer of its own, by half at least, so that however slowly the message comes its
    /// bytes are copied a few times and no more.
    pub(super) fn grow(&mut self, pool: &Pool) {
        let len = self.pending.len();
        if self.pending.capacity() - len >= MIN_READ {
            return;
        }
        let usual = pool.buffer_bytes();
        let mut larger = if len + MIN_READ <= usual && self.long <= usual {
            pool.take()
        } else {
            let more = (len + (len / 2).max(MIN_READ)).max(MAPPED_FROM);
            pool.take_large(more.max(self.long).min(self.max_capacity))
        };
        larger.append(&self.pending);
        pool.put(std::mem::replace(&mut self.pending, larger));
    }

    /// Nothing is there: whoever waits holds little more than what is pending.
    fn shrink(&mut self, pool: &Pool) {
        if self.pending.len() < self.pending.capacity() / 4 {
            self.pending = pool.right_sized(std::mem::take(&mut self.pending));
        }
    }
}

/// Names a connection that may have come to the wrong listener. Some framings find no fault in
/// what it sends, and an operator would find nothing but garbage in the sink. Of HTTP nothing is
/// said: no setting would serve it, and a line may well begin with the name of a method.
#[cold]
#[inline(never)]
fn log_opening(connection: &Connection, protocol: Protocol, first: &[u8]) {
    let reason = match protocol {
        Protocol::Tls => "TLS where messages are expected",
        Protocol::Proxy => "PROXY where messages are expected",
        Protocol::Http => return,
    };
    connection.logger().log_limited(reason, Level::Warn, || {
        let (label, seen) = (connection.label(), Seen::of_framed(first));
        format!("{label} begins with {seen}, and is read as messages")
    });
}
