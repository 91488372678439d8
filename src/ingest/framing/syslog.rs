//! Syslog over TCP, where each message is framed as its sender likes: counted, or as a line.

use super::counted::{Count, Counted, Header};
use super::delimited::Delimited;
use super::{End, Oversize, Take};

/// How the next message is framed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Guess {
    /// Too little of it is there to tell.
    Unknown,
    Counted,
    Line,
}

/// The decoder of the mixed framing.
#[derive(Clone, Debug)]
pub(super) struct Syslog {
    line: Delimited,
    counted: Counted,
}

impl Syslog {
    pub(super) fn new(max_message: usize, oversize: Oversize) -> Self {
        Syslog {
            line: Delimited::lines(max_message, oversize),
            counted: Counted::new(Header::Octets, max_message, oversize),
        }
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.line.is_skipping() || self.counted.is_skipping()
    }

    pub(super) fn decode(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        let mut at = 0;
        while at < input.len() {
            let rest = &input[at..];
            let consumed = match self.guess(rest) {
                Guess::Unknown => 0,
                Guess::Counted => self.counted.decode_one(rest, emit),
                Guess::Line => self.line.decode_one(rest, emit),
            };
            if consumed == 0 {
                break;
            }
            at += consumed;
        }
        at
    }

    pub(super) fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        match self.guess(rest) {
            Guess::Counted => self.counted.finish(rest, end, emit),
            Guess::Line | Guess::Unknown => self.line.finish(rest, end, emit),
        }
    }

    /// What a message begins with says what it is, and so does what is left of one that was too long.
    /// `10 green bottles` is a line.
    fn guess(&self, input: &[u8]) -> Guess {
        if self.line.is_skipping() || self.line.is_broken() {
            return Guess::Line;
        }
        if self.counted.is_skipping() || self.counted.is_broken() {
            return Guess::Counted;
        }
        match (input.first(), Header::Octets.read(input)) {
            (Some(b'1'..=b'9'), Count::Incomplete) => Guess::Unknown,
            (Some(b'1'..=b'9'), Count::Of { header, message }) => match input.get(header) {
                _ if self.counted.is_garbage(message) => Guess::Line,
                None => Guess::Unknown,
                Some(b'<') => Guess::Counted,
                Some(_) => Guess::Line,
            },
            _ => Guess::Line,
        }
    }
}
