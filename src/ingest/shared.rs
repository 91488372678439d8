//! What the handlers, the consumer and the running server share.

use std::sync::Arc;

use super::batch::builder::BatchFormat;
use super::batch::pool::Pool;
use super::framing::Decoder;
use super::ledger::ByteLedger;
use super::sink::SinkState;
use crate::server::{Bytes, Layer, Report, SinkCounts};

/// How the streams of one listener's connections become messages.
#[derive(Debug)]
pub(super) struct Input {
    /// The decoder of each connection is a clone of this one.
    pub(super) decoder: Decoder,
    pub(super) format: BatchFormat,
    pub(super) max_message: usize,
}

#[derive(Debug)]
pub(super) struct Shared {
    /// By the index of the listener.
    pub(super) inputs: Vec<Input>,
    /// Whether batches say exactly when they were read, instead of when the last tick was.
    pub(super) has_exact_times: bool,
    pub(super) pool: Arc<Pool>,
    pub(super) ledger: ByteLedger,
    /// In the order in which they were added.
    pub(super) outputs: Vec<Arc<SinkState>>,
}

impl Layer for Shared {
    fn complete(&self, report: &mut Report) {
        let rows = self.ledger.read();
        report.bytes = Bytes::sum(&rows);
        for (listener, bytes) in report.stats.listeners.iter_mut().zip(rows) {
            listener.bytes = bytes;
        }
        let outputs = self.outputs.iter();
        let outputs = outputs.map(|output| output.stats(&report.stats));
        report.outputs = outputs.collect();
        report.sink = SinkCounts::sum(report.outputs.iter().map(|output| &output.counts));
    }

    fn close_books(&self) {
        self.outputs.iter().for_each(|output| output.close_books());
    }

    fn reopen(&self) {
        self.outputs
            .iter()
            .for_each(|output| output.ask_to_reopen());
    }
}
