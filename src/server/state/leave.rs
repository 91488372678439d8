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
/// The drain has ended the reading from the peer, of which there was much to read.
const CUT: u8 = 16;

/// How long is waited for what a peer's own kernel has for our window.
pub(crate) const LATE_WAIT: Duration = Duration::from_millis(10);

/// The most that a sender's kernel holds of what it was given and has not sent, unless somebody has
/// set more (tcp(7), `tcp_wmem`).
pub(crate) const MAX_UNSENT: u64 = 4 << 20;

/// The leave that a drain takes of one peer. Each connection has one, so it is small: of counts of
/// bytes, the low bits tell how far one is behind another.
#[derive(Debug, Default)]
pub(crate) struct Leave {
    /// Up to this count of bytes it is read on from a peer that is held up: it had sent no more.
    last_byte: AtomicU32,
    /// [`ONE_WAY`], [`TOLD`], [`REFUSED`], [`LATE`] and [`CUT`].
    state: AtomicU8,
    /// Ticks since the peer was told.
    ticks: AtomicU8,
    /// The moments that it has had since it was last held up, in ticks of [`BEHIND`].
    flowing: AtomicU8,
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

/// Whoever is behind has so many times the moment of whoever is idle.
const BEHIND: u8 = 4;

impl Leave {
    /// Nothing is ever written to the peer, so a drain may tell it at once that nothing more is
    /// wanted, and read on until the peer ends its stream.
    pub(crate) fn set_one_way(&self) {
        self.state.fetch_or(ONE_WAY, Ordering::AcqRel);
    }

    pub(super) fn is_one_way(&self) -> bool {
        self.state.load(Ordering::Acquire) & ONE_WAY != 0
    }

    /// The peer is told. So many of its bytes were read, and so many more has our kernel.
    pub(super) fn set_told(&self, read: u64, unread: u64) {
        // A kernel has less for one connection.
        let left = unread.min(1 << 30) + MAX_UNSENT;
        self.last_byte
            .store((read + left) as u32, Ordering::Relaxed);
        self.state.fetch_or(TOLD, Ordering::AcqRel);
    }

    /// Whether the peer was told that the server leaves.
    pub(crate) fn is_told(&self) -> bool {
        self.state.load(Ordering::Acquire) & TOLD != 0
    }

    /// Bytes that came after the last read were refused by the kernel.
    pub(crate) fn set_refused(&self) {
        self.state.fetch_or(REFUSED, Ordering::AcqRel);
    }

    pub(super) fn is_refused(&self) -> bool {
        self.state.load(Ordering::Acquire) & REFUSED != 0
    }

    pub(super) fn set_late(&self) {
        self.state.fetch_or(LATE, Ordering::AcqRel);
    }

    /// Whether the drain has let the peer in, with more than our kernel holds.
    pub(crate) fn is_late(&self) -> bool {
        self.state.load(Ordering::Acquire) & LATE != 0
    }

    pub(super) fn set_cut(&self) {
        self.state.fetch_or(CUT, Ordering::AcqRel);
    }

    /// Whether the drain has ended the reading from the peer while there was much to read: it may
    /// be one that goes on.
    pub(super) fn is_cut(&self) -> bool {
        self.state.load(Ordering::Acquire) & CUT != 0
    }

    /// Whether the peer is read on from: for a moment, and then until it was not held up for such a
    /// moment. What a peer that is held up had sent before, and the end of its stream, wait in its
    /// own kernel for space in the window. That is [`MAX_UNSENT`] at most, so nobody goes on for
    /// ever. A handler that is behind may have got no processor since its peer was held up, or its
    /// peer sends a byte at a time: it has [`BEHIND`] moments.
    ///
    /// To be asked with each tick: so many bytes were `read` so far.
    pub(super) fn is_read_on(&self, moment: Duration, flow: Flow, read: u64) -> bool {
        let ticks = self.ticks.load(Ordering::Relaxed).saturating_add(1);
        let flowing = self.flowing.load(Ordering::Relaxed);
        let flowing = match flow {
            Flow::HeldUp => 0,
            Flow::Behind => flowing.saturating_add(1),
            Flow::Idle => flowing.saturating_add(BEHIND),
        };
        self.ticks.store(ticks, Ordering::Relaxed);
        self.flowing.store(flowing, Ordering::Relaxed);
        if TICK * u32::from(ticks) < moment {
            return true;
        }
        let left = self
            .last_byte
            .load(Ordering::Relaxed)
            .wrapping_sub(read as u32);
        TICK * u32::from(flowing) < moment * u32::from(BEHIND) && left.cast_signed() > 0
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
        assert_eq!(ticks(&leave, |it| it.is_read_on(MOMENT, Idle, 1000)), 2);
    }

    #[test]
    fn whoever_is_behind_has_four_moments_after_each_hold_up_and_no_more() {
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
        assert_eq!(by_turns, 3);
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
