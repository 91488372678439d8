//! Writing to a peer from other threads than its handler's.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Weak};

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::error::Ended;
use crate::server::ledger::EndReason;
use crate::server::state::Shared;
use crate::server::state::connection_state::ConnectionState;

/// The most bytes that one write hands to the kernel, and that `write_timeout` applies to.
pub(super) const MAX_PER_WRITE: usize = 64 << 10;

/// Writes to a connection's peer from any thread, while its handler reads: for a subscription that
/// pushes, or a timer. Clones write to the same connection.
///
/// A writer keeps nothing alive: when the handler has returned, a blocked write and every later
/// write fail. Let the handler block in a read: a drain, an abort and a peer that is gone wake the
/// read, and the handler's return ends the writers.
///
/// # Writing
/// [`write`](Write::write) writes its whole buffer, and blocks until the kernel has all of it, at
/// most `write_timeout` for each 64 KiB. After that the connection ends as
/// [`write_timeout`](EndReason::WriteTimeout). Writes of several threads do not interleave; a write
/// of the handler itself is one unit up to 64 KiB. A drain does not end writers before the handler
/// returns.
///
/// # Errors
/// Once the connection has ended, an error that wraps [`Ended`]. Part of the buffer may have been
/// written by then.
#[derive(Clone)]
pub struct Writer {
    id: u64,
    state: Weak<ConnectionState>,
    shared: Weak<Shared>,
}

impl Writer {
    pub(super) fn new(state: &Arc<ConnectionState>, shared: &Arc<Shared>) -> Self {
        Writer {
            id: state.id,
            state: Arc::downgrade(state),
            shared: Arc::downgrade(shared),
        }
    }

    /// The number of the connection.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether the connection has ended, so that every later write fails.
    pub fn is_closed(&self) -> bool {
        let state = self.state.upgrade();
        state.is_none_or(|state| state.ended().is_some() || state.is_over())
    }

    fn write_all_of(&self, buf: &[u8]) -> io::Result<()> {
        let ended = |reason| Err(Ended(reason).into_io());
        let (Some(state), Some(shared)) = (self.state.upgrade(), self.shared.upgrade()) else {
            return ended(EndReason::HandlerReturned);
        };
        let _turn = state.writing.lock();
        if state.is_over() {
            return ended(state.ended().unwrap_or(EndReason::HandlerReturned));
        }
        for part in buf.chunks(MAX_PER_WRITE) {
            let until = shared.config.write_timeout;
            let until = until.map_or(Deadline::NEVER, Deadline::after);
            if let Err(reason) = write_part(&state, part, until) {
                if reason == EndReason::WriteTimeout {
                    shared.quota.abort(&state, reason);
                    state.disconnect();
                }
                return ended(state.ended().unwrap_or(reason));
            }
        }
        Ok(())
    }
}

/// Writes all of a part, and waits for the peer in poll(2), which shutdown(2) wakes.
fn write_part(state: &ConnectionState, mut part: &[u8], until: Deadline) -> Result<(), EndReason> {
    while !part.is_empty() {
        if let Some(reason) = state.ended() {
            return Err(reason);
        }
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::net::send(&state.stream, part, flags) {
            Ok(wrote) => part = &part[wrote..],
            Err(Errno::INTR) => {}
            Err(Errno::WOULDBLOCK) => {
                let left = until.remaining(MAX_PARK);
                state.poll_writable(left.ok_or(EndReason::WriteTimeout)?);
            }
            Err(_) => return Err(EndReason::Reset),
        }
    }
    Ok(())
}

impl Write for Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all_of(buf).map(|()| buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Write for &Writer {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.write_all_of(buf).map(|()| buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer")
            .field("connection", &self.id)
            .finish_non_exhaustive()
    }
}
