//! Messages that say how long they are.

use super::between::Between;
use super::event::{End, Event, Take, discard};
use super::input::{Framing, Oversize};
use super::seen::Seen;
use super::truncate::kept;
use super::unfinished::Unfinished;
use super::violation::Violation;
use crate::server::Discard;

/// A count has this many digits at most: 2^32 has ten.
const MAX_DIGITS: usize = 10;
/// A count up to this many bytes is believed, and any up to 16 times `max_message`.
const MAX_COUNTED: usize = 1 << 20;

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
    /// The header is not all there.
    Incomplete,
    /// No count begins like this.
    Invalid,
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
        .take(MAX_DIGITS)
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let has_leading_zero = digits > 1 && input[0] == b'0';
    if has_leading_zero || (digits == 0 && !input.is_empty()) {
        return Count::Invalid;
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
        Some(_) => Count::Invalid,
    }
}

/// The decoder of counted framings.
#[derive(Clone, Debug)]
pub(super) struct Counted {
    header: Header,
    max_message: usize,
    oversize: Oversize,
    /// A LF or CRLF at the end of a message is framing.
    strips_end: bool,
    /// What may stand before the next message.
    between: Between,
    /// Bytes of a message that was too long which are still to come, and what they are discarded
    /// for.
    skipping: Option<(usize, Discard)>,
    /// The peer broke the protocol: whatever else comes is discarded for this reason.
    broken: Option<Discard>,
}

impl Counted {
    pub(super) fn new(header: Header, max_message: usize, oversize: Oversize) -> Self {
        Counted {
            header,
            max_message,
            oversize,
            strips_end: false,
            between: match header {
                Header::Octets => Between::Start,
                Header::Prefix => Between::Nothing,
            },
            skipping: None,
            broken: None,
        }
    }

    /// The counted messages of a stream that has lines, too: what may stand between the two is the
    /// syslog decoder's affair.
    pub(super) fn among_lines(max_message: usize, oversize: Oversize) -> Self {
        Counted {
            strips_end: true,
            between: Between::Nothing,
            ..Counted::new(Header::Octets, max_message, oversize)
        }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping.is_some()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    fn framing(&self) -> Framing {
        match self.header {
            Header::Octets if self.strips_end => Framing::Syslog,
            Header::Octets => Framing::OctetCounted,
            Header::Prefix => Framing::LengthPrefixed,
        }
    }

    /// As [`Decoder::unfinished`](super::Decoder::unfinished). `None`: the bytes may yet turn out
    /// to be framing.
    pub(super) fn unfinished(&self, rest: &[u8]) -> Option<Unfinished> {
        if self.is_skipping() {
            return Some(Unfinished::TooLong);
        }
        match self.header.read(rest) {
            _ if rest.is_empty() => None,
            Count::Incomplete => Some(Unfinished::NoCount {
                there: rest.len(),
                begins: Seen::of(rest, self.framing()),
            }),
            Count::Of { header, message } => Some(Unfinished::Counted {
                there: rest.len() - header,
                of: message,
                begins: Seen::of_framed(rest),
            }),
            Count::Invalid => None,
        }
    }

    /// The largest count that a sender can mean.
    fn max_counted(&self) -> usize {
        MAX_COUNTED.max(self.max_message.saturating_mul(16))
    }

    /// Decodes what may stand between two messages, or else as [`decode_one`](Counted::decode_one).
    pub(super) fn decode_next(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        if let Some(passed) = self.between.pass(input, emit) {
            return passed;
        }
        let consumed = self.decode_one(input, emit);
        if consumed > 0 {
            let goes_on = self.is_skipping() || self.is_broken();
            self.between = match self.header {
                Header::Octets if !goes_on => Between::Counted,
                _ => Between::Nothing,
            };
        }
        consumed
    }

    /// Decodes one message, or what is there of a message that is skipped. 0: the message is not
    /// whole, or `emit` cannot take it.
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
            Count::Of { header, message } if message <= self.max_counted() => {
                return self.decode_message(input, header, message, emit);
            }
            Count::Of { message, .. } => Violation::CountTooLarge {
                count: message,
                max: self.max_counted(),
                begins: Seen::of(input, self.framing()),
            },
            Count::Invalid => Violation::NoCount {
                begins: Seen::of(input, self.framing()),
            },
        };
        self.broken = Some(Discard::InvalidFrame);
        emit.take(Event::Violation(violation));
        discard(input.len(), Discard::InvalidFrame, emit)
    }

    fn decode_message(
        &mut self,
        input: &[u8],
        header: usize,
        message: usize,
        emit: &mut impl Take,
    ) -> usize {
        let there = &input[header..input.len().min(header.saturating_add(message))];
        let has_all = there.len() == message;
        // A message that is a little longer may fit when its end is stripped.
        let strippable = if self.strips_end { 2 } else { 0 };
        if message <= self.max_message + strippable {
            if !has_all {
                return 0;
            }
            let len = message - self.end_of(there);
            if len <= self.max_message {
                if !emit.can_take(len) {
                    return 0;
                }
                emit.take(Event::Framing { len: header });
                emit.take(Event::Message {
                    len,
                    is_truncated: false,
                });
                if len < message {
                    emit.take(Event::Framing { len: message - len });
                }
                return header + message;
            }
        }
        let kept = match self.oversize {
            Oversize::Truncate if there.len() < self.max_message => return 0,
            Oversize::Truncate => match kept(there, self.max_message, has_all) {
                Some(kept) if emit.can_take(kept) => kept,
                _ => return 0,
            },
            Oversize::Drop | Oversize::Close => 0,
        };
        emit.take(Event::Framing { len: header });
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
                    begins: Seen::of_framed(there),
                }));
                self.broken = Some(Discard::Oversize);
            }
        }
        header + kept
    }

    /// How many bytes at the end of a whole message are framing.
    fn end_of(&self, message: &[u8]) -> usize {
        match message {
            _ if !self.strips_end => 0,
            [.., b'\r', b'\n'] => 2,
            [.., b'\n'] => 1,
            _ => 0,
        }
    }

    /// A message that its count says is not whole is never delivered.
    pub(super) fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        let reason = match end {
            End::Eof => Discard::Incomplete,
            End::Interrupted(reason) => reason,
        };
        discard(rest.len(), reason, emit);
    }
}
