//! What a decoder finds, and who takes it.

use super::violation::Violation;
use crate::server::Discard;

/// What a decoder finds. Each event but the last three takes up the next `len` bytes of the input,
/// so the lengths of a call's events add up to what it consumed: no byte is unaccounted for.
///
/// The compiler is to check a match on events, since a sum that leaves out a kind is wrong: a new
/// kind comes with a new major version.
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
    /// Anything else: an unfinished message is discarded, for this reason.
    Interrupted(Discard),
}

/// Emits what becomes no message, and returns how long that is.
pub(super) fn discard(len: usize, reason: Discard, emit: &mut impl Take) -> usize {
    if len > 0 {
        emit.take(Event::Discard { len, reason });
    }
    len
}
