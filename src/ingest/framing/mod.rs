//! Where messages begin and end. No sockets here: bytes in, events out.

mod between;
mod counted;
mod decoder;
mod delimited;
mod output;
mod seen;
mod syslog;
mod truncate;
mod unfinished;
mod violation;

pub(super) use counted::{Count, Header};
pub use decoder::Decoder;
pub use output::OutputFraming;
pub use seen::Seen;
pub(in crate::ingest) use seen::protocol_of;
pub(super) use unfinished::Unfinished;
pub use violation::Violation;

use std::fmt;
use std::ops::RangeInclusive;

use crate::server::{ConfigError, Discard};

/// The largest `max_message` that there may be, in bytes.
pub(crate) const MAX_MESSAGE: usize = 1 << 30;

/// What [`IngestBuilder::max_message`](super::IngestBuilder::max_message) accepts, in bytes.
pub const MAX_MESSAGE_RANGE: RangeInclusive<usize> = 1..=MAX_MESSAGE;

/// Whether `max_message` is in its range.
pub(in crate::ingest) fn check_max_message(max_message: usize) -> Result<(), ConfigError> {
    if MAX_MESSAGE_RANGE.contains(&max_message) {
        return Ok(());
    }
    let (value, accepted) = (max_message.to_string(), format!("1 to {MAX_MESSAGE}"));
    Err(ConfigError::out_of_range("max_message", value, accepted))
}

/// How messages are told apart in a stream of bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Framing {
    /// A message ends at LF; one CR before it is stripped. Blank lines, NUL bytes and invalid UTF-8
    /// are messages like any other.
    #[default]
    Lines,
    /// A message ends at a NUL byte; one LF or CRLF after that is framing, too, as some senders of
    /// GELF write it. Any other byte belongs to the message.
    Nul,
    /// A decimal count of bytes, a space, and so many bytes (RFC 6587, section 3.4.1), exactly as
    /// they are. `0 ` is an empty message. Between two messages one LF, CRLF or NUL is framing, and
    /// so is a byte order mark at the start of the stream. Anything else that is no such count, or
    /// one above 16 x `max_message` and 1 MiB, is an invalid frame: the connection is closed.
    OctetCounted,
    /// For syslog senders of either kind on one port. A message is counted if it begins with a
    /// digit from 1 to 9, at most nine more, a space, and a whole priority that the count covers:
    /// `<`, one to three digits of at most 191, `>`. Else it is a line, as in `Lines`. A count that
    /// is too large for `OctetCounted` closes the connection here, too. One LF or CRLF at the end
    /// of a counted message is framing, because the commonest senders count it; so is what may
    /// stand between two messages in `OctetCounted`, and a NUL after a line's LF.
    Syslog,
    /// A count of bytes as an unsigned 32-bit number, big-endian, and so many bytes. A count above
    /// 16 x `max_message` and 1 MiB is an invalid frame: the connection is closed.
    LengthPrefixed,
}

impl Framing {
    /// The framing's name, as in flags and logs.
    pub fn name(self) -> &'static str {
        match self {
            Framing::Lines => "lines",
            Framing::Nul => "nul",
            Framing::OctetCounted => "octet-counted",
            Framing::Syslog => "syslog",
            Framing::LengthPrefixed => "length-prefixed",
        }
    }
}

impl fmt::Display for Framing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What happens to a message that is longer than `max_message`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Oversize {
    /// The message becomes its first `max_message` bytes; the rest is discarded and counted.
    #[default]
    Truncate,
    /// The whole message is discarded and counted as one dropped message.
    Drop,
    /// The peer broke the protocol: its connection is closed, and what was read of the message is
    /// discarded, counted in bytes and not as a message.
    Close,
}

/// What a decoder finds. Each event but the last three takes up the next `len` bytes of the input,
/// so the lengths of a call's events add up to what it consumed: no byte is unaccounted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// Whole messages, each followed by its delimiter, that can be passed on as they came.
    Run {
        /// Length in bytes, delimiters included.
        len: usize,
        /// How many messages.
        messages: u64,
        /// The byte after each message.
        delimiter: u8,
    },
    /// One message, without delimiter.
    Message {
        /// Bytes.
        len: usize,
        /// The message is the beginning of a longer one.
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
        /// Why the bytes are discarded.
        reason: Discard,
    },
    /// A message was too long and is dropped; its bytes are in the `Discard` events around.
    Dropped,
    /// The stream ended before the delimiter of the message in the event before: a count beside the
    /// equation of bytes.
    Unterminated,
    /// The peer broke the protocol: the connection is to be closed.
    Violation(Violation),
}

/// Where a decoder's events go. A closure takes them all. A taker that can hold only so much says
/// so: the decoder stops before the message that the taker cannot take, and goes on there at the
/// next call.
pub trait Take {
    /// Takes an event.
    fn take(&mut self, event: Event);

    /// Whether a message of `len` bytes can be taken now. Asked before each
    /// [`Message`](Event::Message).
    fn can_take(&mut self, len: usize) -> bool {
        let _ = len;
        true
    }

    /// Takes a [`Run`](Event::Run), or its first messages. Returns how many of its bytes were
    /// taken.
    fn take_run(&mut self, len: usize, messages: u64, delimiter: u8) -> usize {
        self.take(Event::Run {
            len,
            messages,
            delimiter,
        });
        len
    }
}

impl<F: FnMut(Event)> Take for F {
    fn take(&mut self, event: Event) {
        self(event);
    }
}

/// How a stream came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The peer ended the stream: in a framing with delimiters an unterminated last message counts.
    Eof,
    /// Anything else: an unfinished message is discarded.
    Cut(Discard),
}

fn discard(len: usize, reason: Discard, emit: &mut impl Take) -> usize {
    if len > 0 {
        emit.take(Event::Discard { len, reason });
    }
    len
}
