//! Messages on the wire, in each framing, and read back from what a sink holds.

use drainline::ingest::Framing;

use super::common::tagged::{self, Tagged};
use super::script::{MAX_MESSAGE, OVERSIZE};

/// What messages of a syslog sender begin with.
const PRIORITY: &[u8] = b"<13>";
/// The first byte of a message whose others are not text, and what they are hidden by: where a
/// framing knows a delimiter, it must not come of it; where none does, LF and NUL are to come often
/// ('0' and ':' are frequent).
const WILD: u8 = 0xff;
const HIDDEN: u8 = 0xa5;
const HIDDEN_COUNTED: u8 = 0x3a;
/// The first byte of one that is too long.
const LONG: u8 = b'!';

/// A message's kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Plain,
    Wild,
    Oversize,
}

/// Message `seq`, without its framing.
pub fn message(framing: Framing, tagged: &Tagged, seq: u64, size: usize, kind: Kind) -> Vec<u8> {
    let mut message = Vec::new();
    if framing == Framing::Syslog {
        message.extend_from_slice(PRIORITY);
    }
    match kind {
        Kind::Plain => message.extend(tagged.line(seq, size)),
        Kind::Wild => {
            let key = hidden_by(framing);
            message.push(WILD);
            message.extend(tagged.line(seq, size).iter().map(|byte| byte ^ key));
        }
        Kind::Oversize => {
            message.push(LONG);
            message.extend(tagged.line(seq, OVERSIZE));
        }
    }
    message
}

fn hidden_by(framing: Framing) -> u8 {
    match framing {
        Framing::OctetCounted | Framing::LengthPrefixed => HIDDEN_COUNTED,
        _ => HIDDEN,
    }
}

/// Framed as it goes over the wire; how, where a framing leaves it open, follows from `variant`.
/// With how many bytes of framing are before the message.
pub fn frame(framing: Framing, message: &[u8], variant: u64) -> (Vec<u8>, usize) {
    let counted = |mut bytes: Vec<u8>| {
        let header = bytes.len();
        bytes.extend_from_slice(message);
        (bytes, header)
    };
    let delimited = |delimiter: &[u8]| ([message, delimiter].concat(), 0);
    let octets = || counted(format!("{} ", message.len()).into_bytes());
    match framing {
        Framing::Nul => delimited(b"\0"),
        Framing::OctetCounted => octets(),
        Framing::LengthPrefixed => counted((message.len() as u32).to_be_bytes().to_vec()),
        Framing::Syslog if variant.is_multiple_of(2) && !message.is_empty() => octets(),
        _ if variant.is_multiple_of(3) => delimited(b"\r\n"),
        _ => delimited(b"\n"),
    }
}

/// What no framing that counts takes for a count.
pub fn garbage(framing: Framing) -> Option<&'static [u8]> {
    match framing {
        Framing::OctetCounted => Some(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"),
        Framing::LengthPrefixed => Some(b"\x7f\xff\xff\xff and what follows it"),
        _ => None,
    }
}

/// A message that has become a line: each of its line feeds is a space there, which none of our
/// messages has that has a line feed.
pub fn of_line(line: &[u8]) -> Vec<u8> {
    let is_wild = line.strip_prefix(PRIORITY).unwrap_or(line).first() == Some(&WILD);
    let byte = |byte: &u8| match byte {
        b' ' if is_wild => b'\n',
        byte => *byte,
    };
    line.iter().map(byte).collect()
}

/// What a message of a sink's is.
#[derive(Debug, PartialEq, Eq)]
pub enum Seen {
    Blank,
    Tagged(u32, u64),
    Broken(&'static str),
}

/// Recognises a message as it was delivered.
pub fn recognise(framing: Framing, message: &[u8]) -> Seen {
    if message.is_empty() {
        return Seen::Blank;
    }
    let is_cut = message.len() == MAX_MESSAGE;
    let prefix = if framing == Framing::Syslog {
        PRIORITY
    } else {
        b""
    };
    let Some(rest) = message.strip_prefix(prefix) else {
        return Seen::Broken("no priority");
    };
    let parsed = match rest.split_first() {
        Some((&LONG, cut)) if is_cut => tagged::header(cut).and_then(|(connection, seq)| {
            let whole = Tagged::new(connection).line(seq, OVERSIZE);
            let same = whole.starts_with(cut);
            same.then_some((connection, seq))
                .ok_or("another beginning than was sent")
        }),
        Some((&WILD, hidden)) => {
            let key = hidden_by(framing);
            let line: Vec<u8> = hidden.iter().map(|byte| byte ^ key).collect();
            tagged::parse(&line)
        }
        _ => tagged::parse(rest),
    };
    match parsed {
        Ok((connection, seq)) => Seen::Tagged(connection, seq),
        Err(why) => Seen::Broken(why),
    }
}

/// A sink's whole messages, and the bytes that are left of one that is not.
pub fn read<'a>(output: &str, mut bytes: &'a [u8]) -> (Vec<&'a [u8]>, &'a [u8]) {
    let mut messages = Vec::new();
    while let Some((message, end)) = read_one(output, bytes) {
        messages.push(message);
        bytes = &bytes[end..];
    }
    (messages, bytes)
}

fn read_one<'a>(output: &str, bytes: &'a [u8]) -> Option<(&'a [u8], usize)> {
    let until = |delimiter: u8| {
        let end = memchr::memchr(delimiter, bytes)?;
        Some((&bytes[..end], end + 1))
    };
    let counted = |header: usize, len: usize| {
        let message = bytes.get(header..header + len)?;
        Some((message, header + len))
    };
    match output {
        "lines" => until(b'\n'),
        "nul" => until(b'\0'),
        "octet-counted" => {
            let (digits, header) = until(b' ')?;
            let len = std::str::from_utf8(digits).ok()?.parse().ok()?;
            counted(header, len)
        }
        "length-prefixed" => counted(4, u32::from_be_bytes(*bytes.first_chunk()?) as usize),
        other => panic!("no output framing {other}"),
    }
}
