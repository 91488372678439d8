//! Standard output.

use std::io;

use super::batches::Batches;
use super::contract::{Sink, SinkError};
use super::fd_writer::{FdWriter, Reader};
use super::unlinked::Unlinked;

/// Writes messages, in the output framing, to standard output. Delivered means that write(2) took
/// the message's last byte, framing included: a pipe's reader may not have read it yet. A reader
/// that is gone ends the server: within a second or so, before a message comes that would be lost.
///
/// A terminal obeys what it is sent, and whoever sends messages is not to be obeyed: control
/// characters in them (all of C0 but the tab, DEL, and C1, as UTF-8 or as single bytes) are written
/// to it as `\x1b` and the like, unless [`terminal_escape`](Stdout::terminal_escape) turns that
/// off. The delimiter of a message stays as it is. Only what goes to a terminal is escaped.
#[derive(Debug)]
pub struct Stdout {
    output: FdWriter,
    unlinked: Unlinked,
}

impl Stdout {
    /// Standard output as it is now.
    ///
    /// # Errors
    /// Standard output is closed, or was when the process began: see [`FdWriter::stdout`].
    pub fn open() -> io::Result<Stdout> {
        let output = FdWriter::stdout()?;
        let unlinked = Unlinked::of(&output);
        Ok(Stdout { output, unlinked })
    }

    /// Whether control characters in messages are escaped where standard output is a terminal.
    /// Default: `true`.
    #[must_use]
    pub fn terminal_escape(mut self, is_on: bool) -> Stdout {
        self.output = self.output.terminal_escape(is_on);
        self
    }

    /// Whether standard output is a terminal, and control characters in messages are escaped.
    pub fn escapes(&self) -> bool {
        self.output.escapes()
    }

    /// Whether standard output is a file that is not appended to, as with the shell's `>`: once
    /// such a file is truncated, messages are written behind as many NUL bytes as it had.
    pub fn is_overwriting(&self) -> bool {
        self.output.is_overwriting()
    }
}

impl Sink for Stdout {
    fn name(&self) -> String {
        "stdout".to_owned()
    }

    fn delivered_means(&self) -> String {
        "write(2) took the message's last byte: a pipe's reader may not have read it".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.output.write(batches)
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.unlinked.look(&self.output, batches);
        match self.output.reader() {
            // While the server closes no message may come any more, and then none is lost. A write
            // that fails says so itself.
            _ if batches.is_closing() => Ok(()),
            Reader::There => Ok(()),
            Reader::Away(error) | Reader::Gone(error) => Err(SinkError::Fatal(error)),
        }
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.output.is_inside_message(batches)
    }
}
