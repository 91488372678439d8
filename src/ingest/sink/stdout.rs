//! Standard output.

use std::io;

use super::output::Reader;
use super::unlinked::Unlinked;
use super::{Output, Sink, SinkError, Work};

/// Writes messages, in the output framing, to standard output. Delivered means that write(2) took the message's last
/// byte, framing included: a pipe's reader may not have read it yet. A reader that is gone ends the server: within a
/// second or so, before a message comes that would be lost.
#[derive(Debug)]
pub struct Stdout {
    output: Output,
    unlinked: Unlinked,
}

impl Stdout {
    /// Standard output as it is now.
    ///
    /// # Errors
    /// It is closed, or was when the process began: see [`Output::stdout`].
    pub fn open() -> io::Result<Stdout> {
        let output = Output::stdout()?;
        let unlinked = Unlinked::of(&output);
        Ok(Stdout { output, unlinked })
    }
}

impl Sink for Stdout {
    fn name(&self) -> String {
        "stdout".to_owned()
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        self.output.write(work)
    }

    fn maintain(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        self.unlinked.look(&self.output, work);
        match self.output.reader() {
            Reader::There => Ok(()),
            Reader::Away(error) | Reader::Gone(error) => Err(SinkError::Fatal(error)),
        }
    }

    fn is_inside_message(&self, work: &Work<'_>) -> bool {
        self.output.is_inside_message(work)
    }
}
