//! The sink that takes everything and keeps nothing.

use super::{Sink, SinkError, Work};

/// Discards what it accepts: for measuring, and for servers whose ledger is all that is wanted.
/// Delivered means that the message was read and counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Sink for Null {
    fn name(&self) -> String {
        "null".to_owned()
    }

    fn writes_messages(&self) -> bool {
        false
    }

    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
        while work.first().is_some() {
            work.done();
        }
        Ok(())
    }
}
