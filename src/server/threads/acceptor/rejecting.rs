//! How an acceptor rejects clients: counted, logged, and closed, also where the system has no
//! descriptor left to accept them with.

use std::io;
use std::time::Duration;

use log::Level;
use socket2::Socket;

use super::{Acceptor, BURST, FIRST_BACKOFF, MAX_QUEUED, open_reserve};
use crate::server::deadline::Deadline;
use crate::server::error::drop_caught;
use crate::server::ledger::{Reason, RejectReason, counted};
use crate::server::peer::Peer;
use crate::server::state::connection_state::unread_bytes;
use crate::server::state::listener::Accepted;

/// How long a listener that is to be shut down waits for connects that have begun: mostly a round
/// trip is enough.
const MAX_HANDSHAKE: Duration = Duration::from_millis(200);

impl Acceptor {
    pub(super) fn reject(&self, socket: &Socket, peer: Peer, reason: RejectReason) {
        let shared = &self.shared;
        shared
            .table
            .rejected(self.index(), reason, 1, unread_bytes(socket));
        shared.logger.log_debug(|| {
            let at = self.listener.name.name();
            format!("rejected {peer} at {at}: {reason}")
        });
        if !matches!(
            reason,
            RejectReason::PerAddress | RejectReason::NotAllowed | RejectReason::Shutdown
        ) {
            // The watchdog logs that the server is not accepting, and the limit.
            return;
        }
        shared.logger.log_limited(reason.name(), Level::Warn, || {
            let max_per_ip = shared.config.max_connections_per_ip;
            let why = match reason {
                RejectReason::PerAddress => {
                    max_per_ip.map(|limit| format!(", max_connections_per_ip ({limit}) reached"))
                }
                RejectReason::NotAllowed => {
                    let listener = &shared.listeners[self.listener.name.index()];
                    let list = listener.peers.keeps_out(peer);
                    list.map(|list| format!(", not in {list}"))
                }
                _ => None,
            };
            let (at, why) = (self.listener.name.at(), why.unwrap_or_default());
            format!("rejected {peer}{at}: {reason}{why}")
        });
    }

    /// Rejects the clients that have waited this long for a thread.
    pub(super) fn reject_late(&self, most: Duration) {
        let shared = &self.shared;
        let Some(then) = shared.quota.running_time().checked_sub(most) else {
            return;
        };
        for late in shared.table.reject_starting_since(then) {
            let (peer, reason) = (late.peer, RejectReason::NoThread);
            let text = || format!("rejected {peer}, which waited {most:?} for a thread: {reason}");
            shared.logger.log_debug(text);
            drop_caught(late);
        }
    }

    /// Accepts and closes clients while the server is not accepting.
    pub(super) fn reject_burst(&mut self, reason: RejectReason) -> io::Result<()> {
        for _ in 0..BURST {
            match self.listener.accept()? {
                Accepted::Client(socket, peer) => self.reject(&socket, peer, reason),
                Accepted::Nobody => break,
                Accepted::Gone => {}
                Accepted::Starved(_) => return self.reject_with_reserve(),
            }
        }
        Ok(())
    }

    /// Rejects one client with the descriptor kept in reserve. If another thread is quicker to take
    /// the descriptor, the client stays in the kernel's queue until the next try.
    pub(super) fn reject_with_reserve(&mut self) -> io::Result<()> {
        drop(self.reserve.take());
        if let Accepted::Client(socket, peer) = self.listener.accept()? {
            self.reject(&socket, peer, RejectReason::NoDescriptor);
        }
        self.reserve = open_reserve().ok();
        self.wait_for_change(Some(FIRST_BACKOFF))
    }

    /// From now on no connect begins. Where the kernel takes no filter, clients that come between
    /// the last accept and the close of the listener are reset, uncounted.
    pub(super) fn ignore_connects(&mut self) {
        if self.listener.ignore_connects().unwrap_or(false) {
            self.half_open_until = Some(Deadline::after(MAX_HANDSHAKE));
        }
    }

    /// Ignores new connects, and returns whether the listener has to wait for a connect that has
    /// begun before it is shut down or closed.
    pub(super) fn has_half_open(&mut self) -> bool {
        self.ignore_connects();
        let until = self.half_open_until;
        until.is_some_and(|until| self.listener.has_half_open(until))
    }

    /// Accepts and rejects every client in the kernel's queue. Ends however fast new ones come.
    /// When the system has no descriptor left, the one in reserve serves for one client after the
    /// other. `false` if another thread was quicker to take that, and clients are left.
    pub(super) fn empty_queue(&mut self, reason: RejectReason) -> bool {
        for _ in 0..MAX_QUEUED {
            match self.listener.accept() {
                Ok(Accepted::Client(socket, peer)) => self.reject(&socket, peer, reason),
                Ok(Accepted::Gone) => {}
                Ok(Accepted::Nobody) | Err(_) => return true,
                Ok(Accepted::Starved(_)) => match self.reserve.take() {
                    Some(reserve) => drop(reserve),
                    // accept(2) needs a descriptor even to find that no client is there.
                    None => return !self.listener.has_client(),
                },
            }
        }
        true
    }

    /// Counts the clients that are left in the kernel's queue for want of a descriptor as rejected,
    /// with what they have sent, as far as the time of the drain allows.
    pub(super) fn reject_unseen(&self, reason: RejectReason) {
        let shared = &self.shared;
        let queued = self.listener.queued(shared.lifecycle.last_deadline());
        if queued.clients == 0 {
            return;
        }
        let clients = queued.clients as u64;
        shared
            .table
            .rejected(self.index(), reason, clients, queued.unread_bytes);
        let (at, clients) = (&self.listener.address, counted(clients, "client"));
        let text = format!(
            "rejected {clients} in the queue of {at}: {reason}; no descriptor was left to accept them with"
        );
        shared.logger.log(Level::Warn, text);
    }
}
