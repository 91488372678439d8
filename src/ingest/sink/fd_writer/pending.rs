//! What is written and waits to be accepted.

use crate::ingest::sink::batches::Batches;

/// Messages that are written and not accepted: those of the first batches, and the first ones of
/// the batch behind those.
#[derive(Debug, Default)]
pub(super) struct Pending {
    /// What is written is kept here, and not accepted at once.
    pub(super) is_kept: bool,
    /// Whole batches.
    pub(super) batches: u64,
    /// Messages of the batch behind those.
    messages: u64,
    /// In all.
    pub(super) bytes: usize,
    /// Bytes of the first batch whose messages are accepted.
    pub(super) accepted_to: usize,
}

impl Pending {
    /// So much is worth a sync of its own. A larger group would hold up the senders of half a
    /// buffer for longer than a disk needs to be busy.
    pub(super) const ENOUGH_BYTES: usize = 8 << 20;

    /// `messages` more of a batch are written. Returns how many are accepted with that.
    pub(super) fn take(&mut self, batches: &mut Batches<'_>, messages: u64, bytes: usize) -> u64 {
        if self.is_kept {
            self.messages += messages;
            self.bytes += bytes;
            return 0;
        }
        batches.ack_first(messages);
        messages
    }

    /// The rest of a batch is written. Returns how many messages are accepted with that.
    pub(super) fn take_batch(&mut self, batches: &mut Batches<'_>, bytes: usize) -> u64 {
        if self.is_kept {
            self.batches += 1;
            self.messages = 0;
            self.bytes += bytes;
            return 0;
        }
        let messages = batches.remaining(batches.first_number());
        batches.ack();
        messages
    }

    /// Accepts all of it, and returns how many messages that are.
    pub(super) fn accept(&mut self, batches: &mut Batches<'_>) -> u64 {
        let mut accepted = self.messages;
        for _ in 0..self.batches {
            accepted += batches.remaining(batches.first_number());
            batches.ack();
        }
        if self.messages > 0 {
            batches.ack_first(self.messages);
        }
        self.forget();
        accepted
    }

    /// None of it is written. Returns where the first batch goes on.
    pub(super) fn forget(&mut self) -> usize {
        (self.batches, self.messages, self.bytes) = (0, 0, 0);
        self.accepted_to
    }
}
