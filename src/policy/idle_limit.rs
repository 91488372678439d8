//! How many threads may wait for a client while new threads could be made.
//!
//! A wait pays where the next client comes soon. Many clients leave at once in two ways. Waves of
//! short connections come again and again, and each finds the threads of the wave before. A crowd
//! that has stayed for a while leaves and does not return: if each of its threads waited, each
//! would arm a timer and be woken again, only to end later. What tells the two apart at the moment
//! of the end is whether as many clients have come lately.
//!
//! A thread that may wait does so for as long as it is told, however far apart the waves are. So
//! what has to be remembered is as long as a short connection, and not as a wait.

/// How many threads may always wait.
pub const MIN_IDLE: usize = 64;
/// A client counts until so many ticks have ended. Of connections that last longer, most of a
/// crowd's threads are made anew, which costs 50 to 100 us for each.
pub const TICKS: usize = 4;

/// Counts the clients that came lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IdleLimit {
    /// The clients of each tick, those of the present one first.
    came: [usize; TICKS],
}

impl IdleLimit {
    /// A client came.
    pub fn came(&mut self) {
        self.came[0] += 1;
    }

    /// Ends a tick.
    pub fn end_tick(&mut self) {
        self.came.rotate_right(1);
        self.came[0] = 0;
    }

    /// How many threads may wait now.
    pub fn max_idle(&self) -> usize {
        self.came.iter().sum::<usize>().max(MIN_IDLE)
    }
}
