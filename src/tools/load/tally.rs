//! What a load came to.

use std::io;
use std::time::{Duration, Instant};

use super::histogram::Histogram;

/// Counted by one worker.
#[derive(Clone, Debug, Default)]
pub(super) struct Counters {
    pub(super) messages: u64,
    pub(super) bytes: u64,
    pub(super) connects: u64,
    pub(super) connect_errors: u64,
    pub(super) write_errors: u64,
    pub(super) closed_early: u64,
    pub(super) not_closed: u64,
    pub(super) partial: u64,
    pub(super) unsent: u64,
    pub(super) port_waits: u64,
    pub(super) connect: Histogram,
    pub(super) stall: Histogram,
    pub(super) apart: Histogram,
    pub(super) late: Histogram,
    /// When something was last taken, or a close came.
    pub(super) last: Option<Instant>,
    /// When its part of the load was over, before connections were held.
    pub(super) over: Option<Instant>,
    pub(super) first_error: Option<String>,
}

impl Counters {
    pub(super) fn keep(&mut self, error: &io::Error) {
        self.first_error.get_or_insert_with(|| error.to_string());
    }
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    /// Whole messages that the kernel took, and all bytes, framing included.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// The load's: from when the first connections stood until everything was taken and each awaited close was seen, or
    /// the time was over, whichever came first; but not before what was taken last.
    pub(crate) time: Duration,
    /// From the start until the first connections stood.
    pub(crate) connecting: Duration,
    /// Connections that were made.
    pub(crate) connects: u64,
    /// Attempts that failed: refused, timed out.
    pub(crate) connect_errors: u64,
    /// Connections that failed in use: reset.
    pub(crate) write_errors: u64,
    /// Connections that the server ended first.
    pub(crate) closed_early: u64,
    /// Connections whose end by the server was not awaited any longer.
    pub(crate) not_closed: u64,
    /// Messages of which the kernel took a part alone.
    pub(crate) partial: u64,
    /// Messages that were to be sent and were not.
    pub(crate) unsent: u64,
    /// Times that no local port was free.
    pub(crate) port_waits: u64,
    /// From a connect to its success.
    pub(crate) connect: Histogram,
    /// How long a connection waited for room in its socket, each time it had to, to the end of the load at most.
    pub(crate) stall: Histogram,
    /// How long a connection that the server had ended or refused was missed, until another stood in its place.
    pub(crate) apart: Histogram,
    /// How long after it was due a message was looked at: the generator's own lateness.
    pub(crate) late: Histogram,
    pub(crate) first_error: Option<String>,
    pub(crate) was_stopped: bool,
    /// The server had taken nothing for the plan's timeout.
    pub(crate) was_timed_out: bool,
}

impl Summary {
    pub(super) fn add(&mut self, start: Instant, tally: Counters) {
        self.messages += tally.messages;
        self.bytes += tally.bytes;
        self.connects += tally.connects;
        self.connect_errors += tally.connect_errors;
        self.write_errors += tally.write_errors;
        self.closed_early += tally.closed_early;
        self.not_closed += tally.not_closed;
        self.partial += tally.partial;
        self.unsent += tally.unsent;
        self.port_waits += tally.port_waits;
        self.connect.merge(&tally.connect);
        self.stall.merge(&tally.stall);
        self.apart.merge(&tally.apart);
        self.late.merge(&tally.late);
        let over = tally.over.unwrap_or(start);
        self.time = self.time.max(over.saturating_duration_since(start));
        self.first_error = self.first_error.take().or(tally.first_error);
    }

    /// Something could not be sent, or may not have arrived.
    pub(crate) fn has_failed(&self) -> bool {
        let unsent = if self.was_stopped { 0 } else { self.unsent };
        self.was_timed_out
            || self.write_errors + self.closed_early + self.not_closed + self.partial + unsent > 0
    }
}
