//! The byte side of the ledger.

use parking_lot::Mutex;

use crate::server::{Bytes, Counters, Discard};

/// What one read changes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Entry {
    pub(super) read: u64,
    pub(super) messages: u64,
    pub(super) framing: u64,
    pub(super) discarded: Counters<Discard>,
    pub(super) truncated: u64,
    pub(super) unterminated: u64,
    /// Bytes that the reader held before, and holds now, by its own count.
    pub(super) pending_before: u64,
    pub(super) pending_after: u64,
}

/// The ledger of bytes. Each read is booked under one lock, so that the sums close at every look.
#[derive(Debug)]
pub(super) struct ByteLedger {
    /// By the index of the listener.
    rows: Mutex<Vec<Bytes>>,
}

impl ByteLedger {
    pub(super) fn new(listeners: usize) -> Self {
        ByteLedger {
            rows: Mutex::new(vec![Bytes::default(); listeners]),
        }
    }

    pub(super) fn book(&self, listener: usize, entry: &Entry) {
        let bytes = &mut self.rows.lock()[listener];
        bytes.bytes_read += entry.read;
        bytes.message_bytes += entry.messages;
        bytes.framing_bytes += entry.framing;
        bytes.discarded.add_all(&entry.discarded);
        bytes.truncated += entry.truncated;
        bytes.unterminated += entry.unterminated;
        // Below 0 where a booking was left out: then nothing must look balanced.
        bytes.pending =
            (bytes.pending.wrapping_add(entry.pending_after)).wrapping_sub(entry.pending_before);
    }

    /// The row of each listener, by its index.
    pub(super) fn read(&self) -> Vec<Bytes> {
        self.rows.lock().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_go_without_having_been_pending_do_not_look_balanced() {
        let ledger = ByteLedger::new(2);
        ledger.book(
            1,
            &Entry {
                read: 5,
                messages: 5,
                pending_before: 5,
                ..Entry::default()
            },
        );
        let rows = ledger.read();
        assert!(rows[0].is_balanced() && !rows[1].is_balanced());
        assert!(!Bytes::sum(&rows).is_balanced());
    }
}
