//! Whether a handler looks for bytes for a moment before its read sleeps.
//!
//! A read that sleeps has to be woken, which takes longer than many a peer needs that waits for a
//! reply and asks again. So a handler looks first: it reads again and again without waiting, for
//! about as long as a sleep and a wake-up cost. That pays only where the peer asks again within
//! that time, and while a processor would have nothing else to do.
//!
//! No clock is read. Whether looks found something is all that is known about the gaps between a
//! peer's requests, and all that is needed: a gap was shorter than a look, or it was not.

use std::time::Duration;

/// The most reads of one look. Each takes 0.1 to 0.3 us, so a look in vain costs 20 to 60 us of
/// CPU.
pub const MAX_READS_PER_LOOK: u32 = 200;

/// The most credit that a connection's looks can earn.
const MAX_CREDIT: u8 = 16;
/// What a look in vain costs, where a look that finds something earns 1.
const PRICE: u8 = 2;
/// A new connection's reads before its first look: most connections are short, or quiet.
const FIRST_SLEEPS: u16 = 15;
/// The most reads between two looks of a connection without credit.
const MAX_SLEEPS: u16 = 1023;

/// A connection that reads less often is not active: it takes a hundredth of a processor at most.
const MIN_READS_PER_SECOND: f64 = 50.0;

/// One connection's side: what its last looks brought.
///
/// Looks that find something earn credit, and looks in vain spend it twice as fast. Without credit
/// one read in 16, then in 32, and in the end in 1,024 looks. So however a peer spaces its
/// requests, at most as many looks are in vain as found something, beside one for each 1,024 reads
/// and a dozen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BusyPoll {
    credit: u8,
    /// How many reads are still to sleep before the next look.
    sleeps: u16,
    /// How many reads slept before the last look without credit.
    last_sleeps: u16,
}

impl Default for BusyPoll {
    fn default() -> Self {
        BusyPoll {
            credit: 0,
            sleeps: FIRST_SLEEPS,
            last_sleeps: FIRST_SLEEPS / 2,
        }
    }
}

impl BusyPoll {
    /// Whether a read looks before it sleeps. To be called once for each read.
    pub fn may_look(&mut self) -> bool {
        if self.sleeps == 0 {
            return true;
        }
        self.sleeps -= 1;
        false
    }

    /// A look found something that was not there when the look began.
    pub fn found(&mut self) {
        if self.credit == MAX_CREDIT {
            self.last_sleeps = (self.last_sleeps / 2).max(FIRST_SLEEPS / 2);
        }
        self.credit = MAX_CREDIT.min(self.credit + 1);
    }

    /// A look found nothing, and the read sleeps.
    pub fn found_nothing(&mut self) {
        self.credit = self.credit.saturating_sub(PRICE);
        if self.credit == 0 {
            self.last_sleeps = MAX_SLEEPS.min(self.last_sleeps * 2 + 1);
            self.sleeps = self.last_sleeps;
        }
    }
}

/// The process's side: whether so few connections are active that whoever looks keeps nobody from
/// a processor.
#[derive(Clone, Debug)]
pub struct Crowding {
    max_active: usize,
    active: usize,
}

impl Crowding {
    /// At most `max_active` connections may be active.
    pub fn new(max_active: usize) -> Self {
        Crowding {
            max_active,
            active: 0,
        }
    }

    /// Takes in how many reads of one connection brought something within `elapsed`.
    pub fn step(&mut self, reads: u64, elapsed: Duration) {
        let is_active = reads as f64 >= MIN_READS_PER_SECOND * elapsed.as_secs_f64();
        self.active += usize::from(is_active && reads > 0);
    }

    /// Ends a tick, in which every connection took a step. Returns whether too many are active for
    /// anybody to look.
    pub fn end_tick(&mut self) -> bool {
        std::mem::take(&mut self.active) > self.max_active
    }
}

/// How many threads may look at a time: half of the processors, and none where there is only one,
/// which a look would keep from the very peer that it waits for.
pub fn max_lookers(processors: usize) -> usize {
    processors / 2
}
