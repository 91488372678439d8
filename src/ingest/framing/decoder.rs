//! One decoder for each framing, behind one front.

use super::counted::{Counted, Header};
use super::delimited::Delimited;
use super::event::{End, Take};
use super::input::{Framing, Oversize};
use super::syslog::Syslog;
use super::unfinished::Unfinished;

/// Splits a stream into messages.
///
/// A decoder holds no bytes: the caller keeps what was not consumed and passes it again, with more
/// behind. However the stream is split, the events add up to the same messages. No byte is searched
/// twice, nothing is allocated, and the caller has to keep at most `max_message` bytes and a
/// header.
#[derive(Clone, Debug)]
pub struct Decoder(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Delimited(Delimited),
    Counted(Counted),
    Syslog(Syslog),
}

impl Decoder {
    /// A decoder for `framing` that takes messages of up to `max_message` bytes. Any number will
    /// do: no message reaches `isize::MAX` bytes.
    pub fn new(framing: Framing, max_message: usize, oversize: Oversize) -> Self {
        let max_message = max_message.min(isize::MAX as usize);
        let counted = |header| Kind::Counted(Counted::new(header, max_message, oversize));
        Decoder(match framing {
            Framing::Lines => Kind::Delimited(Delimited::lines(max_message, oversize)),
            Framing::Nul => Kind::Delimited(Delimited::nul(max_message, oversize)),
            Framing::OctetCounted => counted(Header::Octets),
            Framing::LengthPrefixed => counted(Header::Prefix),
            Framing::Syslog => Kind::Syslog(Syslog::new(max_message, oversize)),
        })
    }

    /// The byte that ends each message of a [`Run`](super::Event::Run); no message holds it.
    /// `None`: a message may hold any byte.
    pub fn delimiter(&self) -> Option<u8> {
        match &self.0 {
            Kind::Delimited(delimited) => Some(delimited.delimiter()),
            Kind::Counted(_) | Kind::Syslog(_) => None,
        }
    }

    /// Whether an unfinished message has begun, `pending` bytes of it being kept by the caller.
    pub fn is_inside(&self, pending: usize) -> bool {
        pending > 0
            || match &self.0 {
                Kind::Delimited(delimited) => delimited.is_skipping(),
                Kind::Counted(counted) => counted.is_skipping(),
                Kind::Syslog(syslog) => syslog.is_skipping(),
            }
    }

    /// Decodes the whole messages in `input`, as far as `emit` can take them. Returns how many
    /// bytes were consumed; the rest begins the next input.
    pub fn decode(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        match &mut self.0 {
            Kind::Delimited(delimited) => delimited.decode(input, emit),
            Kind::Counted(counted) => each(input, |rest| counted.decode_next(rest, emit)),
            Kind::Syslog(syslog) => each(input, |rest| syslog.decode_next(rest, emit)),
        }
    }

    /// What was read of an unfinished message; `rest` is what the last decode left.
    pub(in crate::ingest) fn unfinished(&self, rest: &[u8]) -> Option<Unfinished> {
        match &self.0 {
            Kind::Delimited(delimited) => delimited.unfinished(rest),
            Kind::Counted(counted) => counted.unfinished(rest),
            Kind::Syslog(syslog) => syslog.unfinished(rest),
        }
    }

    /// The stream is at its end; `rest` is what the last decode left.
    pub fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        match &mut self.0 {
            Kind::Delimited(delimited) => delimited.finish(rest, end, emit),
            Kind::Counted(counted) => counted.finish(rest, end, emit),
            Kind::Syslog(syslog) => syslog.finish(rest, end, emit),
        }
    }
}

/// Decodes one message after the other, until `next` consumes nothing. Returns how many bytes were
/// consumed.
fn each(input: &[u8], mut next: impl FnMut(&[u8]) -> usize) -> usize {
    let mut at = 0;
    while at < input.len() {
        match next(&input[at..]) {
            0 => break,
            consumed => at += consumed,
        }
    }
    at
}
