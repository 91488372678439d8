//! What the readers, the sink and the handle share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log::Level;

use super::batch::builder::BatchFormat;
use super::batch::pool::Pool;
use super::framing::Decoder;
use super::ledger::ByteLedger;
use super::sink::Sink;
use crate::server::{Layer, Logger, Report};

#[derive(Debug)]
pub(super) struct Shared {
    /// A fresh one for each connection is cloned from it.
    pub(super) decoder: Decoder,
    pub(super) format: BatchFormat,
    pub(super) max_message: usize,
    pub(super) pool: Pool,
    pub(super) ledger: ByteLedger,
    pub(super) reopen: AtomicBool,
    pub(super) sink_failures: AtomicU64,
    pub(super) failed_reopens: AtomicU64,
    pub(super) unlinked_messages: AtomicU64,
}

impl Shared {
    /// A failed reopen keeps what the sink had, and is counted. Says whether it was reopened.
    pub(super) fn reopen_if_asked(&self, sink: &mut dyn Sink, logger: &Logger) -> bool {
        if !self.reopen.swap(false, Ordering::AcqRel) {
            return false;
        }
        let name = sink.name();
        match sink.reopen() {
            Ok(true) => {
                logger.log_limited("reopened", Level::Info, || {
                    format!("the sink {name} was reopened")
                });
                true
            }
            Ok(false) => false,
            Err(error) => {
                self.failed_reopens.fetch_add(1, Ordering::Relaxed);
                logger.log_limited("not reopened", Level::Error, || {
                    format!("the sink {name} goes on as it was: reopening failed: {error}")
                });
                false
            }
        }
    }
}

impl Layer for Shared {
    fn complete(&self, report: &mut Report) {
        report.bytes = self.ledger.read();
        report.sink.failures = self.sink_failures.load(Ordering::Relaxed);
        report.sink.failed_reopens = self.failed_reopens.load(Ordering::Relaxed);
        report.sink.unlinked_messages = self.unlinked_messages.load(Ordering::Relaxed);
    }

    fn reopen(&self) {
        self.reopen.store(true, Ordering::Release);
    }
}
