//! What the readers, the sink and the handle share.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use log::Level;

use super::batch::BatchLimit;
use super::framing::Delimited;
use super::ledger::ByteLedger;
use super::pool::Pool;
use super::sink::Sink;
use crate::server::Journal;

#[derive(Debug)]
pub(super) struct Shared {
    /// A fresh one for each connection is cloned from it.
    pub(super) decoder: Delimited,
    pub(super) limit: BatchLimit,
    pub(super) pool: Pool,
    pub(super) ledger: ByteLedger,
    pub(super) reopen: AtomicBool,
    pub(super) sink_failures: AtomicU64,
    pub(super) failed_reopens: AtomicU64,
    /// The server's, once it has started.
    pub(super) journal: OnceLock<Journal>,
}

impl Shared {
    pub(super) fn say(&self, level: Level, text: String) {
        if let Some(journal) = self.journal.get() {
            journal.say(level, text);
        }
    }

    pub(super) fn say_once(
        &self,
        reason: &'static str,
        level: Level,
        text: impl FnOnce() -> String,
    ) {
        if let Some(journal) = self.journal.get() {
            journal.say_once(reason, level, text);
        }
    }

    /// A failed reopen keeps what the sink had, and is counted.
    pub(super) fn reopen_if_asked(&self, sink: &mut dyn Sink) {
        if !self.reopen.swap(false, Ordering::AcqRel) {
            return;
        }
        let name = sink.name();
        match sink.reopen() {
            Ok(()) => self.say(Level::Info, format!("the sink {name} was reopened")),
            Err(error) => {
                self.failed_reopens.fetch_add(1, Ordering::Relaxed);
                self.say(
                    Level::Error,
                    format!("the sink {name} goes on as it was: reopening failed: {error}"),
                );
            }
        }
    }
}
