//! A message whose end did not come, for the line of the log that says so.

use std::fmt;

use super::seen::Seen;
use crate::server::counted;

/// What was read of a message when its stream ended, was reset, or a deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Unfinished {
    /// Bytes without a delimiter.
    Undelimited {
        delimiter: u8,
        there: usize,
        begins: Seen,
    },
    /// Bytes that may be a count, or the beginning of one.
    NoCount { there: usize, begins: Seen },
    /// A count, and fewer bytes than it counts.
    Counted {
        there: usize,
        of: usize,
        begins: Seen,
    },
    /// The rest of a message that was too long, which is discarded as it comes.
    TooLong,
}

impl Unfinished {
    /// Whether only a count says that the message is not whole.
    pub(in crate::ingest) fn is_counted(&self) -> bool {
        matches!(
            self,
            Unfinished::NoCount { .. } | Unfinished::Counted { .. }
        )
    }
}

impl fmt::Display for Unfinished {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = |there: usize| counted(there as u64, "byte");
        match *self {
            Unfinished::Undelimited {
                delimiter,
                there,
                begins,
            } => {
                let delimiter = if delimiter == b'\n' { "LF" } else { "NUL" };
                write!(f, "no {delimiter} in {}; it begins {begins}", bytes(there))
            }
            Unfinished::NoCount { there, begins } => {
                write!(f, "no whole count in {}: {begins}", bytes(there))
            }
            Unfinished::Counted { there, of, begins } => {
                write!(
                    f,
                    "{there} of its {} were there; it begins {begins}",
                    bytes(of)
                )
            }
            Unfinished::TooLong => {
                f.write_str("the rest of a message longer than max_message did not come")
            }
        }
    }
}
