//! What a peer may not do.

use std::error::Error;
use std::fmt;

use super::Seen;
use crate::server::{EndReason, Ended};

/// What a peer did that its connection is closed for. Its [`source`](Error::source) is an [`Ended`]
/// for [`EndReason::ProtocolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// What it sent is no count where a count has to be.
    NoCount {
        /// The first bytes of it.
        begins: Seen,
    },
    /// It sent a count that is too large for anybody to mean it.
    CountTooLarge {
        /// What it sent, in bytes.
        count: usize,
        /// The largest that is taken for one: 16 x `max_message` or 1 MiB, whichever is more.
        most: usize,
        /// The first bytes of it.
        begins: Seen,
    },
    /// It sent a message that is too long, where `oversize` is [`Close`](super::Oversize::Close).
    Oversize {
        /// Its length in bytes, as far as it is known: all of it where it was said before.
        at_least: usize,
        /// The longest message that is taken, in bytes.
        max_message: usize,
        /// The first bytes of it.
        begins: Seen,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NoCount { begins } => {
                write!(
                    f,
                    "invalid frame: no count where a message begins, but {begins}"
                )
            }
            Violation::CountTooLarge {
                count,
                most,
                begins,
            } => {
                write!(
                    f,
                    "invalid frame: a count of {count} bytes, and {most} are the most that one may say; it begins {begins}"
                )
            }
            Violation::Oversize {
                at_least,
                max_message,
                begins,
            } => {
                write!(
                    f,
                    "oversize: a message of {at_least} bytes or more, and max_message is {max_message}; it begins {begins}"
                )
            }
        }
    }
}

impl Error for Violation {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&Ended(EndReason::ProtocolError))
    }
}
