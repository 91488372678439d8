//! What a drain reads of a peer that it has let in, beside what our kernel held of it.

use super::Connection;
use crate::server::state::leave::{LATE_WAIT, MAX_UNSENT};

#[derive(Clone, Copy)]
pub(super) struct Late {
    /// How often nothing may be there yet.
    waits: u8,
    bytes: u64,
}

impl Late {
    pub(super) const ALL: Late = Late {
        waits: 3,
        bytes: MAX_UNSENT,
    };
}

impl Connection {
    /// What has come behind what our kernel held of a peer that a drain has let in, up to what its
    /// own kernel can have held. What that has comes as soon as there is space in the window, so it
    /// is waited for a moment, a few times: others wait for this one's permit.
    pub(super) fn late_bytes(&self) -> u64 {
        let mut late = self.late.get();
        if !self.state.leave.is_late() || late.waits == 0 {
            return 0;
        }
        if self.state.unread_bytes() == 0 {
            late.waits -= 1;
            self.late.set(late);
            if !self.state.poll_readable(LATE_WAIT) {
                return 0;
            }
        }
        if self.state.poll_peer_gone() {
            self.state.set_complete();
            return u64::MAX;
        }
        let found = self.state.unread_bytes().min(late.bytes);
        late.bytes -= found;
        self.late.set(late);
        found
    }
}
