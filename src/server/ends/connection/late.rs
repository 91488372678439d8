//! What a drain reads of a peer that it has let in, beside what our kernel held of it.

use std::time::{Duration, Instant};

use super::Connection;
use crate::server::state::leave::{LATE_WAIT, MAX_UNSENT};

/// What may still be read, and how long it is waited for.
#[derive(Clone, Copy)]
pub(super) struct Late {
    bytes: u64,
    wait: Duration,
}

impl Late {
    pub(super) const ALL: Late = Late {
        bytes: MAX_UNSENT,
        wait: LATE_WAIT,
    };

    /// Each byte pays for a microsecond: a peer that brings a megabyte a second is read to its end,
    /// and one that trickles is soon over.
    fn take(&mut self, bytes: u64) {
        self.bytes -= bytes;
        self.wait = (self.wait + Duration::from_micros(bytes)).min(LATE_WAIT);
    }
}

impl Connection {
    /// What has come behind what our kernel held of a peer that a drain has let in, up to what its
    /// own kernel can have held. What that has comes as soon as there is space in the window, so it
    /// is waited for a moment: others wait for this one's permit.
    pub(super) fn late_bytes(&self) -> u64 {
        let leave = &self.state.leave;
        let mut late = self.late.get();
        if !leave.is_late() || late.bytes == 0 {
            return 0;
        }
        if self.state.unread_bytes() == 0 {
            let (begun, wait) = (Instant::now(), late.wait);
            let has_come = self.state.poll_readable(wait);
            late.wait = wait.saturating_sub(begun.elapsed());
            if !has_come && wait < LATE_WAIT {
                // It went on, and too slowly.
                leave.set_cut();
            }
        }
        if self.state.poll_peer_gone() {
            self.state.set_complete();
            return u64::MAX;
        }
        let found = self.state.unread_bytes().min(late.bytes);
        late.take(found);
        if late.bytes == 0 {
            leave.set_cut();
        }
        if found == 0 {
            late.bytes = 0;
        }
        self.late.set(late);
        found
    }
}
