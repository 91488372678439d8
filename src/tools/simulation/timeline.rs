//! What can be seen of it, as points and metrics.

use std::time::Duration;

use drainline::policy::OverloadLevel;
use drainline::{Config, Counters, Reason};

use super::super::load::histogram::Histogram;
use super::super::metrics::{Ledger, Metrics, Point, Recovery, TICK};
use super::super::workload::Workload;
use super::admission::Admission;
use super::buffer::Buffer;

/// Points of a timeline at most, or one each tick if it is short.
const MAX_POINTS: u32 = 1000;

/// Threads and descriptors of the program without a connection.
const OWN_THREADS: u64 = 7;
const OWN_DESCRIPTORS: u64 = 14;
/// Resident memory of the program without a connection, of an idle thread, and of a slot in the
/// channel: measured.
const OWN_MEMORY: u64 = 6 << 20;
const THREAD_MEMORY: u64 = 10 << 10;
pub(crate) const SLOT_BYTES: u64 = 16;

/// What a tick sees.
pub(super) struct Sight<'a> {
    pub(super) now: Duration,
    pub(super) open: usize,
    pub(super) longest_wait: Duration,
    /// In the hands of handlers that wait.
    pub(super) held_bytes: u64,
    pub(super) level: OverloadLevel,
    pub(super) buffer: &'a Buffer,
    pub(super) admission: &'a Admission,
}

#[derive(Debug)]
pub(super) struct Timeline {
    points: Vec<Point>,
    every: Duration,
    /// The last point and the highest of everything since.
    last: Option<Point>,
    peaks: Point,
    pub(super) held_up: Histogram,
    buffer_messages: u64,
    recovers_at: Option<Duration>,
    recovery: Recovery,
}

impl Timeline {
    pub(super) fn new(config: &Config, workload: &Workload) -> Self {
        let recovers_at = workload.recovers_at();
        Timeline {
            points: Vec::new(),
            every: (workload.duration / MAX_POINTS).max(TICK),
            last: None,
            peaks: Point::default(),
            held_up: Histogram::default(),
            buffer_messages: config.buffer_messages as u64,
            recovers_at,
            recovery: recovers_at.map_or(Recovery::NotAsked, |_| Recovery::Never),
        }
    }

    /// Whether the next point is.
    pub(super) fn is_due(&self, now: Duration) -> bool {
        let last = self.points.last();
        last.is_none_or(|last| now >= last.at + self.every)
    }

    pub(super) fn see(&mut self, sight: Sight<'_>) {
        let (open, buffer) = (sight.open as u64, sight.buffer);
        let point = Point {
            at: sight.now,
            threads: OWN_THREADS + open,
            memory_bytes: OWN_MEMORY
                + open * THREAD_MEMORY
                + self.buffer_messages * SLOT_BYTES
                + buffer.used().bytes
                + sight.held_bytes,
            descriptors: OWN_DESCRIPTORS + open,
            buffered: buffer.in_flight(),
            longest_wait: sight.longest_wait,
            delivered: buffer.delivered,
            lost: buffer.dropped.total(),
            rejected: sight.admission.rejected.total(),
            level: Some(sight.level),
        };
        if let Some(at) = self.recovers_at
            && sight.now >= at
            && self.recovery == Recovery::Never
            && point.is_calm(self.peaks.buffered)
        {
            self.recovery = Recovery::After(sight.now - at);
        }
        self.peaks = highest(self.peaks, point);
        let seen = self.last.map_or(point, |last| highest(last, point));
        let is_due = self.is_due(sight.now);
        self.last = Some(seen);
        if is_due {
            self.points.push(seen);
            self.last = None;
        }
    }

    /// The points and the metrics, when everything has come to its end.
    pub(super) fn finish(
        mut self,
        admission: &Admission,
        buffer: &Buffer,
        open: usize,
        sent: u64,
        unseen: u64,
    ) -> (Vec<Point>, Metrics) {
        self.points.extend(self.last.take());
        let dropped = buffer.dropped.total();
        let closes = sent == buffer.delivered + dropped + unseen;
        let metrics = Metrics {
            peak_threads: self.peaks.threads,
            threads_before: OWN_THREADS,
            threads_after: OWN_THREADS + open as u64,
            peak_memory_bytes: self.peaks.memory_bytes,
            peak_descriptors: self.peaks.descriptors,
            peak_buffered: self.peaks.buffered,
            sent,
            delivered: buffer.delivered,
            lost: named(&buffer.dropped),
            rejected: named(&admission.rejected),
            held_up_p99: self.held_up.quantile(0.99),
            recovery: self.recovery,
            ledger: if closes { Ledger::Closes } else { Ledger::Open },
            stopped_at: None,
            died: None,
        };
        (self.points, metrics)
    }
}

/// Counts as they are now, levels as high as they were.
fn highest(before: Point, now: Point) -> Point {
    Point {
        threads: before.threads.max(now.threads),
        memory_bytes: before.memory_bytes.max(now.memory_bytes),
        descriptors: before.descriptors.max(now.descriptors),
        buffered: before.buffered.max(now.buffered),
        longest_wait: before.longest_wait.max(now.longest_wait),
        level: before.level.max(now.level),
        ..now
    }
}

/// Those that happened.
fn named<R: Reason>(counters: &Counters<R>) -> Vec<(String, u64)> {
    let happened = counters.iter().filter(|(_, count)| *count > 0);
    happened
        .map(|(reason, count)| (reason.name().to_owned(), count))
        .collect()
}
