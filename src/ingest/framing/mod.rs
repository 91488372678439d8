//! Where messages begin and end. No sockets here: bytes in, events out.

mod delimited;

pub use delimited::Delimited;

use crate::server::reasons;

/// How a stream of bytes is cut into messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// A message ends at LF; one CR before it is stripped. Blank lines, NUL bytes and invalid UTF-8 are
    /// messages like any other.
    #[default]
    Lines,
}

/// What happens to a message that is longer than `max_message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Oversize {
    /// Its first `max_message` bytes are the message; the rest is discarded, counted.
    #[default]
    Truncate,
    /// All of it is discarded, counted as one message dropped.
    Drop,
    /// As `Drop`, and the connection is closed.
    Close,
}

reasons! {
    /// Why bytes that were read became no message.
    pub enum Discard {
        /// The tail of a message longer than `max_message`.
        Truncated = "truncated",
        /// A message longer than `max_message`, all of it.
        Oversize = "oversize",
        /// An unfinished message when the connection was reset.
        Reset = "reset",
        /// An unfinished message when the server shut down.
        Shutdown = "shutdown",
        /// An unfinished message when the connection was cut: by a deadline, a full buffer, or by hand.
        Aborted = "aborted",
        /// An unfinished message when the connection failed in another way.
        Failed = "failed",
    }
}

/// What a decoder finds. Each event but the last two takes up the next `len` bytes of the input, so the
/// lengths of a call's events add up to what it consumed: no byte is unaccounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Whole messages, each followed by its delimiter, fit to be passed on as they came.
    Run {
        /// Bytes, delimiters included.
        len: usize,
        /// Messages in them.
        messages: u64,
    },
    /// One message, without delimiter.
    Message {
        /// Bytes.
        len: usize,
        /// It is the beginning of a longer one.
        is_truncated: bool,
    },
    /// Bytes of framing.
    Framing {
        /// Bytes.
        len: usize,
    },
    /// Bytes that become no message.
    Discard {
        /// Bytes.
        len: usize,
        /// Why.
        reason: Discard,
    },
    /// A message was too long and is dropped; its bytes are in the `Discard` events around.
    Dropped,
    /// The peer broke the protocol: the connection is to be closed.
    Violation,
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer ended it: in a delimiter framing an unterminated last message is one, too.
    Eof,
    /// Anything else: what is unfinished is discarded.
    Cut(Discard),
}
