//! How a peer can break the framing.

use std::error::Error;
use std::fmt;

use super::seen::Seen;
use crate::server::{EndReason, Ended};

/// What a peer did wrong, for which its connection is closed. Its [`source`](Error::source) is an
/// [`Ended`] for [`EndReason::ProtocolError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The peer sent something else where a count has to be.
    NoCount {
        /// The first bytes that the peer sent there.
        begins: Seen,
    },
    /// The peer sent a count that is too large to be meant.
    CountTooLarge {
        /// The count, in bytes.
        count: usize,
        /// The largest count that is believed: 16 x `max_message` or 1 MiB, whichever is more.
        max: usize,
        /// The first bytes that the peer sent there.
        begins: Seen,
    },
    /// The peer sent a message that is too long, where `oversize` is
    /// [`Close`](super::Oversize::Close).
    Oversize {
        /// Its length in bytes, as far as it is known: a count says all of it.
        at_least: usize,
        /// The longest message that is accepted, in bytes.
        max_message: usize,
        /// The first bytes that the peer sent there.
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
            Violation::CountTooLarge { count, max, begins } => {
                write!(
                    f,
                    "invalid frame: a count of {count} bytes; the maximum is {max}; it begins {begins}"
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
