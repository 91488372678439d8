//! What other threads read of a sink (its counts, how it stands) and ask of it (a reopen).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use crate::server::{Assistant, DropReason, OutputRow, OutputStats, SinkCounts, Stats};

/// The most of an error that is told, in characters.
const MAX_ERROR: usize = 500;

#[derive(Debug)]
pub(in crate::ingest) struct SinkState {
    name: Arc<str>,
    /// Whether somebody has named the output so.
    is_named: bool,
    is_reopen_asked: AtomicBool,
    failures: AtomicU64,
    failed_reopens: AtomicU64,
    unlinked_messages: AtomicU64,
    /// Messages that the sink was offered and has not answered.
    unanswered: AtomicU64,
    trouble: Mutex<Trouble>,
    is_required: bool,
    /// What its own buffer holds at most, in bytes, where it has one.
    buffer_bytes: Option<u64>,
    /// Where there are several outputs: what became of what was handed to this one.
    row: Option<Mutex<OutputRow>>,
    /// The server is over: what the sink's thread still says counts for nothing. Set under the
    /// row's lock.
    is_closed: AtomicBool,
    /// Where there are several outputs: the thread of this one.
    thread: OnceLock<Assistant>,
}

#[derive(Debug, Default)]
struct Trouble {
    last_error: Option<Arc<str>>,
    connected_to: Option<Arc<str>>,
    /// Since when no try has succeeded.
    retrying_since: Option<Instant>,
}

impl SinkState {
    /// `own_buffer`: the bytes of its own buffer, unless it is required.
    pub(in crate::ingest) fn new(
        name: &str,
        is_named: bool,
        own_buffer: Option<usize>,
        has_row: bool,
    ) -> Self {
        SinkState {
            name: name.into(),
            is_named,
            is_reopen_asked: AtomicBool::new(false),
            failures: AtomicU64::new(0),
            failed_reopens: AtomicU64::new(0),
            unlinked_messages: AtomicU64::new(0),
            unanswered: AtomicU64::new(0),
            trouble: Mutex::default(),
            is_required: own_buffer.is_none(),
            buffer_bytes: own_buffer.map(|bytes| bytes as u64).filter(|_| has_row),
            row: has_row.then(Mutex::default),
            is_closed: AtomicBool::new(false),
            thread: OnceLock::new(),
        }
    }

    pub(super) fn set_thread(&self, thread: Assistant) {
        let _ = self.thread.set(thread);
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Whether lines of the log need the name: there are other outputs, or somebody looks for it.
    pub(super) fn is_told_by_name(&self) -> bool {
        self.row.is_some() || self.is_named
    }

    /// Whether there are other outputs.
    pub(super) fn has_others(&self) -> bool {
        self.row.is_some()
    }

    pub(super) fn row(&self) -> Option<OutputRow> {
        self.row.as_ref().map(|row| *row.lock())
    }

    /// Books in the row, if there is one and its books are open.
    pub(super) fn book<T>(&self, book: impl FnOnce(&mut OutputRow) -> T) -> Option<T> {
        let mut row = self.row.as_ref()?.lock();
        let is_open = !self.is_closed.load(Ordering::Relaxed);
        is_open.then(|| book(&mut row))
    }

    /// The server is over. What an output that was left behind has not answered is dropped, though
    /// it may have arrived.
    pub(in crate::ingest) fn close_books(&self) {
        self.book(|row| {
            // A row that lacks a booking may have wrapped below 0, and has to show.
            if row.in_flight <= row.received {
                row.dropped.add(DropReason::Shutdown, row.in_flight);
                row.in_flight = 0;
            }
            self.is_closed.store(true, Ordering::Relaxed);
        });
        self.set_unanswered(0);
    }

    /// Asks for a reopen, which the sink's thread will see within a tick.
    pub(in crate::ingest) fn ask_to_reopen(&self) {
        self.is_reopen_asked.store(true, Ordering::Release);
    }

    pub(super) fn is_reopen_asked(&self) -> bool {
        self.is_reopen_asked.load(Ordering::Acquire)
    }

    /// Whether a reopen was asked for since the last call.
    pub(super) fn take_reopen(&self) -> bool {
        self.is_reopen_asked.swap(false, Ordering::AcqRel)
    }

    /// `error`: [in a line](in_a_line).
    pub(super) fn count_failure(&self, error: &str) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        self.set_error(error);
    }

    fn set_error(&self, error: &str) {
        self.trouble.lock().last_error = Some(error.into());
    }

    /// Nothing will be tried again. `error`: [in a line](in_a_line).
    pub(super) fn fails_for_good(&self, error: &str) {
        self.set_error(error);
        self.recovers();
    }

    /// What the sink is connected to, of several that it could be; `None`: to nothing.
    pub(super) fn set_connected_to(&self, target: Option<&str>) {
        self.trouble.lock().connected_to = target.map(Arc::from);
    }

    /// A try failed, and will be made again.
    pub(super) fn retries(&self) {
        let mut trouble = self.trouble.lock();
        trouble.retrying_since.get_or_insert_with(Instant::now);
    }

    /// Whether no try has succeeded since one failed.
    pub(super) fn is_retrying(&self) -> bool {
        self.trouble.lock().retrying_since.is_some()
    }

    /// A try succeeded, or none is made any more.
    pub(super) fn recovers(&self) {
        self.trouble.lock().retrying_since = None;
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

    pub(super) fn set_unanswered(&self, messages: u64) {
        self.unanswered.store(messages, Ordering::Relaxed);
    }

    pub(in crate::ingest) fn counts(&self) -> SinkCounts {
        SinkCounts {
            failures: self.failures.load(Ordering::Relaxed),
            failed_reopens: self.failed_reopens.load(Ordering::Relaxed),
            unlinked_messages: self.unlinked_messages.load(Ordering::Relaxed),
        }
    }

    /// `of_server`: what became of all messages, for an output that is the only one.
    pub(in crate::ingest) fn stats(&self, of_server: &Stats) -> OutputStats {
        let busy_for = self.thread.get().map(Assistant::busy_for);
        let trouble = self.trouble.lock();
        OutputStats {
            name: Arc::clone(&self.name),
            is_required: self.is_required,
            row: self.row().unwrap_or_else(|| OutputRow::only(of_server)),
            buffer_bytes: self.buffer_bytes,
            counts: self.counts(),
            unanswered: self.unanswered.load(Ordering::Relaxed),
            last_error: trouble.last_error.clone(),
            connected_to: trouble.connected_to.clone(),
            retrying_for: trouble.retrying_since.map(|since| since.elapsed()),
            busy_for: busy_for.unwrap_or(of_server.consumer.busy_for),
        }
    }
}

/// What the log and the ledger tell of an error: whatever a destination or a library says there is
/// one line, and has an end.
pub(super) fn in_a_line(error: &str) -> String {
    let lines = error.lines().map(str::trim).filter(|line| !line.is_empty());
    let line = lines.collect::<Vec<_>>().join(" ");
    let mut told = String::new();
    for (at, char) in line.chars().enumerate() {
        if at == MAX_ERROR {
            return told + "...";
        }
        match char.is_control() {
            true => told.extend(char.escape_debug()),
            false => told.push(char),
        }
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_line_that_has_an_end() {
        assert_eq!(in_a_line("as it  is: \u{e9}"), "as it  is: \u{e9}");
        let lines = "parse error\r\n  |\n1 | HTTP/1.1 400\n  |\x1b[2J\u{85}^\n";
        assert_eq!(
            in_a_line(lines),
            "parse error | 1 | HTTP/1.1 400 |\\u{1b}[2J\\u{85}^"
        );
        assert_eq!(in_a_line(&"\n".repeat(3)), "");
        let long = in_a_line(&"\u{e9}".repeat(100_000));
        assert_eq!(long.chars().count(), MAX_ERROR + 3);
    }
}
