//! Messages that say how long they are.

use super::{Discard, End, Event, Oversize, Take, Violation, discard};

/// A count has this many digits at most: 2^32 has ten.
const MOST_DIGITS: usize = 10;
/// A count above this and above 16 longest messages is nothing that anybody means.
const LEAST_GARBAGE: usize = 1 << 20;

/// How a message's length is written before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Header {
    /// Decimal digits and a space.
    Octets,
    /// Four bytes, big-endian.
    Prefix,
}

/// What the beginning of a message says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Count {
    /// It is not all there.
    Incomplete,
    /// It is no count.
    Garbage,
    /// A header of so many bytes, and a message of so many.
    Of { header: usize, message: usize },
}

impl Header {
    pub(in crate::ingest) fn read(self, input: &[u8]) -> Count {
        match self {
            Header::Prefix => match input.first_chunk() {
                None => Count::Incomplete,
                Some(bytes) => Count::Of {
                    header: bytes.len(),
                    message: u32::from_be_bytes(*bytes) as usize,
                },
            },
            Header::Octets => read_octets(input),
        }
    }
}

/// `0 `, or a digit from 1 to 9, at most nine more, and a space.
fn read_octets(input: &[u8]) -> Count {
    let digits = input
        .iter()
        .take(MOST_DIGITS)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let has_leading_zero = digits > 1 && input[0] == b'0';
    if has_leading_zero || (digits == 0 && !input.is_empty()) {
        return Count::Garbage;
    }
    match input.get(digits) {
        None => Count::Incomplete,
        Some(b' ') => {
            let value = |sum: usize, digit: &u8| {
                sum.saturating_mul(10)
                    .saturating_add(usize::from(digit - b'0'))
            };
            Count::Of {
                header: digits + 1,
                message: input[..digits].iter().fold(0, value),
            }
        }
        Some(_) => Count::Garbage,
    }
}

/// The decoder of counted framings.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    header: Header,
    max_message: usize,
    oversize: Oversize,
    /// Bytes of a message that was too long which are still to come, and what they are discarded for.
    skipping: Option<(usize, Discard)>,
    /// The peer broke the protocol: whatever else comes is discarded for this.
    broken: Option<Discard>,
}

impl Counted {
    pub(super) fn new(header: Header, max_message: usize, oversize: Oversize) -> Self {
        Counted {
            header,
            max_message,
            oversize,
            skipping: None,
            broken: None,
        }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping.is_some()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// Whether a count is nothing that anybody means.
    pub(super) fn is_garbage(&self, message: usize) -> bool {
        message > self.most_counted()
    }

    fn most_counted(&self) -> usize {
        LEAST_GARBAGE.max(self.max_message.saturating_mul(16))
    }

    pub(super) fn decode(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        let mut at = 0;
        while at < input.len() {
            match self.decode_one(&input[at..], emit) {
                0 => break,
                consumed => at += consumed,
            }
        }
        at
    }

    /// Decodes one message, or what is there of one that is skipped. 0: it is not whole, or there is no room for it.
    pub(super) fn decode_one(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        if let Some(reason) = self.broken {
            return discard(input.len(), reason, emit);
        }
        if let Some((left, reason)) = self.skipping {
            let len = left.min(input.len());
            self.skipping = (len < left).then_some((left - len, reason));
            return discard(len, reason, emit);
        }
        let violation = match self.header.read(input) {
            Count::Incomplete => return 0,
            Count::Of { header, message } if !self.is_garbage(message) => {
                return self.decode_message(input, header, message, emit);
            }
            Count::Of { message, .. } => Violation::CountTooLarge {
                count: message,
                most: self.most_counted(),
            },
            Count::Garbage => Violation::no_count(input),
        };
        self.broken = Some(Discard::Garbage);
        emit.take(Event::Violation(violation));
        discard(input.len(), Discard::Garbage, emit)
    }

    fn decode_message(
        &mut self,
        input: &[u8],
        header: usize,
        message: usize,
        emit: &mut impl Take,
    ) -> usize {
        let is_too_long = message > self.max_message;
        let kept = match self.oversize {
            _ if !is_too_long => message,
            Oversize::Truncate => self.max_message,
            Oversize::Drop | Oversize::Close => 0,
        };
        let is_kept = !is_too_long || self.oversize == Oversize::Truncate;
        if input.len() - header < kept || (is_kept && !emit.has_room(kept)) {
            return 0;
        }
        emit.take(Event::Framing { len: header });
        if !is_too_long {
            emit.take(Event::Message {
                len: message,
                is_truncated: false,
            });
            return header + message;
        }
        match self.oversize {
            Oversize::Truncate => {
                emit.take(Event::Message {
                    len: kept,
                    is_truncated: true,
                });
                self.skipping = Some((message - kept, Discard::Truncated));
            }
            Oversize::Drop => {
                emit.take(Event::Dropped);
                self.skipping = Some((message, Discard::Oversize));
            }
            Oversize::Close => {
                emit.take(Event::Violation(Violation::Oversize {
                    at_least: message,
                    max_message: self.max_message,
                }));
                self.broken = Some(Discard::Oversize);
            }
        }
        header + kept
    }

    /// A message that is not whole is not delivered: its count says so.
    pub(super) fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        let reason = match end {
            End::Eof => Discard::Incomplete,
            End::Cut(reason) => reason,
        };
        discard(rest.len(), reason, emit);
    }
}
