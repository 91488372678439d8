//! How bytes go to a peer: the one place that hands them to the kernel.
//!
//! Two things order what is written, and only the first may be held while the peer takes nothing:
//!
//! - A **turn** makes each write whole, first come, first served.
//! - The **state of the transport** is what one step changes, [`send_now`], which never waits. A
//!   plain socket has no state but the kernel's, so nothing is locked here. A session that encrypts
//!   has one, which the handler's reads change, too: it is locked to encrypt and hand over what the
//!   kernel takes at once, and to decrypt what a read brought, and never in a wait for the peer.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::Activity;
use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::ledger::EndReason;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::quota::Quota;
use crate::server::state::turns::Turn;
use crate::server::tls::Session;
use crate::server::wire::SendNow;

/// The most bytes of one write that are handed over under one deadline, and that a handler's write
/// takes at once.
pub(super) const MAX_PER_WRITE: usize = 64 << 10;

/// How long a handler whose own connection has ended still waits in the writer of another: enough
/// for its last words where somebody else is just writing, and no time for a peer that is stuck.
const GRACE: Duration = Duration::from_millis(100);

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
/// The `caller` may wait no longer.
pub(super) fn wait_for_turn(turn: &Turn<'_>, caller: &Caller) -> Result<(), EndReason> {
    while !turn.is_up() {
        // What ends the caller's connection unparks this thread, as does the turn before.
        std::thread::park_timeout(caller.may_wait()?);
    }
    Ok(())
}

/// Hands all of a part to the kernel, and takes what was handed over off its front. Blocks while
/// the peer takes nothing; an end of the connection wakes the wait. `None` stands for the
/// connection's own handler.
pub(super) fn send_all(
    state: &ConnectionState,
    part: &mut &[u8],
    until: Option<WriteDeadline<'_>>,
    caller: Option<&Caller>,
) -> Result<(), Unsent> {
    while !part.is_empty() || !has_sent_all(state) {
        if let Some(reason) = state.ended() {
            return Err(Unsent::Ended(reason));
        }
        let sent = send_now(state, part).map_err(Unsent::Failed)?;
        *part = &part[sent..];
        if sent > 0 || part.is_empty() && has_sent_all(state) {
            continue;
        }
        let left = until.map_or(MAX_PARK, |until| until.left().min(MAX_PARK));
        if left.is_zero() {
            return Err(Unsent::TimedOut);
        }
        match caller {
            None => {
                state.poll_writable(left);
            }
            Some(caller) => {
                let most = caller.may_wait().map_err(Unsent::CallerEnded)?;
                caller.wait_until_writable(state, left.min(most));
            }
        }
    }
    Ok(())
}

/// Whether the kernel has all that a session has encrypted.
fn has_sent_all(state: &ConnectionState) -> bool {
    state.session().is_none_or(Session::has_sent_all)
}

/// Hands the kernel what it takes of `part` at once, and returns how many bytes that were. Never
/// waits for the peer. What a session has encrypted counts as handed over, since it cannot be taken
/// back: the kernel may not have all of it.
pub(super) fn send_now(state: &ConnectionState, part: &[u8]) -> io::Result<usize> {
    match state.session() {
        None => state.send_now(part),
        Some(session) => session.send_now(state, part),
    }
}

/// A thread that waits to write, and the connection whose handler it runs, if it runs one. While
/// this exists, that handler is shown as waiting to write: it is not in its own code, and the
/// deadline of a write of its own does not apply.
pub(super) struct Caller {
    serves: Option<Arc<ConnectionState>>,
    /// Begins when an end of that connection was seen.
    grace: Cell<Option<Deadline>>,
}

impl Caller {
    pub(super) fn this_thread() -> Self {
        Caller::serving(ConnectionState::served_here())
    }

    pub(super) fn serving(serves: Option<Arc<ConnectionState>>) -> Self {
        if let Some(serves) = &serves {
            serves.enter(Activity::WaitingToWrite);
        }
        let grace = Cell::new(None);
        Caller { serves, grace }
    }

    /// How long the thread may wait now, before it asks again.
    ///
    /// # Errors
    /// The connection that it serves has ended, for this reason, and [`GRACE`] is over.
    fn may_wait(&self) -> Result<Duration, EndReason> {
        let Some(reason) = self.serves.as_ref().and_then(|serves| serves.ended()) else {
            return Ok(MAX_PARK);
        };
        let grace = self.grace.get().unwrap_or_else(|| Deadline::after(GRACE));
        self.grace.set(Some(grace));
        grace.remaining(GRACE).ok_or(reason)
    }

    /// Blocks until the kernel takes bytes for `state` again, either connection is ended, or `wait`
    /// is over.
    fn wait_until_writable(&self, state: &ConnectionState, wait: Duration) {
        match &self.serves {
            Some(serves) if serves.ended().is_none() => {
                state.poll_writable_or_end_of(serves, wait);
            }
            _ => {
                state.poll_writable(wait);
            }
        }
    }
}

impl Drop for Caller {
    fn drop(&mut self) {
        if let Some(serves) = &self.serves {
            serves.enter(Activity::Working);
        }
    }
}
