//! What may stand between messages and belongs to none.

use super::event::{Event, Take};

/// What some editors and some of .NET's writers begin a stream of UTF-8 with.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Where in its stream a decoder is when a message is to begin: this decides what may stand before
/// that message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Between {
    /// Inside a message, or where nothing may stand between.
    Nothing,
    /// At the stream's first byte: a byte order mark.
    Start,
    /// After a counted message: one LF, CRLF or NUL. Some senders count their messages, and end
    /// them all the same.
    Counted,
    /// After a LF: one NUL. Perl's Sys::Syslog ends its messages with both.
    Line,
    /// After a NUL: one LF or CRLF. Some senders of GELF end their messages with both.
    Nul,
}

impl Between {
    /// Passes what stands before the next message. `None`: nothing does. 0: too few bytes are there
    /// to tell.
    pub(super) fn pass(&mut self, input: &[u8], emit: &mut impl Take) -> Option<usize> {
        let len = self.len(input)?;
        if len > 0 {
            *self = Between::Nothing;
            emit.take(Event::Framing { len });
        }
        Some(len)
    }

    /// How many bytes [`pass`](Between::pass) would pass.
    pub(super) fn len(self, input: &[u8]) -> Option<usize> {
        match (self, input.first()) {
            (Between::Nothing, _) => None,
            (Between::Start, _) => begins(input, BYTE_ORDER_MARK),
            (Between::Line, _) => begins(input, b"\0"),
            (Between::Counted, Some(b'\0')) => Some(1),
            (Between::Counted | Between::Nul, Some(b'\r')) => begins(input, b"\r\n"),
            (Between::Counted | Between::Nul, _) => begins(input, b"\n"),
        }
    }
}

/// The length of `mark` if `input` begins with it; 0 if more of `input` has to come to tell.
fn begins(input: &[u8], mark: &[u8]) -> Option<usize> {
    if input.starts_with(mark) {
        return Some(mark.len());
    }
    mark.starts_with(input).then_some(0)
}
