//! What a drain tells a peer to which nothing is ever written, and how long it reads on from it.

use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::time::Duration;

use crate::server::config::TICK;

/// Nothing is ever written to the peer.
const ONE_WAY: u8 = 1;
/// The peer was told that the server leaves.
const TOLD: u8 = 2;
/// Bytes that came too late were refused.
const REFUSED: u8 = 4;
/// The drain has let the peer in, with more than our kernel holds.
const LATE: u8 = 8;
/// The drain has ended the reading from the peer, which was not idle.
const CUT: u8 = 16;

/// How long is waited for what a peer's own kernel has for our window: longer than a round trip.
pub(crate) const LATE_WAIT: Duration = Duration::from_millis(100);

/// The most that a sender's kernel holds of what it was given and has not sent, unless somebody has
/// set more (tcp(7), `tcp_wmem`).
pub(crate) const MAX_UNSENT: u64 = 4 << 20;

/// The leave that a drain takes of one peer. Each connection has one, so it is small: of counts of
/// bytes, the low bits tell how far one is behind another.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// Up to this count of bytes it is read on from a peer that is held up: it had sent no more.
    last_byte: AtomicU32,
    /// The count at the last tick.
    seen: AtomicU32,
    /// [`ONE_WAY`], [`TOLD`], [`REFUSED`], [`LATE`] and [`CUT`].
    state: AtomicU8,
    /// Ticks since the peer was told.
    ticks: AtomicU8,
    /// Ticks since it last brought something.
    idle_ticks: AtomicU8,
    /// Ticks since it was last held up.
    flowing_ticks: AtomicU8,
}

/// Whom a handler waits for, as a tick finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    /// For the buffer or a rate limit, or it has too much to read.
    HeldUp,
    /// For a processor: there is something that it has not read, or not worked off.
    Behind,
    /// For the peer.
    Idle,
}

/// Whoever is not held up has so many moments.
const MAX_MOMENTS: u32 = 4;
/// Whoever brings less with a tick is idle: a sender of single bytes.
const MIN_PER_TICK: u32 = 1 << 10;

impl Leave {
    fn mark(&self, mark: u8) {
        self.state.fetch_or(mark, Ordering::AcqRel);
    }

    fn is_marked(&self, mark: u8) -> bool {
        self.state.load(Ordering::Acquire) & mark != 0
    }

    /// Nothing is ever written to the peer, so a drain may tell it at once that nothing more is
    /// wanted, and read on until the peer ends its stream.
    pub(crate) fn set_one_way(&self) {
        self.mark(ONE_WAY);
    }

    pub(super) fn is_one_way(&self) -> bool {
        self.is_marked(ONE_WAY)
    }

    /// The peer is told. So many of its bytes were read, and so many more has our kernel.
    pub(super) fn set_told(&self, read: u64, unread: u64) {
        // A kernel has less for one connection.
        let left = unread.min(1 << 30) + MAX_UNSENT;
        self.last_byte
            .store((read + left) as u32, Ordering::Relaxed);
        self.seen.store(read as u32, Ordering::Relaxed);
        self.mark(TOLD);
    }

    /// Whether the peer was told that the server leaves.
    pub(crate) fn is_told(&self) -> bool {
        self.is_marked(TOLD)
    }

    /// Bytes that came after the last read were refused by the kernel.
    pub(crate) fn set_refused(&self) {
        self.mark(REFUSED);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.is_marked(REFUSED)
    }

    pub(super) fn set_late(&self) {
        self.mark(LATE);
    }

    /// Whether the drain has let the peer in, with more than our kernel holds.
    pub(crate) fn is_late(&self) -> bool {
        self.is_marked(LATE)
    }

    /// Whether the drain has ended the reading from a peer that was not idle: it may be one that
    /// goes on.
    pub(super) fn is_cut(&self) -> bool {
        self.is_marked(CUT)
    }

    /// Whether nothing was read since the last tick.
    pub(super) fn brings_nothing(&self, read: u64) -> bool {
        self.seen.swap(read as u32, Ordering::Relaxed) == read as u32
    }

    /// Whether the peer is read on from: for a moment, and then until it was idle for one. What a
    /// peer had sent before, and the end of its stream, wait in its own kernel for space in the
    /// window while it is held up. That is [`MAX_UNSENT`] at most, so nobody goes on for ever. Not
    /// held up, it has [`MAX_MOMENTS`]: its handler may have got no processor, what it has sent may
    /// be on a long way, or it sends a little now and then.
    ///
    /// To be asked with each tick: so many bytes were `read` so far.
    pub(super) fn is_read_on(&self, moment: Duration, flow: Flow, read: u64) -> bool {
        let next = |ticks: &AtomicU8| ticks.load(Ordering::Relaxed).saturating_add(1);
        let ticks = next(&self.ticks);
        let seen = self.seen.swap(read as u32, Ordering::Relaxed);
        let flow = match flow {
            Flow::Idle if (read as u32).wrapping_sub(seen) >= MIN_PER_TICK => Flow::Behind,
            flow => flow,
        };
        let idle_ticks = match flow {
            Flow::Idle => next(&self.idle_ticks),
            _ => 0,
        };
        let flowing_ticks = match flow {
            Flow::HeldUp => 0,
            _ => next(&self.flowing_ticks),
        };
        self.ticks.store(ticks, Ordering::Relaxed);
        self.idle_ticks.store(idle_ticks, Ordering::Relaxed);
        self.flowing_ticks.store(flowing_ticks, Ordering::Relaxed);
        let has_lasted = |ticks: u8, time: Duration| TICK * u32::from(ticks) >= time;
        if !has_lasted(ticks, moment) {
            return true;
        }
        let left = self
            .last_byte
            .load(Ordering::Relaxed)
            .wrapping_sub(read as u32);
        let has_had_its_time = has_lasted(idle_ticks, moment)
            || has_lasted(flowing_ticks, moment * MAX_MOMENTS)
            || left.cast_signed() <= 0;
        let is_read_on = !has_had_its_time;
        if !is_read_on && flow != Flow::Idle {
            self.mark(CUT);
        }
        is_read_on
    }
}

#[cfg(test)]
mod tests {
    use super::Flow::{Behind, HeldUp, Idle};
    use super::*;

    const MOMENT: Duration = Duration::from_millis(250);

    fn told_after(read: u64) -> Leave {
        let leave = Leave::default();
        leave.set_told(read, 500);
        leave
    }

    fn told() -> Leave {
        told_after(1000)
    }

    fn ticks(leave: &Leave, mut ask: impl FnMut(&Leave) -> bool) -> usize {
        (0..100).take_while(|_| ask(leave)).count()
    }

    #[test]
    fn whoever_is_silent_or_trickles_has_a_moment() {
        assert_eq!(ticks(&told(), |it| it.is_read_on(MOMENT, Idle, 1000)), 2);
        let mut read = 1000;
        let trickles = ticks(&told(), |it| {
            read += 1;
            it.is_read_on(MOMENT, Idle, read)
        });
        assert_eq!(trickles, 2);
    }

    #[test]
    fn whoever_is_held_up_is_read_on_from_until_a_moment_after_that() {
        let leave = told();
        let mut read = 1000;
        let is_held_up = |it: &Leave| {
            read += 1000;
            it.is_read_on(MOMENT, HeldUp, read)
        };
        assert_eq!(ticks(&leave, is_held_up), 100);
        assert_eq!(ticks(&leave, |it| it.is_read_on(MOMENT, Idle, read)), 2);
    }

    #[test]
    fn whoever_is_behind_or_brings_something_has_four_moments_after_each_hold_up() {
        let leave = told();
        for _ in 0..3 {
            assert!(leave.is_read_on(MOMENT, HeldUp, 1000));
            assert_eq!(ticks(&leave, |it| it.is_read_on(MOMENT, Behind, 1000)), 9);
        }
        let leave = told();
        let mut flow = Idle;
        let by_turns = ticks(&leave, |it| {
            flow = if flow == Idle { Behind } else { Idle };
            it.is_read_on(MOMENT, flow, 1000)
        });
        assert_eq!(by_turns, 9);
        let mut read = 1000;
        let brings = ticks(&told(), |it| {
            read += u64::from(MIN_PER_TICK);
            it.is_read_on(MOMENT, Idle, read)
        });
        assert_eq!(brings, 9);
        assert!(!leave.brings_nothing(1001) && leave.brings_nothing(1001));
    }

    #[test]
    fn nobody_goes_on_behind_what_its_kernel_can_have_held() {
        for read in [1000, u64::from(u32::MAX) - 1, 1 << 40] {
            let last = read + 500 + MAX_UNSENT;
            let leave = told_after(read);
            assert_eq!(ticks(&leave, |it| it.is_read_on(MOMENT, HeldUp, last)), 2);
            let leave = told_after(read);
            let before = |it: &Leave| it.is_read_on(MOMENT, HeldUp, last - 1);
            assert_eq!(ticks(&leave, before), 100);
        }
    }
}
