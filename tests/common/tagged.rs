//! Messages that say where they belong, as `drainline load --numbered` sends them, and the senders
//! of the tests.

use std::io::{self, Write};
use std::ops::Range;

// One definition for the tests and for the program.
#[path = "../../src/tools/tag.rs"]
mod tag;

pub(crate) use tag::MIN_MESSAGE;
use tag::{Tag, mix};

/// How much is gathered before a write, where the cut leaves it open.
const BLOCK: usize = 64 * 1024;

/// A small, seeded source of numbers (xorshift64*): the same seed gives the same run.
#[derive(Debug, Clone)]
pub struct XorShift(u64);

impl XorShift {
    pub fn new(seed: u64) -> XorShift {
        XorShift(mix(seed) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// A number in `1..=most`; `most` is at least 1.
    pub fn up_to(&mut self, most: usize) -> usize {
        1 + (self.next() % most as u64) as usize
    }
}

/// How a run of messages is cut into writes.
#[derive(Debug, Clone, Copy)]
pub enum Cut {
    /// All of it in one buffer and, if the kernel takes it, one write.
    Once,
    /// Blocks of about 64 KiB that end with a message: as fast as it goes.
    Blocks,
    /// Writes of 1 to `most` bytes, wherever that cuts.
    Random { seed: u64, most: usize },
}

/// What the kernel took of a run. A TCP sender knows no more than this.
#[derive(Debug)]
#[must_use]
pub struct Sent {
    /// Whole messages, each with its LF.
    pub messages: u64,
    /// Bytes, the part of an unfinished message included.
    pub bytes: u64,
    /// Why it stopped early, if it did.
    pub error: Option<io::Error>,
}

impl Sent {
    /// # Panics
    /// When not everything was taken.
    #[track_caller]
    pub fn all(self) -> Sent {
        match &self.error {
            None => self,
            Some(error) => panic!(
                "sent only {} messages, {} bytes: {error}",
                self.messages, self.bytes
            ),
        }
    }
}

/// The messages of one connection, numbered from 0.
#[derive(Debug, Clone, Copy)]
pub struct Tagged {
    connection: u32,
}

impl Tagged {
    /// `connection` has at most five digits.
    pub fn new(connection: u32) -> Tagged {
        assert!(
            connection < 100_000,
            "connection {connection} has more than five digits"
        );
        Tagged { connection }
    }

    /// Message `seq` without its LF: at most `size` bytes and up to 15 fewer, but never below
    /// [`MIN_MESSAGE`].
    pub fn line(&self, seq: u64, size: usize) -> Vec<u8> {
        let mut line = Vec::with_capacity(size.max(MIN_MESSAGE) + 1);
        self.append(&mut line, seq, size);
        line
    }

    /// Messages `range`, each with its LF, as they go over the wire and stand in a sink of lines.
    pub fn lines(&self, range: Range<u64>, size: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        for seq in range {
            self.append(&mut bytes, seq, size);
            bytes.push(b'\n');
        }
        bytes
    }

    fn append(&self, bytes: &mut Vec<u8>, seq: u64, size: usize) {
        let less = (mix(mix(u64::from(self.connection)) ^ seq) & 15) as usize;
        let tag = Tag {
            connection: self.connection,
            seq,
            stamp: None,
        };
        tag.append(bytes, size.saturating_sub(less).max(MIN_MESSAGE));
    }

    /// Sends messages `range` as lines, cut into writes as `cut` says, and tells how much was
    /// taken.
    ///
    /// Blocks in write(2) while the receiver holds back: without end, unless the stream has a write
    /// timeout, as [`connect`](super::client::connect) sets it.
    pub fn send(&self, to: &mut impl Write, range: Range<u64>, size: usize, cut: Cut) -> Sent {
        let mut sent = Sent {
            messages: 0,
            bytes: 0,
            error: None,
        };
        let mut cutter = match cut {
            Cut::Random { seed, most } => Some((XorShift::new(seed), most)),
            Cut::Once | Cut::Blocks => None,
        };
        let block = if matches!(cut, Cut::Once) {
            usize::MAX
        } else {
            BLOCK
        };
        let mut bytes = Vec::new();
        let last = range.end;
        for seq in range {
            self.append(&mut bytes, seq, size);
            bytes.push(b'\n');
            if bytes.len() >= block || seq + 1 == last {
                write(to, &bytes, cutter.as_mut(), &mut sent);
                if sent.error.is_some() {
                    break;
                }
                bytes.clear();
            }
        }
        sent
    }
}

fn write(
    to: &mut impl Write,
    mut bytes: &[u8],
    mut cutter: Option<&mut (XorShift, usize)>,
    sent: &mut Sent,
) {
    while !bytes.is_empty() {
        let most = cutter
            .as_mut()
            .map_or(usize::MAX, |(random, most)| random.up_to(*most));
        match to.write(&bytes[..most.min(bytes.len())]) {
            Ok(0) => {
                sent.error = Some(io::ErrorKind::WriteZero.into());
                return;
            }
            Ok(taken) => {
                sent.bytes += taken as u64;
                sent.messages +=
                    bytes[..taken].iter().filter(|byte| **byte == b'\n').count() as u64;
                bytes = &bytes[taken..];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                sent.error = Some(error);
                return;
            }
        }
    }
}

/// Connection and sequence number of a message (without its LF), or why it is none.
pub fn parse(line: &[u8]) -> Result<(u32, u64), &'static str> {
    Tag::parse(line).map(|tag| (tag.connection, tag.seq))
}

/// Connection and sequence number that a message begins with, whole or not.
pub fn header(line: &[u8]) -> Result<(u32, u64), &'static str> {
    Tag::header(line).map(|(tag, _)| (tag.connection, tag.seq))
}
