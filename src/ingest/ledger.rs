//! The byte side of the ledger.

use parking_lot::Mutex;

use super::framing::Discard;
use crate::server::Tally;

/// What became of the bytes that were read.
///
/// `bytes_read = message_bytes + framing_bytes + discarded + pending` holds in every reading, each term
/// summed on its own.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Bytes {
    /// Bytes read from connections.
    pub bytes_read: u64,
    /// Bytes of messages.
    pub message_bytes: u64,
    /// Delimiters, counts, and a CR before a LF.
    pub framing_bytes: u64,
    /// Bytes that became no message, by reason.
    pub discarded: Tally<Discard>,
    /// Bytes of unfinished messages that readers hold.
    pub pending: u64,
    /// Messages that are the beginning of a longer one: how often a peer sent more than `max_message`. They are among the
    /// received, whatever became of them: one that was dropped later is among the dropped, too, so this and the next stand
    /// beside the equations.
    pub truncated: u64,
    /// Messages that the peer ended its stream in, without a delimiter. They are among the received, whatever became of
    /// them.
    pub partial: u64,
}

impl Bytes {
    /// Whether the equation holds.
    pub fn is_balanced(&self) -> bool {
        self.bytes_read
            == self.message_bytes + self.framing_bytes + self.discarded.total() + self.pending
    }
}

/// What one read changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) read: u64,
    pub(super) messages: u64,
    pub(super) framing: u64,
    pub(super) discarded: Tally<Discard>,
    pub(super) truncated: u64,
    pub(super) partial: u64,
    /// What the reader held before, and holds now, by its own count.
    pub(super) pending_before: u64,
    pub(super) pending_after: u64,
}

/// One lock for a read, so that every reading of it is exact.
#[derive(Debug, Default)]
pub(super) struct ByteLedger {
    bytes: Mutex<Bytes>,
}

impl ByteLedger {
    pub(super) fn book(&self, entry: &Entry) {
        let mut bytes = self.bytes.lock();
        bytes.bytes_read += entry.read;
        bytes.message_bytes += entry.messages;
        bytes.framing_bytes += entry.framing;
        bytes.discarded.add_all(&entry.discarded);
        bytes.truncated += entry.truncated;
        bytes.partial += entry.partial;
        bytes.pending = (bytes.pending + entry.pending_after).saturating_sub(entry.pending_before);
    }

    pub(super) fn read(&self) -> Bytes {
        *self.bytes.lock()
    }
}
