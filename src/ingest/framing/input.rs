//! How messages are told apart in what is read, and how long one may be.

use std::fmt;
use std::ops::RangeInclusive;

use crate::server::ConfigError;

/// The largest `max_message` that there may be, in bytes.
pub(in crate::ingest) const MAX_MESSAGE: usize = 1 << 30;

/// The default of [`IngestBuilder::max_message`](crate::ingest::IngestBuilder::max_message), in
/// bytes.
pub const DEFAULT_MAX_MESSAGE: usize = 64 << 10;

/// What [`IngestBuilder::max_message`](crate::ingest::IngestBuilder::max_message) accepts, in
/// bytes.
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
    /// Every framing.
    pub const ALL: &'static [Framing] = &[
        Framing::Lines,
        Framing::Nul,
        Framing::OctetCounted,
        Framing::Syslog,
        Framing::LengthPrefixed,
    ];

    /// The framing's name, as in flags and logs.
    pub const fn name(self) -> &'static str {
        match self {
            Framing::Lines => "lines",
            Framing::Nul => "nul",
            Framing::OctetCounted => "octet-counted",
            Framing::Syslog => "syslog",
            Framing::LengthPrefixed => "length-prefixed",
        }
    }

    /// A shell command that prints one message in this framing, for the program's line to try. Here
    /// because only the crate of a `#[non_exhaustive]` enum can have every case.
    #[doc(hidden)]
    pub const fn hello(self) -> &'static str {
        match self {
            Framing::Lines => "echo hello",
            Framing::Nul => r"printf 'hello\0'",
            Framing::OctetCounted => "printf '5 hello'",
            Framing::Syslog => "echo '<13>hello'",
            Framing::LengthPrefixed => r"printf '\0\0\0\005hello'",
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

impl Oversize {
    /// Every choice.
    pub const ALL: &'static [Oversize] = &[Oversize::Truncate, Oversize::Drop, Oversize::Close];

    /// The choice's name, as in flags.
    pub const fn name(self) -> &'static str {
        match self {
            Oversize::Truncate => "truncate",
            Oversize::Drop => "drop",
            Oversize::Close => "close",
        }
    }
}
