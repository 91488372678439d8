//! How bytes go to a peer: the one place that hands them to the kernel.
//!
//! Two things order what is written, and only the first may be held while the peer takes nothing:
//!
//! - A **turn** makes each write whole, first come, first served.
//! - The **state of the transport** is what one step changes, [`send_now`], which never waits. A
//!   plain socket has no state but the kernel's, so nothing is locked here. A session that encrypts
//!   has one, which the handler's reads change, too: its lock goes around the body of `send_now`
//!   (encrypt, and hand over what the kernel takes at once) and around the decrypting of what a
//!   read brought, and never around [`wait_until_writable`] or a blocking read.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::SendFlags;

use crate::policy::Activity;
use crate::server::deadline::MAX_PARK;
use crate::server::ledger::EndReason;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::quota::Quota;
use crate::server::state::turns::Turn;

/// The most bytes of one write that are handed over under one deadline, and that a handler's write
/// takes at once.
pub(super) const MAX_PER_WRITE: usize = 64 << 10;

/// Why bytes were not written to the last one.
#[derive(Debug)]
pub(super) enum Unsent {
    /// The connection has ended.
    Ended(EndReason),
    /// The connection whose handler writes has ended, which is another one.
    CallerEnded(EndReason),
    /// The peer has taken nothing in time.
    TimedOut,
    /// The peer is gone.
    Failed(io::Error),
}

/// When a write must be done, by the clock of the sends' deadlines, which stands still while the
/// process is stopped.
#[derive(Clone, Copy, Debug)]
pub(super) struct WriteDeadline<'a> {
    clock: &'a Quota,
    at: Duration,
}

impl<'a> WriteDeadline<'a> {
    /// `None` for never.
    pub(super) fn after(wait: Duration, clock: &'a Quota) -> Option<Self> {
        let at = clock.running_time().checked_add(wait)?;
        Some(WriteDeadline { clock, at })
    }

    fn left(self) -> Duration {
        self.at.saturating_sub(self.clock.running_time())
    }
}

/// Blocks until a turn is up.
///
/// # Errors
/// The connection that the calling thread serves ended first; whatever ends it unparks the thread.
pub(super) fn wait_for_turn(
    turn: &Turn<'_>,
    caller: Option<&Arc<ConnectionState>>,
) -> Result<(), EndReason> {
    while !turn.is_up() {
        if let Some(reason) = caller.and_then(|caller| caller.ended()) {
            return Err(reason);
        }
        std::thread::park_timeout(MAX_PARK);
    }
    Ok(())
}

/// Hands all of a part to the kernel, and takes what was handed over off its front. Blocks while
/// the peer takes nothing; an end of the connection wakes the wait, and so does an end of the
/// `caller`, the connection that the calling thread serves.
pub(super) fn send_all(
    state: &ConnectionState,
    part: &mut &[u8],
    until: Option<WriteDeadline<'_>>,
    caller: Option<&ConnectionState>,
) -> Result<(), Unsent> {
    while !part.is_empty() {
        if let Some(reason) = state.ended() {
            return Err(Unsent::Ended(reason));
        }
        if let Some(reason) = caller.and_then(ConnectionState::ended) {
            return Err(Unsent::CallerEnded(reason));
        }
        let sent = send_now(state, part).map_err(Unsent::Failed)?;
        *part = &part[sent..];
        if sent == 0 {
            let left = until.map_or(MAX_PARK, |until| until.left().min(MAX_PARK));
            if left.is_zero() {
                return Err(Unsent::TimedOut);
            }
            wait_until_writable(state, left, caller);
        }
    }
    Ok(())
}

/// Hands the kernel what it takes of `part` at once, and returns how many bytes that were. Never
/// waits for the peer.
pub(super) fn send_now(state: &ConnectionState, part: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    loop {
        match rustix::net::send(&state.stream, part, flags) {
            Ok(sent) => return Ok(sent),
            Err(Errno::WOULDBLOCK) => return Ok(0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Blocks until the kernel takes bytes again, one of the two connections is ended, or `wait` is
/// over.
fn wait_until_writable(state: &ConnectionState, wait: Duration, caller: Option<&ConnectionState>) {
    match caller {
        None => state.poll_writable(wait),
        Some(caller) => state.poll_writable_or_end_of(caller, wait),
    }
}

/// Shows the watchdog, for as long as it exists, that a handler waits to write: not in its own
/// code, and not by the deadline of a write of its own.
pub(super) struct WaitingToWrite<'a>(Option<&'a ConnectionState>);

impl<'a> WaitingToWrite<'a> {
    pub(super) fn of(caller: Option<&'a ConnectionState>) -> Self {
        if let Some(caller) = caller {
            caller.enter(Activity::WaitingToWrite);
        }
        WaitingToWrite(caller)
    }
}

impl Drop for WaitingToWrite<'_> {
    fn drop(&mut self) {
        if let Some(caller) = self.0 {
            caller.enter(Activity::Working);
        }
    }
}
