//! Whole messages of one read, in one buffer, as they are written out.

pub(crate) mod buffer;
pub(crate) mod builder;
pub(crate) mod pool;

use std::fmt;
use std::mem::size_of;
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use memchr::{memchr, memchr_iter, memrchr};

use super::framing::{Count, Header, OutputFraming};
use crate::server::{Config, Peer, Weigh, heap_bytes};
use buffer::Buffer;

/// Whole messages of one connection in one buffer, framed as they are written out: the one thread
/// that writes copies nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    bytes: Buffer,
    messages: u64,
    framing: OutputFraming,
    /// Where each message ends, where the bytes do not tell: a message may hold the delimiter. Else
    /// empty.
    ends: Vec<u32>,
    origin: Origin,
}

/// Where a batch came from, and when. The origin stands in the batch: shared between batches it
/// would be an allocation that may outlive its connection, and that each batch would have to count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) connection: u64,
    pub(crate) peer: Peer,
    pub(crate) listener: u32,
    /// The listener's own: it lives as long as the listener, and no batch counts it.
    pub(crate) listener_name: Option<Arc<str>>,
    /// The connection's own, which each batch counts: it may outlive its connection.
    pub(crate) tls_name: Option<Arc<str>>,
    pub(crate) received_at: SystemTime,
}

/// The origin of a batch until its reader sets one.
impl Default for Origin {
    fn default() -> Self {
        Origin {
            connection: 0,
            peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)).into(),
            listener: 0,
            listener_name: None,
            tls_name: None,
            received_at: UNIX_EPOCH,
        }
    }
}

impl Batch {
    /// A batch of `messages` messages, written to `bytes` in `framing`.
    pub(crate) fn new(
        bytes: Buffer,
        messages: u64,
        framing: OutputFraming,
        ends: Vec<u32>,
    ) -> Self {
        Batch {
            bytes,
            messages,
            framing,
            ends,
            origin: Origin::default(),
        }
    }

    pub(crate) fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The messages, in the order in which they came, without their framing.
    pub fn iter(&self) -> impl Iterator<Item = &[u8]> + '_ {
        self.ranges().map(|(message, _)| &self.bytes[message])
    }

    /// The messages as they are written out, framing included.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The number of the connection that the batch came from, unique in the life of the server,
    /// from 1.
    pub fn connection_id(&self) -> u64 {
        self.origin.connection
    }

    /// The peer that sent the batch.
    pub fn peer(&self) -> Peer {
        self.origin.peer
    }

    /// What the peer's certificate calls it:
    /// [`Connection::tls_name`](crate::Connection::tls_name).
    pub fn tls_name(&self) -> Option<&str> {
        self.origin.tls_name.as_deref()
    }

    /// The name of the listener that accepted the connection
    /// ([`Listener::named`](crate::Listener::named)), or the listener's address if it has no name.
    pub fn listener(&self) -> &str {
        self.origin.listener_name.as_deref().unwrap_or_default()
    }

    /// The place of the listener that accepted the connection among the server's, from 0: as in
    /// [`Server::addresses`](crate::Server::addresses).
    pub fn listener_index(&self) -> usize {
        self.origin.listener as usize
    }

    /// The time of day at which the last message of the batch was read, mostly less than a tenth of
    /// a second early: the server looks at the clock once a tick. A sink that
    /// [`needs_exact_times`](super::Sink::needs_exact_times) gets the time of the read itself.
    pub fn received_at(&self) -> SystemTime {
        self.origin.received_at
    }

    /// How the messages are framed in [`as_bytes`](Batch::as_bytes).
    pub fn framing(&self) -> OutputFraming {
        self.framing
    }

    /// How many messages end, framing included, in these bytes of [`as_bytes`](Batch::as_bytes).
    pub(crate) fn count_in(&self, range: Range<usize>) -> u64 {
        match self.only_delimiter() {
            Some(delimiter) => memchr_iter(delimiter, &self.bytes[range]).count() as u64,
            None => self
                .ranges()
                .filter(|&(_, end)| range.start < end && end <= range.end)
                .count() as u64,
        }
    }

    /// The byte that ends each message and is in none.
    fn only_delimiter(&self) -> Option<u8> {
        self.framing.delimiter().filter(|_| self.ends.is_empty())
    }

    /// Whether the byte at `at` ends a message, and does not belong to one.
    pub(crate) fn is_delimiter(&self, at: usize) -> bool {
        let is_one = self.framing.delimiter() == self.bytes.get(at).copied();
        is_one && (self.ends.is_empty() || self.ends.binary_search(&(at as u32)).is_ok())
    }

    /// Where the message begins of which the bytes up to `offset` are written, framing included.
    pub(crate) fn message_start(&self, offset: usize) -> usize {
        if let Some(delimiter) = self.only_delimiter() {
            let written = &self.bytes[..offset.min(self.bytes.len())];
            return memrchr(delimiter, written).map_or(0, |at| at + 1);
        }
        self.ranges()
            .map(|(_, end)| end)
            .take_while(|&end| end <= offset)
            .last()
            .unwrap_or(0)
    }

    /// Where the message ends of which the byte at `offset` is not written yet, framing included.
    pub(crate) fn message_end(&self, offset: usize) -> usize {
        if let Some(delimiter) = self.only_delimiter() {
            let rest = self.bytes.get(offset..).unwrap_or_default();
            let next = memchr(delimiter, rest);
            return next.map_or(self.bytes.len(), |at| offset + at + 1);
        }
        self.ranges()
            .map(|(_, end)| end)
            .find(|&end| end > offset)
            .unwrap_or(self.bytes.len())
    }

    pub(crate) fn into_buffer(self) -> Buffer {
        self.bytes
    }

    /// The messages from the `nth` on, which begins at `start`, and where the framing of each ends.
    pub(crate) fn messages_from(
        &self,
        nth: u64,
        start: usize,
    ) -> impl Iterator<Item = (&[u8], usize)> + '_ {
        let ranges = self.ranges_from(nth, start);
        ranges.map(|(message, end)| (&self.bytes[message], end))
    }

    /// Where each message is, and where its framing ends.
    fn ranges(&self) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
        self.ranges_from(0, 0)
    }

    fn ranges_from(
        &self,
        nth: u64,
        mut start: usize,
    ) -> impl Iterator<Item = (Range<usize>, usize)> + '_ {
        (nth..self.messages).map_while(move |nth| {
            let (message, end) = self.range(nth as usize, start)?;
            start = end;
            Some((message, end))
        })
    }

    fn range(&self, nth: usize, start: usize) -> Option<(Range<usize>, usize)> {
        let rest = self.bytes.get(start..)?;
        let counted = |header: Header| match header.read(rest) {
            Count::Of { header, message } => {
                let message = start + header..start + header + message;
                Some((message.clone(), message.end))
            }
            Count::Incomplete | Count::Invalid => None,
        };
        match self.framing {
            OutputFraming::LengthPrefixed => counted(Header::Prefix),
            OutputFraming::OctetCounted => counted(Header::Octets),
            OutputFraming::Lines | OutputFraming::Nul => {
                let end = match self.ends.get(nth) {
                    Some(&end) => end as usize,
                    None => start + memchr(self.framing.delimiter()?, rest)?,
                };
                Some((start..end, end + 1))
            }
        }
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
        let tls_name = self.origin.tls_name.as_ref();
        let tls_name = tls_name.map_or(0, |name| heap_bytes(name.len() + 2 * size_of::<usize>()));
        self.bytes.weight() + heap_bytes(self.ends.capacity() * size_of::<u32>()) + tls_name
    }
}

/// How much a batch may hold: an eighth of the buffer, in messages and in bytes, so that a batch
/// which waits at the head of the line leaves at most that much idle. A single message may weigh
/// more.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BatchLimit {
    messages: u64,
    bytes: usize,
}

impl BatchLimit {
    pub(crate) fn of(config: &Config) -> Self {
        BatchLimit {
            messages: (config.buffer_messages as u64 / 8).max(1),
            bytes: (config.buffer_bytes / 8).saturating_sub(size_of::<Batch>() * 2),
        }
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// No more than `messages` at once.
    pub(crate) fn within(self, messages: u64) -> Self {
        BatchLimit {
            messages: self.messages.min(messages.max(1)),
            ..self
        }
    }

    pub(crate) fn holds(&self, messages: u64, bytes: usize) -> bool {
        messages <= self.messages && bytes <= self.bytes
    }
}

#[cfg(test)]
mod tests;
