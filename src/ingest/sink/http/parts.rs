//! Which messages a request is about.

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
}

/// Messages that are sent, or sent again, together.
#[derive(Clone, Debug)]
pub(super) struct Work {
    pub(super) parts: Vec<Part>,
}

impl Work {
    pub(super) fn new(parts: Vec<Part>) -> Work {
        Work { parts }
    }

    /// Splits it behind so many messages.
    pub(super) fn split(self, messages: u64) -> (Work, Work) {
        let (mut front, mut back) = (Vec::new(), Vec::new());
        let mut left = messages;
        for part in self.parts {
            let (first, second) = part.split(part.messages.min(left));
            left -= first.messages;
            front.extend((first.messages > 0).then_some(first));
            back.extend((second.messages > 0).then_some(second));
        }
        (Work::new(front), Work::new(back))
    }
}
