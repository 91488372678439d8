//! What a load came to, counted by each worker and then in all.

use std::io;
use std::time::{Duration, Instant};

use super::histogram::Histogram;

/// What one worker counted, or all of them together.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counts {
    /// Whole messages that the kernel took, and all bytes, framing included.
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    /// Connections that were made.
    pub(crate) connects: u64,
    /// Attempts to connect that failed: refused, timed out.
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
    /// How long a connection waited for room in its socket, each time that the socket was full, to
    /// the end of the load at most.
    pub(crate) stall: Histogram,
    /// How long a connection that the server had ended or refused was missed, until another stood
    /// in its place.
    pub(crate) apart: Histogram,
    /// How long after it was due a message was looked at: the generator's own lateness.
    pub(crate) late: Histogram,
    /// When something was last taken, or a close came.
    pub(super) last: Option<Instant>,
    /// When the load was over, before connections were held.
    pub(super) over: Option<Instant>,
    pub(crate) first_error: Option<String>,
}

impl Counts {
    pub(super) fn keep(&mut self, error: &io::Error) {
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    pub(super) fn add(&mut self, other: Counts) {
        self.messages += other.messages;
        self.bytes += other.bytes;
        self.connects += other.connects;
        self.connect_errors += other.connect_errors;
        self.write_errors += other.write_errors;
        self.closed_early += other.closed_early;
        self.not_closed += other.not_closed;
        self.partial += other.partial;
        self.unsent += other.unsent;
        self.port_waits += other.port_waits;
        self.connect.merge(&other.connect);
        self.stall.merge(&other.stall);
        self.apart.merge(&other.apart);
        self.late.merge(&other.late);
        self.last = self.last.max(other.last);
        self.over = self.over.max(other.over);
        self.first_error = self.first_error.take().or(other.first_error);
    }
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Summary {
    pub(crate) counts: Counts,
    /// From when the first connections stood until everything was taken and each awaited close was
    /// seen, or the time was over, whichever came first; but not before what was taken last.
    pub(crate) time: Duration,
    /// From the start until the first connections stood.
    pub(crate) connecting: Duration,
    pub(crate) was_stopped: bool,
    /// The server had taken nothing for the plan's timeout.
    pub(crate) was_timed_out: bool,
}

impl Summary {
    /// Something could not be sent, or may not have arrived.
    pub(crate) fn has_failed(&self) -> bool {
        let of = &self.counts;
        let unsent = if self.was_stopped { 0 } else { of.unsent };
        let failed = of.write_errors + of.closed_early + of.not_closed + of.partial + unsent;
        self.was_timed_out || failed > 0
    }
}
