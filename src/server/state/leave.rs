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
    /// Ticks since then, or since it was last held up.
    flowing_ticks: AtomicU8,
}

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
    /// moment, because its handler waits for the buffer, has not noticed yet that no rate limit
    /// holds it back any more, or has too much to read. What such a peer had sent before, and the
    /// end of its stream, wait in its own kernel for space in the window. That is [`MAX_UNSENT`] at
    /// most, so nobody goes on for ever.
    ///
    /// To be asked with each tick: so many bytes were `read` so far.
    pub(super) fn is_read_on(
        &self,
        moment: Duration,
        is_held_up: bool,
        read: u64,
        has_backlog: bool,
    ) -> bool {
        let next = |ticks: &AtomicU8| ticks.load(Ordering::Relaxed).saturating_add(1);
        let since_told = next(&self.ticks);
        let since_held_up = match is_held_up || has_backlog {
            true => 0,
            false => next(&self.flowing_ticks),
        };
        self.ticks.store(since_told, Ordering::Relaxed);
        self.flowing_ticks.store(since_held_up, Ordering::Relaxed);
        let is_in_moment = |ticks: u8| TICK * u32::from(ticks) < moment;
        if is_in_moment(since_told) || !is_in_moment(since_held_up) {
            return is_in_moment(since_told);
        }
        let left = self
            .last_byte
            .load(Ordering::Relaxed)
            .wrapping_sub(read as u32);
        left.cast_signed() > 0
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(
            ticks(&told(), |it| it.is_read_on(MOMENT, false, 1000, false)),
            2
        );
        let mut read = 1000;
        let trickles = ticks(&told(), |it| {
            read += 1;
            it.is_read_on(MOMENT, false, read, false)
        });
        assert_eq!(trickles, 2);
    }

    #[test]
    fn whoever_is_held_up_is_read_on_from_until_a_moment_after_that() {
        let leave = told();
        assert_eq!(
            ticks(&leave, |it| it.is_read_on(MOMENT, true, 1000, true)),
            100
        );
        assert_eq!(
            ticks(&leave, |it| it.is_read_on(MOMENT, false, 1000, false)),
            2
        );
        let mut read = 1000;
        let has_much = |it: &Leave| {
            read += 1000;
            it.is_read_on(MOMENT, false, read, true)
        };
        assert_eq!(ticks(&told(), has_much), 100);
    }

    #[test]
    fn nobody_goes_on_behind_what_its_kernel_can_have_held() {
        for read in [1000, u64::from(u32::MAX) - 1, 1 << 40] {
            let last = read + 500 + MAX_UNSENT;
            for has_backlog in [true, false] {
                let leave = told_after(read);
                assert_eq!(
                    ticks(&leave, |it| it.is_read_on(MOMENT, true, last, has_backlog)),
                    2
                );
            }
            let leave = told_after(read);
            assert_eq!(
                ticks(&leave, |it| it.is_read_on(MOMENT, true, last - 1, true)),
                100
            );
        }
    }
}
