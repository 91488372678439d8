//! How messages are told apart where they are written to.

use std::fmt;

use super::input::Framing;

/// How messages are framed where they are written to. This is independent of the input's framing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OutputFraming {
    /// A LF after each message.
    #[default]
    Lines,
    /// A NUL byte after each message.
    Nul,
    /// The count of its bytes in decimal and a space before each message (RFC 6587, section 3.4.1).
    OctetCounted,
    /// The count of its bytes as an unsigned 32-bit number, big-endian, before each message.
    LengthPrefixed,
}

impl OutputFraming {
    /// Every framing.
    pub const ALL: &'static [OutputFraming] = &[
        OutputFraming::Lines,
        OutputFraming::Nul,
        OutputFraming::OctetCounted,
        OutputFraming::LengthPrefixed,
    ];

    /// The framing's name, as in flags and logs.
    pub const fn name(self) -> &'static str {
        match self {
            OutputFraming::Lines => "lines",
            OutputFraming::Nul => "nul",
            OutputFraming::OctetCounted => "octet-counted",
            OutputFraming::LengthPrefixed => "length-prefixed",
        }
    }

    /// The byte after each message, where there is one.
    pub fn delimiter(self) -> Option<u8> {
        match self {
            OutputFraming::Lines => Some(b'\n'),
            OutputFraming::Nul => Some(b'\0'),
            OutputFraming::OctetCounted | OutputFraming::LengthPrefixed => None,
        }
    }

    /// Whether a message from `input` may hold the delimiter of this framing, so that a reader of
    /// the output sees two messages.
    pub fn can_tear(self, input: Framing) -> bool {
        match self {
            OutputFraming::Lines => input != Framing::Lines,
            OutputFraming::Nul => input != Framing::Nul,
            OutputFraming::OctetCounted | OutputFraming::LengthPrefixed => false,
        }
    }

    /// The most bytes of framing that a message takes.
    pub(in crate::ingest) const MAX_BYTES: usize = 11;

    /// What stands before a message of `len` bytes, written into `space`.
    pub(in crate::ingest) fn header(self, len: usize, space: &mut [u8; Self::MAX_BYTES]) -> &[u8] {
        match self {
            OutputFraming::OctetCounted => decimal_and_space(len, space),
            OutputFraming::LengthPrefixed => {
                // A message is at most 1 GiB.
                let prefix = (len as u32).to_be_bytes();
                space[..prefix.len()].copy_from_slice(&prefix);
                &space[..prefix.len()]
            }
            OutputFraming::Lines | OutputFraming::Nul => &[],
        }
    }
}

impl fmt::Display for OutputFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digits of a number below 10^10, and a space. This runs for each message, so it does without
/// `format!`.
fn decimal_and_space(mut number: usize, space: &mut [u8; OutputFraming::MAX_BYTES]) -> &[u8] {
    let mut at = space.len() - 1;
    space[at] = b' ';
    loop {
        at -= 1;
        space[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &space[at..];
        }
    }
}
