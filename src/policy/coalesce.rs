//! Which connections' reads are delayed, so that one read brings what several would have.
//!
//! Waking a thread costs the same whether it then reads one message or ten. So while the process
//! takes many small reads a second, a connection whose messages come close together sleeps before
//! its next read, as a network card moderates its interrupts. All of them wake on one grid.
//!
//! It pays only where a delay holds at least two of a connection's reads; elsewhere it would cost
//! its time and bring nothing. So each is decided for by its own measured gap, once a tick, and
//! nobody is delayed while the process has little to do and latency counts.

use std::time::Duration;

/// A connection that brings more than this is in bulk: its reads are full, or soon will be.
const BULK_BYTES_PER_SECOND: f64 = 4e6;
/// Reads that a delay should hold.
const READS_PER_DELAY: f64 = 4.0;
/// With fewer than this, no delay pays.
const MIN_READS_PER_DELAY: f64 = 2.0;
/// The longest delay is halved at most so often: a sleep much shorter than a millisecond saves
/// nothing.
const MAX_HALVINGS: u32 = 6;
/// The share of the newest tick in the averages.
const NEWEST: f64 = 0.25;

/// The process's side: whether reads are to be delayed at all.
#[derive(Clone, Debug)]
pub struct Coalesce {
    max_delay: Duration,
    busy_reads_per_second: f64,
    is_busy: bool,
    /// Reads a second that this tick's connections have shown.
    reads_per_second: f64,
}

/// The counts kept beside one connection.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    seen: Option<Counts>,
    /// Averages; the reads are those that there would have been without a delay.
    reads_per_second: f64,
    messages_per_read: f64,
    delay: Option<Duration>,
}

/// How far a connection has come.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    /// Reads that brought something.
    pub reads: u64,
    /// Messages finished.
    pub messages: u64,
    /// Bytes read.
    pub bytes: u64,
}

impl Coalesce {
    /// Reads are delayed by at most `max_delay`, once there are `busy_reads_per_second` over all
    /// connections, and until there are less than half as many.
    pub fn new(max_delay: Duration, busy_reads_per_second: f64) -> Self {
        Coalesce {
            max_delay,
            busy_reads_per_second,
            is_busy: false,
            reads_per_second: 0.0,
        }
    }

    /// Takes in what one connection shows, `elapsed` after the step before. Returns the step of the
    /// grid on which it is to read; `None`: it reads at once.
    pub fn step(&mut self, pace: &mut Pace, now: Counts, elapsed: Duration) -> Option<Duration> {
        let seconds = elapsed.as_secs_f64();
        let before = pace.seen.replace(now).filter(|_| seconds > 0.0)?;
        let since =
            |counts: fn(&Counts) -> u64| counts(&now).saturating_sub(counts(&before)) as f64;
        let (reads, messages) = (since(|now| now.reads), since(|now| now.messages));
        let is_bulk = since(|now| now.bytes) / seconds > BULK_BYTES_PER_SECOND;

        // A delayed read brings several. How many reads that would have been is known from before.
        let undelayed = match pace.delay {
            None => {
                if reads > 0.0 {
                    pace.messages_per_read = (messages / reads).max(1.0);
                }
                reads
            }
            Some(_) => reads.max(messages / pace.messages_per_read.max(1.0)),
        };
        let rate = undelayed / seconds;
        pace.reads_per_second = if pace.reads_per_second == 0.0 {
            rate
        } else {
            pace.reads_per_second * (1.0 - NEWEST) + rate * NEWEST
        };
        if !is_bulk {
            self.reads_per_second += rate;
        }
        pace.delay = (self.is_busy && !is_bulk)
            .then(|| self.delay_for(pace.reads_per_second))
            .flatten();
        pace.delay
    }

    /// Ends a tick, in which every connection took a step.
    pub fn end_tick(&mut self) {
        let least = if self.is_busy {
            self.busy_reads_per_second / 2.0
        } else {
            self.busy_reads_per_second
        };
        self.is_busy = self.reads_per_second >= least;
        self.reads_per_second = 0.0;
    }

    /// Whether connections may be delayed now.
    pub fn is_busy(&self) -> bool {
        self.is_busy
    }

    /// The smallest power-of-two part of the longest delay that holds enough reads; the longest
    /// itself, if that holds at least a few.
    fn delay_for(&self, reads_per_second: f64) -> Option<Duration> {
        let reads = |delay: Duration| delay.as_secs_f64() * reads_per_second;
        if reads(self.max_delay) < MIN_READS_PER_DELAY {
            return None;
        }
        (0..=MAX_HALVINGS)
            .rev()
            .map(|halvings| self.max_delay / 2u32.pow(halvings))
            .find(|&delay| reads(delay) >= READS_PER_DELAY)
            .or(Some(self.max_delay))
    }
}
