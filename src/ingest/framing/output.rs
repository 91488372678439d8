//! How messages are told apart where they are written to.

use std::fmt;

use super::Framing;
use crate::ingest::batch::buffer::Buffer;

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
    /// The framing's name, as in flags and logs.
    pub fn name(self) -> &'static str {
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

    /// Appends a message with its framing.
    pub(in crate::ingest) fn write(self, message: &[u8], to: &mut Buffer) {
        to.reserve(message.len() + Self::MAX_BYTES);
        match self {
            OutputFraming::OctetCounted => {
                let mut digits = [0; 10];
                to.append(decimal(message.len(), &mut digits));
                to.append(b" ");
            }
            // A message is at most 1 GiB.
            OutputFraming::LengthPrefixed => to.append(&(message.len() as u32).to_be_bytes()),
            OutputFraming::Lines | OutputFraming::Nul => {}
        }
        to.append(message);
        if let Some(delimiter) = self.delimiter() {
            to.append(&[delimiter]);
        }
    }
}

impl fmt::Display for OutputFraming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The digits of a number below 10^10. This runs for each message, so it does without `format!`.
fn decimal(mut number: usize, digits: &mut [u8; 10]) -> &[u8] {
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 || at == 0 {
            return &digits[at..];
        }
    }
}
