//! How far batches are written to a stream: which bytes come next, and what is accepted by them.

use std::io::IoSlice;

use super::batches::Batches;

/// Slices in one write: fewer than IOV_MAX, and enough.
const MAX_SLICES: usize = 64;
/// From so many bytes on no more batches are gathered into a write: that would save nothing, and
/// keep buffers from coming back.
const ENOUGH_BYTES: usize = 1 << 20;

/// Where a stream stands in the first batch. A message is accepted with its last byte, framing
/// included.
#[derive(Debug, Default)]
pub(super) struct Cursor {
    /// Bytes of the first batch that are written.
    offset: usize,
}

impl Cursor {
    /// What goes into one write.
    pub(super) fn gather<'w>(&self, batches: &'w Batches<'_>) -> Vec<IoSlice<'w>> {
        let mut gathered = 0;
        batches
            .batches()
            .take(MAX_SLICES)
            .enumerate()
            .map(|(n, batch)| &batch.as_bytes()[if n == 0 { self.offset } else { 0 }..])
            .take_while(|bytes| {
                let is_enough = gathered >= ENOUGH_BYTES;
                gathered += bytes.len();
                !is_enough
            })
            .map(IoSlice::new)
            .collect()
    }

    /// What is left of a message that is written in part; `None` between two messages.
    pub(super) fn rest_of_message<'w>(&self, batches: &'w Batches<'_>) -> Option<IoSlice<'w>> {
        let batch = batches.first()?;
        if batch.message_start(self.offset) == self.offset {
            return None;
        }
        let end = batch.message_end(self.offset);
        Some(IoSlice::new(&batch.as_bytes()[self.offset..end]))
    }

    /// Whether what is written ends in the middle of a message.
    pub(super) fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.rest_of_message(batches).is_some()
    }

    /// Goes back to the beginning of a message that is written in part.
    pub(super) fn begin_anew(&mut self, batches: &Batches<'_>) {
        let first = batches.first();
        self.offset = first.map_or(0, |batch| batch.message_start(self.offset));
    }

    /// Accepts what was written: whole batches, and of the last one the messages whose last byte
    /// was.
    pub(super) fn advance(&mut self, batches: &mut Batches<'_>, mut written: usize) {
        while let Some(batch) = batches.first() {
            let (from, end) = (self.offset, batch.as_bytes().len());
            if written < end - from {
                self.offset += written;
                let messages = batch.count_in(from..self.offset);
                batches.ack_first(messages);
                return;
            }
            written -= end - from;
            self.offset = 0;
            batches.ack();
            if written == 0 {
                return;
            }
        }
    }
}
