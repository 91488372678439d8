//! The sink that takes everything and keeps nothing.

use super::batches::Batches;
use super::contract::{Sink, SinkError};

/// Discards every message: for measuring, and for servers of which only the ledger is wanted.
/// Delivered means that the message was read and counted.
#[derive(Clone, Copy, Debug, Default)]
pub struct Null;

impl Sink for Null {
    fn name(&self) -> String {
        "null".to_owned()
    }

    fn delivered_means(&self) -> String {
        "the message was read and counted".to_owned()
    }

    fn uses_output_framing(&self) -> bool {
        false
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }
}
