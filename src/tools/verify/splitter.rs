//! Splits a sink's output into messages, and goes on behind those that are none.

use std::io::{self, ErrorKind, Read};

use drainline::ingest::OutputFraming;

use super::super::tag::Tag;

/// No load sends longer messages.
const MAX_MESSAGE: usize = 64 << 20;
const READ: usize = 1 << 20;
/// More than the tag and the framing before it take.
const HEADER: usize = 80;
/// Of something torn so much is kept, to be shown.
const SAMPLE: usize = 80;

/// What is found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Piece<'a> {
    Whole(Tag),
    Torn {
        /// Where in the input it begins.
        offset: u64,
        /// Its first bytes.
        bytes: &'a [u8],
        why: &'static str,
    },
}

/// Reads `input` to its end and hands over each message, in at most the memory of two longest ones.
pub(super) fn read(
    mut input: impl Read,
    framing: OutputFraming,
    mut found: impl FnMut(Piece<'_>) -> io::Result<()>,
) -> io::Result<()> {
    let mut splitter = Splitter {
        framing,
        offset: 0,
        torn: None,
    };
    let mut buffer = vec![0; READ];
    let mut filled = 0;
    loop {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let read = match input.read(&mut buffer[filled..]) {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            other => other?,
        };
        filled += read;
        let done = splitter.split(&buffer[..filled], read == 0, &mut found)?;
        buffer.copy_within(done..filled, 0);
        filled -= done;
        if read == 0 {
            return splitter.end(&mut found);
        }
    }
}

struct Splitter {
    framing: OutputFraming,
    /// Of the next byte in the input.
    offset: u64,
    torn: Option<Begun>,
}

/// Something torn whose end is not found yet.
struct Begun {
    offset: u64,
    sample: Vec<u8>,
    why: &'static str,
}

/// What stands at the beginning of some bytes.
enum At {
    Whole(Tag, usize),
    /// So far it may be one.
    Part,
    None(&'static str),
}

impl Splitter {
    /// Returns how many bytes of `input` are done with.
    fn split(
        &mut self,
        input: &[u8],
        is_last: bool,
        found: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let mut done = 0;
        while done < input.len() {
            let rest = &input[done..];
            let taken = match self.framing.delimiter() {
                Some(delimiter) => self.delimited(rest, delimiter, is_last, found)?,
                None => self.counted(rest, is_last, found)?,
            };
            if taken == 0 {
                break;
            }
            done += taken;
            self.offset += taken as u64;
        }
        Ok(done)
    }

    fn delimited(
        &mut self,
        rest: &[u8],
        delimiter: u8,
        is_last: bool,
        found: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        let Some(end) = memchr::memchr(delimiter, rest) else {
            if is_last {
                self.tear(rest, "not ended");
                return Ok(rest.len());
            }
            if rest.len() <= MAX_MESSAGE {
                return Ok(0);
            }
            self.tear(rest, "longer than any message");
            return Ok(rest.len());
        };
        match Tag::parse(&rest[..end]) {
            // What is longer than any message ends here.
            _ if self.torn.is_some() => self.end(found)?,
            Ok(tag) => found(Piece::Whole(tag))?,
            Err(why) => {
                self.tear(&rest[..end], why);
                self.end(found)?;
            }
        }
        Ok(end + 1)
    }

    /// A message, or one byte of what is none.
    fn counted(
        &mut self,
        rest: &[u8],
        is_last: bool,
        found: &mut impl FnMut(Piece<'_>) -> io::Result<()>,
    ) -> io::Result<usize> {
        match self.at(rest) {
            At::Whole(tag, bytes) => {
                self.end(found)?;
                found(Piece::Whole(tag))?;
                Ok(bytes)
            }
            At::Part if !is_last => Ok(0),
            At::Part => {
                self.tear(rest, "not all there at the end");
                Ok(1)
            }
            At::None(why) => {
                self.tear(rest, why);
                Ok(1)
            }
        }
    }

    fn at(&self, rest: &[u8]) -> At {
        let (header, length) = match self.framing {
            OutputFraming::LengthPrefixed => match rest.first_chunk() {
                None => return At::Part,
                Some(bytes) => (bytes.len(), u32::from_be_bytes(*bytes) as usize),
            },
            _ => {
                let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
                let text = std::str::from_utf8(&rest[..digits]).unwrap_or_default();
                match (text.parse(), rest.get(digits)) {
                    (Ok(length), Some(b' ')) if digits <= 10 => (digits + 1, length),
                    (Ok(_), None) if digits <= 10 => return At::Part,
                    _ => return At::None("no count"),
                }
            }
        };
        if length > MAX_MESSAGE {
            return At::None("a count of more than any message has");
        }
        let message = &rest[header..];
        if let Some(whole) = message.get(..length) {
            return match Tag::parse(whole) {
                Ok(tag) => At::Whole(tag, header + length),
                Err(why) => At::None(why),
            };
        }
        // Not all there: no sense in waiting for more of what is none.
        match Tag::header(message) {
            Err(why) if message.len() >= HEADER => At::None(why),
            _ => At::Part,
        }
    }

    /// Something torn begins here, unless one has begun already.
    fn tear(&mut self, bytes: &[u8], why: &'static str) {
        self.torn.get_or_insert_with(|| Begun {
            offset: self.offset,
            sample: bytes[..bytes.len().min(SAMPLE)].to_vec(),
            why,
        });
    }

    /// Something torn, if there is, ends here.
    fn end(&mut self, found: &mut impl FnMut(Piece<'_>) -> io::Result<()>) -> io::Result<()> {
        match self.torn.take() {
            None => Ok(()),
            Some(torn) => found(Piece::Torn {
                offset: torn.offset,
                bytes: &torn.sample,
                why: torn.why,
            }),
        }
    }
}
