//! Which messages a request is about.

use crate::ingest::batch::Batch;

/// Messages of a batch that stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The batch's number.
    pub(super) batch: u64,
    /// Its place in the batch.
    pub(super) first: u64,
    pub(super) messages: u64,
    /// How many messages had come before it.
    pub(super) sequence: u64,
}

impl Part {
    /// Splits it behind so many messages.
    pub(super) fn split(self, at: u64) -> (Part, Part) {
        let front = Part {
            messages: at,
            ..self
        };
        let back = Part {
            first: self.first + at,
            messages: self.messages - at,
            sequence: self.sequence + at,
            ..self
        };
        (front, back)
    }

    /// Its messages, of its batch.
    pub(super) fn messages_of(self, batch: &Batch) -> impl Iterator<Item = &[u8]> {
        let messages = batch.iter().skip(self.first as usize);
        messages.take(self.messages as usize)
    }
}

/// Splits messages that were sent together behind so many of them.
pub(super) fn split(parts: Vec<Part>, messages: u64) -> (Vec<Part>, Vec<Part>) {
    let (mut front, mut back) = (Vec::new(), Vec::new());
    let mut left = messages;
    for part in parts {
        let (first, second) = part.split(part.messages.min(left));
        left -= first.messages;
        front.extend((first.messages > 0).then_some(first));
        back.extend((second.messages > 0).then_some(second));
    }
    (front, back)
}
