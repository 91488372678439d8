//! Standard output.

use std::io;

use super::{Output, Sink, SinkError, Work};

/// Writes messages, in the output framing, to standard output. Delivered means that write(2) took the message's last
/// byte, framing included: a pipe's reader may not have read it yet. A reader that is gone ends the server.
#[derive(Debug)]
pub struct Stdout {
    output: Output,
}

impl Stdout {
    /// Standard output as it is now.
    ///
    /// # Errors
    /// It is closed, or was when the process began: see [`Output::stdout`].
    pub fn open() -> io::Result<Stdout> {
        Ok(Stdout {
            output: Output::stdout()?,
        })
    }
}

impl Sink for Stdout {
    fn name(&self) -> String {
        "stdout".to_owned()
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        self.output.write(work)
    }

    fn is_inside_message(&self, work: &Work<'_>) -> bool {
        self.output.is_inside_message(work)
    }
}
