//! Messages that say where they belong, so that a torn, merged, lost or repeated one is recognised.
//!
//! A message is one line of printable ASCII, without its framing:
//!
//! ```text
//! c00017 s0000000042 <filling><seal>
//! 1764000000123456789 c00017 s0000000042 <filling><seal>
//! ```
//!
//! A connection number has five digits, or more where it needs them. The second form is stamped: it
//! begins with a time in nanoseconds since 1970. The filling follows from connection and sequence
//! number; the seal (8 hex digits) from these, the stamp and the length. No proper part of a
//! message is a message, nor is the start of one joined to the end of another.
//!
//! The tests of this crate include this file, so it needs nothing but std.

/// `c00017 s0000000042 `
const HEADER: usize = 19;
const SEAL: usize = 8;
/// The digits of a stamp. They suffice until 2286.
const STAMP_DIGITS: usize = 19;
/// `1764000000123456789 `
pub(crate) const STAMP: usize = STAMP_DIGITS + 1;
/// The shortest message: of a connection with five digits, without a stamp.
pub(crate) const MIN_MESSAGE: usize = HEADER + SEAL;
/// The shortest length that holds any message without a stamp: ten digits for the connection.
pub(crate) const MIN_OF_ANY: usize = MIN_MESSAGE + 5;

const SEQ_DIGITS: usize = 10;

/// Where a message belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag {
    pub(crate) connection: u32,
    /// Counts the messages of the connection from 0; it has at most ten digits.
    pub(crate) seq: u64,
    /// Nanoseconds since 1970.
    pub(crate) stamp: Option<u64>,
}

impl Tag {
    /// Appends the message of exactly `length` bytes, which has to hold its header and seal.
    pub(crate) fn append(&self, bytes: &mut Vec<u8>, length: usize) {
        let start = bytes.len();
        if let Some(stamp) = self.stamp {
            append_stamp(bytes, stamp);
        }
        bytes.push(b'c');
        digits(bytes, u64::from(self.connection), self.connection_digits());
        bytes.extend_from_slice(b" s");
        digits(bytes, self.seq, SEQ_DIGITS);
        bytes.push(b' ');
        let end = start + length - SEAL;
        let mut filling = self.filling();
        while bytes.len() < end {
            bytes.extend_from_slice(&filling());
        }
        bytes.truncate(end);
        bytes.extend_from_slice(&self.seal(length));
    }

    /// The tag of a whole message, or why it is none.
    pub(crate) fn parse(message: &[u8]) -> Result<Tag, &'static str> {
        if message.len() < MIN_MESSAGE {
            return Err("too short");
        }
        let (tag, header) = Tag::header(message)?;
        let Some(filling_bytes) = (message.len() - header).checked_sub(SEAL) else {
            return Err("too short");
        };
        let (filling, seal) = message[header..].split_at(filling_bytes);
        let mut expected = tag.filling();
        if !filling
            .chunks(8)
            .all(|eight| *eight == expected()[..eight.len()])
        {
            return Err("foreign bytes in the filling");
        }
        if *seal != tag.seal(message.len()) {
            return Err("wrong seal: cut short, or joined to another");
        }
        Ok(tag)
    }

    /// The tag that a message begins with, whole or not, and how many bytes it takes.
    pub(crate) fn header(message: &[u8]) -> Result<(Tag, usize), &'static str> {
        let (stamp, rest) = match message.first() {
            Some(b'0'..=b'9') => {
                let (stamp, rest) = split_stamp(message).ok_or("no whole time stamp")?;
                (Some(stamp), rest)
            }
            _ => (None, message),
        };
        let rest = rest.strip_prefix(b"c").ok_or("no header")?;
        let width = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let connection = value(&rest[..width])
            .filter(|_| width >= 5 && (width == 5 || rest[0] != b'0'))
            .and_then(|number| u32::try_from(number).ok())
            .ok_or("no connection number")?;
        let rest = rest[width..].strip_prefix(b" s").ok_or("no header")?;
        let seq = rest
            .get(..SEQ_DIGITS)
            .and_then(value)
            .ok_or("no sequence number")?;
        if rest.get(SEQ_DIGITS) != Some(&b' ') {
            return Err("no header");
        }
        let tag = Tag {
            connection,
            seq,
            stamp,
        };
        Ok((tag, message.len() - rest.len() + SEQ_DIGITS + 1))
    }

    fn connection_digits(&self) -> usize {
        match self.connection.checked_ilog10() {
            Some(log) if log >= 5 => log as usize + 1,
            _ => 5,
        }
    }

    /// Eight bytes from '0' to 'o' at a time: printable, no space, no LF.
    fn filling(&self) -> impl FnMut() -> [u8; 8] + use<> {
        let mut word = self.word();
        move || {
            word = mix(word);
            ((word & 0x3f3f_3f3f_3f3f_3f3f) + 0x3030_3030_3030_3030).to_le_bytes()
        }
    }

    fn seal(&self, length: usize) -> [u8; SEAL] {
        let stamp = self.stamp.unwrap_or(0);
        let seal = mix(self.word() ^ mix(length as u64 ^ mix(stamp))) >> 32;
        std::array::from_fn(|at| b"0123456789abcdef"[(seal >> (28 - 4 * at)) as usize & 15])
    }

    fn word(&self) -> u64 {
        mix(u64::from(self.connection)) ^ self.seq
    }
}

/// Appends `1764000000123456789 `.
pub(crate) fn append_stamp(bytes: &mut Vec<u8>, nanos: u64) {
    digits(bytes, nanos, STAMP_DIGITS);
    bytes.push(b' ');
}

fn split_stamp(message: &[u8]) -> Option<(u64, &[u8])> {
    let (stamp, rest) = message.split_at_checked(STAMP)?;
    let (number, space) = stamp.split_at(STAMP_DIGITS);
    (space == b" ").then_some((value(number)?, rest))
}

fn value(text: &[u8]) -> Option<u64> {
    text.iter().try_fold(0u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends the last `width` digits of `number`, without the machinery of formatting: this is done
/// for each message.
fn digits(bytes: &mut Vec<u8>, mut number: u64, width: usize) {
    let start = bytes.len();
    bytes.resize(start + width, b'0');
    for byte in bytes[start..].iter_mut().rev() {
        *byte = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

/// The finaliser of splitmix64: near inputs give unrelated outputs.
pub(crate) fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}
