//! Messages that say where they belong, so that a torn, merged, lost or repeated one is recognised.
//!
//! A message is one line of printable ASCII, without its LF:
//!
//! ```text
//! c00017 s0000000042 <filling><seal>
//! ```
//!
//! The filling follows from connection and sequence number, the length from these and the size asked for, and the seal
//! (8 hex digits) from all three. No proper part of a message is a message, nor is the start of one joined to the end of
//! another.

use std::io::{self, Write};
use std::ops::Range;

/// `c00017 s0000000042 `
const HEADER: usize = 19;
const SEAL: usize = 8;
/// The shortest message.
pub const SHORTEST: usize = HEADER + SEAL;
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

    /// Message `seq` without its LF: at most `size` bytes and up to 15 fewer, but never below [`SHORTEST`].
    pub fn line(&self, seq: u64, size: usize) -> Vec<u8> {
        let mut line = Vec::with_capacity(size.max(SHORTEST) + 1);
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
        let less = (mix(tag(self.connection, seq)) & 15) as usize;
        encode(
            bytes,
            self.connection,
            seq,
            size.saturating_sub(less).max(SHORTEST),
        );
    }

    /// Sends messages `range` as lines, cut into writes as `cut` says, and tells how much was taken.
    ///
    /// Blocks in write(2) while the receiver holds back: without end, unless the stream has a write timeout, as
    /// [`connect`](super::client::connect) sets it.
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
    if line.len() < SHORTEST {
        return Err("too short");
    }
    let (connection, seq) = header(line)?;
    let mut whole = Vec::with_capacity(line.len());
    encode(&mut whole, connection, seq, line.len());
    if whole[..line.len() - SEAL] != line[..line.len() - SEAL] {
        return Err("foreign bytes in the filling");
    }
    if whole != line {
        return Err("wrong seal: cut short, or joined to another");
    }
    Ok((connection, seq))
}

/// Connection and sequence number that a message begins with, whole or not.
pub fn header(line: &[u8]) -> Result<(u32, u64), &'static str> {
    if line.len() < HEADER || line[0] != b'c' || &line[6..8] != b" s" || line[18] != b' ' {
        return Err("no header");
    }
    let connection = digits(&line[1..6]).ok_or("no connection number")? as u32;
    let seq = digits(&line[8..18]).ok_or("no sequence number")?;
    Ok((connection, seq))
}

fn digits(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0, |number, digit| {
        digit
            .is_ascii_digit()
            .then(|| number * 10 + u64::from(digit - b'0'))
    })
}

/// Appends the message of exactly `length` bytes.
fn encode(bytes: &mut Vec<u8>, connection: u32, seq: u64, length: usize) {
    let start = bytes.len();
    assert!(
        seq < 10_000_000_000,
        "sequence number {seq} has more than ten digits"
    );
    write!(bytes, "c{connection:05} s{seq:010} ").unwrap();
    let mut word = tag(connection, seq);
    while bytes.len() - start < length - SEAL {
        word = mix(word);
        // Eight bytes from '0' to 'o': printable, no space, no LF.
        let eight = (word & 0x3f3f_3f3f_3f3f_3f3f) + 0x3030_3030_3030_3030;
        bytes.extend_from_slice(&eight.to_le_bytes());
    }
    bytes.truncate(start + length - SEAL);
    let seal = mix(tag(connection, seq) ^ mix(length as u64)) >> 32;
    write!(bytes, "{seal:08x}").unwrap();
}

fn tag(connection: u32, seq: u64) -> u64 {
    mix(u64::from(connection)) ^ seq
}

/// The finaliser of splitmix64: near inputs give unrelated outputs.
fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
