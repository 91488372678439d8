//! What a drain does with one connection.

use std::net::Shutdown;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::{ConnectionState, DRAIN_DUE, DRAINED, OPENING};
use crate::policy::Activity;
use crate::server::peer::Peer;
use crate::server::state::leave::{Flow, LATE_WAIT};

impl ConnectionState {
    /// Whether a drain has begun; the connection may still be let off while it opens.
    pub(crate) fn is_drain_due(&self) -> bool {
        self.opening.load(Ordering::Acquire) & DRAIN_DUE != 0
    }

    /// Whether what comes before the peer's own bytes is not complete.
    pub(crate) fn is_opening(&self) -> bool {
        self.opening.load(Ordering::Acquire) & OPENING != 0
    }

    /// A drain is not held off any more. Returns whether one has begun, which then is to be called
    /// for again.
    pub(crate) fn end_opening(&self) -> bool {
        self.opening.fetch_and(!OPENING, Ordering::AcqRel) & DRAIN_DUE != 0
    }

    /// Ends reading, and wakes a blocked read; replies can still be written. If the peer has ended
    /// its stream already, the stream is still read to that end. While the connection opens, does
    /// nothing but tell its thread. A second call does nothing.
    pub(crate) fn drain(&self) {
        if self.begin_drain() {
            let _ = self.socket.shutdown(Shutdown::Read);
            self.unpark();
        }
    }

    /// As [`drain`](ConnectionState::drain), for a peer that was told that the server leaves. Where
    /// it was not idle the socket stays open for what is to be read: behind a shutdown(2) the
    /// kernel gives a sender no more space in the window, so that nobody would know what it still
    /// had. To be called with each tick until the handler has returned: one that finds nothing is
    /// woken, and one whose read brings nothing of what the kernel counts (a Unix socket's urgent
    /// byte).
    pub(crate) fn end_leave(&self) {
        if !self.leave.is_told() {
            return self.drain();
        }
        let is_first = self.begin_drain();
        let is_over = match is_first {
            true => !self.leave.is_cut(),
            false => self.waits_for_peer() && self.leave.brings_nothing(self.came()),
        };
        if is_over {
            let _ = self.socket.shutdown(Shutdown::Read);
        }
        if is_first {
            self.unpark();
        }
    }

    /// Returns whether reading is to be ended: not while the connection opens, nor a second time.
    fn begin_drain(&self) -> bool {
        if self.opening.fetch_or(DRAIN_DUE, Ordering::AcqRel) & OPENING != 0 {
            return false;
        }
        // Another look would take our own shutdown(2) for the peer's end, and half a message for a
        // whole one.
        if self.opening.fetch_or(DRAINED, Ordering::AcqRel) & DRAINED != 0 {
            return false;
        }
        if self.poll_peer_gone() {
            self.set_complete();
        }
        self.published.drain.store(true, Ordering::Release);
        true
    }

    /// Ends the sending direction, where nothing is ever sent: the peer sees an end of the stream,
    /// and may end its own. Reading goes on as before, until [`drain`](ConnectionState::drain).
    /// Returns whether the peer was told.
    pub(crate) fn take_leave(&self) -> bool {
        let is_let_in = self.is_drain_due();
        if !self.leave.is_one_way() || is_let_in || self.is_opening() || self.poll_peer_gone() {
            return false;
        }
        // Without the goodbye of a session: a peer that has closed already, with its end on its way
        // to here, would answer bytes with a reset, and its kernel throw away what it holds.
        self.leave.set_told(self.came(), self.unread_bytes());
        let is_told = self.socket.shutdown(Shutdown::Write).is_ok();
        self.unpark();
        is_told
    }

    /// As [`drain`](ConnectionState::drain), for a peer that a drain lets in: where so much has
    /// come that its own kernel may hold more, that is read, too, as it comes.
    pub(crate) fn drain_late(&self) {
        // What was sent to a Unix socket is here.
        let is_tcp = matches!(self.neighbor, Peer::Tcp(_));
        if !is_tcp || !self.leave.is_one_way() || self.is_opening() || !self.has_backlog() {
            return self.drain();
        }
        let marks = self.opening.fetch_or(DRAIN_DUE | DRAINED, Ordering::AcqRel);
        if marks & DRAINED == 0 {
            self.leave.set_late();
            self.published.drain.store(true, Ordering::Release);
            self.unpark();
        }
    }

    /// All that will ever come is in the kernel, though a drain has begun.
    pub(crate) fn set_complete(&self) {
        self.published.is_complete.store(true, Ordering::Release);
    }

    /// Whether so much has come that there may be no space for more: a window is half of the
    /// buffer, or less (tcp(7), `tcp_adv_win_scale`), and a buffer that has grown fills by and by.
    pub(crate) fn has_backlog(&self) -> bool {
        const MUCH: u64 = 64 << 10;
        let buffer = self.socket.recv_buffer_size().unwrap_or_default() as u64;
        self.unread_bytes() >= (buffer / 4).clamp(1, MUCH)
    }

    /// Whether the handler waits for the buffer or for a rate limit.
    fn is_held_up(&self) -> bool {
        matches!(
            self.sample().activity,
            Activity::Sending | Activity::Pausing
        )
    }

    /// Bytes that were read of the wire.
    fn came(&self) -> u64 {
        match self.session() {
            Some(_) => u64::from(self.published.wire_bytes.load(Ordering::Relaxed)),
            None => self.published.bytes.load(Ordering::Relaxed),
        }
    }

    fn waits_for_peer(&self) -> bool {
        matches!(
            self.sample().activity,
            Activity::Reading | Activity::Delayed
        )
    }

    /// For whom the handler waits.
    fn flow(&self) -> Flow {
        if self.is_held_up() || self.has_backlog() {
            Flow::HeldUp
        } else if self.waits_for_peer() && self.unread_bytes() == 0 {
            Flow::Idle
        } else {
            Flow::Behind
        }
    }

    /// Whether the drain reads on from a peer that was told that the server leaves, for a `moment`
    /// at least (`Leave::is_read_on`). For the watchdog alone, once a tick.
    pub(crate) fn is_read_on(&self, moment: Duration) -> bool {
        if !self.leave.is_told() || self.is_draining() {
            return false;
        }
        self.leave.is_read_on(moment, self.flow(), self.came())
    }

    /// Bytes that the kernel has received of a peer, and that no read of a drain brings any more.
    /// Waits a moment for them where the peer was cut (`Leave::is_cut`). Otherwise the kernel
    /// answers what comes with a reset once both directions are shut down, keeps none of it and
    /// does not say how much it was: one byte at least.
    pub(crate) fn late_unread_bytes(&self) -> u64 {
        if self.leave.is_cut() {
            self.poll_readable(LATE_WAIT);
        }
        let is_reset = || matches!(self.socket.take_error(), Ok(Some(_)) | Err(_));
        let is_refused = self.leave.is_told() && (self.leave.is_refused() || is_reset());
        self.unread_bytes() + u64::from(is_refused)
    }

    /// Has the close of a socket tell a peer that was told that the server leaves, and went on: the
    /// kernel has ended the stream already, and would say nothing more to a peer that waits for
    /// space in its window, for a minute.
    pub(crate) fn reset_at_close(&self) {
        if self.leave.is_told() {
            let _ = self.socket.set_linger(Some(Duration::ZERO));
        }
    }
}
