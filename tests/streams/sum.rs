//! What a stream amounts to.

use drainline::Discard;
use drainline::ingest::framing::{Event, Take};

/// What becomes of bytes, in their order. Neighbours that a split could have made of one are one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Message { bytes: Vec<u8>, is_truncated: bool },
    Framing(usize),
    Discard(usize, Discard),
    Dropped,
    Partial,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub found: Vec<Found>,
    /// What comes after it is discarded, so where among the discarded bytes it was says nothing.
    pub violations: u64,
}

impl Sum {
    pub fn message(&mut self, bytes: &[u8], is_truncated: bool) {
        self.push(Found::Message {
            bytes: bytes.to_vec(),
            is_truncated,
        });
    }

    pub fn framing(&mut self, len: usize) {
        match self.found.last_mut() {
            Some(Found::Framing(before)) => *before += len,
            _ if len > 0 => self.push(Found::Framing(len)),
            _ => {}
        }
    }

    pub fn discard(&mut self, len: usize, reason: Discard) {
        match self.found.last_mut() {
            Some(Found::Discard(before, why)) if *why == reason => *before += len,
            _ if len > 0 => self.found.push(Found::Discard(len, reason)),
            _ => {}
        }
    }

    pub fn push(&mut self, found: Found) {
        assert_eq!(self.violations, 0, "after a violation: {found:?}");
        self.found.push(found);
    }

    pub fn messages(&self) -> Vec<&[u8]> {
        self.found
            .iter()
            .filter_map(|found| match found {
                Found::Message { bytes, .. } => Some(&bytes[..]),
                _ => None,
            })
            .collect()
    }

    /// How many times this was found; of what has a length, its bytes.
    pub fn total(&self, amount: impl Fn(&Found) -> usize) -> u64 {
        self.found.iter().map(amount).sum::<usize>() as u64
    }

    pub fn discarded(&self, reason: Discard) -> u64 {
        self.total(|found| match found {
            Found::Discard(len, why) if *why == reason => *len,
            _ => 0,
        })
    }

    pub fn bytes(&self) -> usize {
        let bytes = |found: &Found| match found {
            Found::Message { bytes, .. } => bytes.len(),
            Found::Framing(len) | Found::Discard(len, _) => *len,
            Found::Dropped | Found::Partial => 0,
        };
        self.found.iter().map(bytes).sum()
    }

    /// Adds what an event says of the first of `bytes`, and returns how many these are.
    ///
    /// # Panics
    /// When the event is not true.
    pub fn take(&mut self, event: Event, bytes: &[u8]) -> usize {
        match event {
            Event::Run {
                len,
                messages,
                delimiter,
            } => {
                let mut run = &bytes[..len];
                assert!(messages > 0 && run.last() == Some(&delimiter), "{event:?}");
                for _ in 0..messages {
                    let end = run.iter().position(|&byte| byte == delimiter).unwrap();
                    self.message(&run[..end], false);
                    self.framing(1);
                    run = &run[end + 1..];
                }
                assert!(run.is_empty(), "a run has more messages than it says");
                len
            }
            Event::Message { len, is_truncated } => {
                self.message(&bytes[..len], is_truncated);
                len
            }
            Event::Framing { len } => {
                self.framing(len);
                len
            }
            Event::Discard { len, reason } => {
                self.discard(len, reason);
                len
            }
            Event::Dropped => {
                self.push(Found::Dropped);
                0
            }
            Event::Unterminated => {
                self.push(Found::Partial);
                0
            }
            Event::Violation(_) => {
                self.violations += 1;
                0
            }
        }
    }
}

/// What takes a number of messages at most, and is asked again later.
pub struct Limited<'a> {
    sum: &'a mut Sum,
    input: &'a [u8],
    capacity: u64,
    pub at: usize,
    pub taken: u64,
    pub is_full: bool,
}

impl<'a> Limited<'a> {
    pub fn new(sum: &'a mut Sum, input: &'a [u8], capacity: u64) -> Self {
        let (at, taken, is_full) = (0, 0, false);
        Limited {
            sum,
            input,
            capacity,
            at,
            taken,
            is_full,
        }
    }
}

impl Take for Limited<'_> {
    fn take(&mut self, event: Event) {
        self.taken += match event {
            Event::Message { .. } => 1,
            Event::Run { messages, .. } => messages,
            _ => 0,
        };
        self.at += self.sum.take(event, &self.input[self.at..]);
    }

    fn can_take(&mut self, _: usize) -> bool {
        let can_take = self.taken < self.capacity;
        self.is_full |= !can_take;
        can_take
    }

    fn take_run(&mut self, len: usize, messages: u64, delimiter: u8) -> usize {
        let fit = messages.min(self.capacity - self.taken);
        self.is_full |= fit < messages;
        let run = &self.input[self.at..self.at + len];
        let part = match usize::try_from(fit).unwrap().checked_sub(1) {
            None => return 0,
            Some(before) => {
                let mut ends = run
                    .iter()
                    .enumerate()
                    .filter(|&(_, &byte)| byte == delimiter);
                ends.nth(before).unwrap().0 + 1
            }
        };
        self.take(Event::Run {
            len: part,
            messages: fit,
            delimiter,
        });
        part
    }
}
