//! What other threads read of a sink (its counts) and ask of it (a reopen).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::server::SinkCounts;

#[derive(Debug, Default)]
pub(in crate::ingest) struct SinkState {
    is_reopen_asked: AtomicBool,
    failures: AtomicU64,
    failed_reopens: AtomicU64,
    unlinked_messages: AtomicU64,
}

impl SinkState {
    /// Asks for a reopen, which the sink's thread will see within a tick.
    pub(in crate::ingest) fn ask_to_reopen(&self) {
        self.is_reopen_asked.store(true, Ordering::Release);
    }

    /// Whether a reopen was asked for since the last call.
    pub(super) fn take_reopen(&self) -> bool {
        self.is_reopen_asked.swap(false, Ordering::AcqRel)
    }

    pub(super) fn count_failure(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_failed_reopen(&self) {
        self.failed_reopens.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts messages that went to a deleted file, and returns how many there were in all.
    pub(super) fn count_unlinked(&self, messages: u64) -> u64 {
        self.unlinked_messages
            .fetch_add(messages, Ordering::Relaxed)
            + messages
    }

    pub(in crate::ingest) fn counts(&self) -> SinkCounts {
        SinkCounts {
            failures: self.failures.load(Ordering::Relaxed),
            failed_reopens: self.failed_reopens.load(Ordering::Relaxed),
            unlinked_messages: self.unlinked_messages.load(Ordering::Relaxed),
        }
    }
}
