//! Syslog over TCP, where each message is framed as its sender likes: counted, or as a line.

use super::between::Between;
use super::counted::{Count, Counted, Header};
use super::delimited::Delimited;
use super::event::{End, Take};
use super::input::Oversize;
use super::unfinished::Unfinished;

/// How the next message is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// Too few bytes are there to tell.
    Unknown,
    Counted,
    Line,
}

/// The decoder of the mixed framing.
#[derive(Clone, Debug)]
pub(super) struct Syslog {
    line: Delimited,
    counted: Counted,
    /// What may stand before the next message.
    between: Between,
}

impl Syslog {
    pub(super) fn new(max_message: usize, oversize: Oversize) -> Self {
        Syslog {
            line: Delimited::among_counted(max_message, oversize),
            counted: Counted::among_lines(max_message, oversize),
            between: Between::Start,
        }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.line.is_skipping() || self.counted.is_skipping()
    }

    /// Decodes what may stand between two messages, or else one message, or what is there of a
    /// message that is skipped. 0: the message is not whole, or `emit` cannot take it.
    pub(super) fn decode_next(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        if let Some(passed) = self.between.pass(input, emit) {
            return passed;
        }
        let (consumed, after) = match self.guess(input) {
            Guess::Unknown => return 0,
            Guess::Counted => (self.counted.decode_one(input, emit), Between::Counted),
            Guess::Line => (self.line.decode_one(input, emit), Between::Line),
        };
        if consumed > 0 {
            let is_broken = self.line.is_broken() || self.counted.is_broken();
            self.between = if self.is_skipping() || is_broken {
                Between::Nothing
            } else {
                after
            };
        }
        consumed
    }

    pub(super) fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        match self.guess_at_end(rest) {
            Guess::Counted => self.counted.finish(rest, end, emit),
            Guess::Line | Guess::Unknown => self.line.finish(rest, end, emit),
        }
    }

    /// Where the stream ends inside what may be a priority, the message counts as an unfinished
    /// counted one: half of such a message must not be taken for a line.
    fn guess_at_end(&self, rest: &[u8]) -> Guess {
        match (self.guess(rest), Header::Octets.read(rest)) {
            (Guess::Unknown, Count::Of { header, .. }) if rest.len() > header => Guess::Counted,
            (guess, _) => guess,
        }
    }

    /// As [`Decoder::unfinished`](super::Decoder::unfinished).
    pub(super) fn unfinished(&self, rest: &[u8]) -> Option<Unfinished> {
        match self.guess_at_end(rest) {
            Guess::Counted => self.counted.unfinished(rest),
            Guess::Unknown | Guess::Line => self.line.unfinished(rest),
        }
    }

    /// What a message begins with says how it is framed. The rest of a message that was too long
    /// goes on as that message began. Lines are `10 green bottles` and
    /// `250 <bob@example.com> Recipient ok`.
    fn guess(&self, input: &[u8]) -> Guess {
        if self.line.is_skipping() || self.line.is_broken() {
            return Guess::Line;
        }
        if self.counted.is_skipping() || self.counted.is_broken() {
            return Guess::Counted;
        }
        if !matches!(input.first(), Some(b'1'..=b'9')) {
            return Guess::Line;
        }
        match Header::Octets.read(input) {
            Count::Incomplete => Guess::Unknown,
            Count::Of { header, message } => priority(&input[header..], message),
            Count::Invalid => Guess::Line,
        }
    }
}

/// Digits are a count only where a whole priority follows, within the bytes that they count. So
/// are digits that count too much: taken for a line, such a message would be delivered with its
/// count in it, and its rest in pieces.
fn priority(body: &[u8], count: usize) -> Guess {
    const MAX_DIGITS: usize = 3;
    const MAX_PRIORITY: u32 = 191;
    let body = &body[..body.len().min(count)];
    let rest = match body.split_first() {
        None => body,
        Some((b'<', rest)) => rest,
        Some(_) => return Guess::Line,
    };
    let digits = rest.iter().take(MAX_DIGITS + 1);
    let digits = digits.take_while(|byte| byte.is_ascii_digit()).count();
    let value = |sum, digit: &u8| sum * 10 + u32::from(digit - b'0');
    if digits > MAX_DIGITS || rest[..digits].iter().fold(0, value) > MAX_PRIORITY {
        return Guess::Line;
    }
    match rest.get(digits) {
        None if count < digits.max(1) + 2 => Guess::Line,
        None => Guess::Unknown,
        Some(b'>') if digits > 0 => Guess::Counted,
        Some(_) => Guess::Line,
    }
}
