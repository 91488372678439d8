//! What a peer may not do.

use std::error::Error;
use std::fmt;

use crate::server::{EndReason, Ended};

/// What a peer did that its connection is closed for. Its [`source`](Error::source) is an [`Ended`] for
/// [`EndReason::Protocol`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// What it sent is no count where a count has to be.
    NoCount,
    /// It sent a count that nobody can mean.
    CountTooLarge {
        /// What it sent, in bytes.
        count: usize,
        /// The largest that is taken for one: 16 x `max_message` or 1 MiB, whichever is more.
        most: usize,
    },
    /// It sent a message that is too long, where `oversize` is [`Close`](super::Oversize::Close).
    Oversize {
        /// The longest message that is taken, in bytes.
        max_message: usize,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NoCount => f.write_str("garbage: no count where a message begins"),
            Violation::CountTooLarge { count, most } => {
                write!(
                    f,
                    "garbage: a count of {count} bytes, and {most} are the most that one may say"
                )
            }
            Violation::Oversize { max_message } => {
                write!(
                    f,
                    "oversize: a message of more than {max_message} bytes (max_message)"
                )
            }
        }
    }
}

impl Error for Violation {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Ended(EndReason::Protocol))
    }
}
