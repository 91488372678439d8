//! What a drain reads of a peer that it has let in, beside what our kernel held of it.

use std::time::{Duration, Instant};

use super::Connection;
use crate::server::state::leave::{LATE_WAIT, MAX_UNSENT};

/// What may still be read, and how long it is waited for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Late {
    bytes: u64,
    wait: Duration,
}

impl Late {
    pub(super) const ALL: Late = Late {
        bytes: MAX_UNSENT,
        wait: LATE_WAIT,
    };

    fn has_waited(&mut self, time: Duration) {
        self.wait = self.wait.saturating_sub(time);
    }

    /// Of so many bytes that have come, those that may be read. Each pays for a microsecond: a peer
    /// that brings a megabyte a second is read to its end, and one that trickles is soon over.
    fn take(&mut self, come: u64) -> u64 {
        let taken = come.min(self.bytes);
        self.wait = (self.wait + Duration::from_micros(taken)).min(LATE_WAIT);
        self.bytes = match taken {
            0 => 0,
            taken => self.bytes - taken,
        };
        taken
    }

    fn is_over(&self) -> bool {
        self.bytes == 0
    }
}

impl Connection {
    /// What has come behind what our kernel held of a peer that a drain has let in, up to what its
    /// own kernel can have held. What that has comes as soon as there is space in the window, so it
    /// is waited for a moment: others wait for this one's permit.
    pub(super) fn late_bytes(&self) -> u64 {
        let mut late = self.late.get();
        if !self.state.leave.is_late() || late.is_over() {
            return 0;
        }
        late.wait = late.wait.min(self.shared.lifecycle.late_wait());
        if self.state.unread_bytes() == 0 {
            let begun = Instant::now();
            self.state.poll_readable(late.wait);
            late.has_waited(begun.elapsed());
        }
        if self.state.poll_peer_gone() {
            self.state.set_complete();
            return u64::MAX;
        }
        let found = late.take(self.state.unread_bytes());
        self.late.set(late);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(20);

    /// How much is read of one that brings so much with each step.
    fn read_in_steps(bytes: u64) -> u64 {
        let mut late = Late::ALL;
        let mut read = 0;
        while !late.is_over() {
            let has_come = late.wait >= STEP;
            late.has_waited(STEP);
            read += late.take(if has_come { bytes } else { 0 });
        }
        read
    }

    #[test]
    fn whoever_brings_a_megabyte_a_second_is_read_to_its_end_and_who_trickles_is_not() {
        assert_eq!(read_in_steps(20_000), MAX_UNSENT);
        assert_eq!(read_in_steps(1 << 20), MAX_UNSENT);
        assert_eq!(read_in_steps(0), 0);
        assert_eq!(read_in_steps(1), 5);
        let half = read_in_steps(10_000);
        assert!((50_000..150_000).contains(&half), "{half}");
    }
}
