//! What comes before the handler: the head that a balancer sends, and whether the client that it
//! names may come in; then the handshake of a session.

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::Connection;
use crate::policy::Activity;
use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::error::{BoxError, Ended};
use crate::server::ledger::EndReason;
use crate::server::peer::Peer;
use crate::server::peers::PeerLists;
use crate::server::proxy_head::{Head, MAX_LEN};
use crate::server::state::listener_state::ListenerState;

/// How many bytes are looked at in one go: as many as the smallest TCP segment holds that everybody
/// must take, into which a head is expected to fit.
const AHEAD: usize = 536;

/// How soon who is opening a connection, and lets the server wait, notices a drain.
const NOTICE: Duration = Duration::from_millis(250);

/// How many bytes of what is no head are shown.
const SHOWN: usize = 32;

/// The most bytes of heap that the reading of a head takes: a buffer that grows is copied, and is
/// there twice for a moment.
pub(in crate::server) const MAX_HEAD_BYTES: u64 = 2 * MAX_LEN as u64;

/// Why a connection is not given to its handler.
#[derive(Debug)]
struct NotOpened {
    reason: Ended,
    cause: String,
}

impl fmt::Display for NotOpened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl Error for NotOpened {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.reason)
    }
}

pub(super) fn not_opened(reason: EndReason, cause: impl Into<String>) -> BoxError {
    let (reason, cause) = (Ended(reason), cause.into());
    Box::new(NotOpened { reason, cause })
}

impl Connection {
    /// Takes what comes before the peer's own bytes, if anything does. Must be called on the
    /// connection's thread, before its handler. Blocks until all of that has come, at most
    /// `handshake_timeout`; an abort and a peer that is gone end the wait, and a drain as soon as
    /// [`opening_deadline`](crate::server::state::lifecycle::Lifecycle::opening_deadline) says.
    ///
    /// # Errors
    /// The connection is over, or is not to be served: [`Ended`] is the error or its source.
    pub(in crate::server) fn open(&self) -> Result<(), BoxError> {
        let listener = self.shared.listener_of(&self.state);
        if !listener.has_opening {
            return Ok(());
        }
        // One activity, however often bytes come: the deadline limits its time.
        self.state.enter(Activity::Handshaking);
        let opened = self.open_with(listener);
        if opened.is_ok() {
            self.end_opening();
        }
        self.state.enter(Activity::Working);
        opened
    }

    /// Inlined, its frame would lie below that of every handler, and pin a page of each stack.
    #[inline(never)]
    fn open_with(&self, listener: &ListenerState) -> Result<(), BoxError> {
        if listener.peers.expects_proxy() {
            let client = self.read_proxy_head()?;
            self.admit(client)?;
        }
        let tls = listener.tls.as_ref();
        tls.map_or(Ok(()), |tls| self.shake_hands(tls))
    }

    /// Waits until there is something to read. A drain does not end that at once: whoever had
    /// connected before it, and cannot have sent bytes of its own yet, would not be served.
    ///
    /// # Errors
    /// The connection is over.
    pub(super) fn wait_in_opening(&self) -> Result<(), EndReason> {
        self.wait_in_opening_for(|wait| self.state.poll_readable(wait))?;
        self.is_silent.set(false);
        Ok(())
    }

    /// As [`wait_in_opening`](Connection::wait_in_opening), for what `poll` looks for.
    pub(super) fn wait_in_opening_for(
        &self,
        poll: impl Fn(Duration) -> bool,
    ) -> Result<(), EndReason> {
        loop {
            if let Some(reason) = self.end() {
                return Err(reason);
            }
            let until = self.state.is_drain_due().then(|| self.opening_until());
            let wait = until.map_or(Some(NOTICE), |until| until.remaining(NOTICE));
            // What has come already is taken, however late it is.
            if poll(wait.unwrap_or_default()) {
                return Ok(());
            }
            if wait.is_none() {
                self.end.set(Some(EndReason::Shutdown));
            }
        }
    }

    /// Until when the drain waits for this connection to be opened, once it has sent something:
    /// however often bytes come, that is one deadline.
    fn opening_until(&self) -> Deadline {
        let is_silent = self.is_silent.get();
        let until = match self.opening_until.get() {
            Some(until) if !is_silent => return until,
            _ => self.shared.lifecycle.opening_deadline(is_silent),
        };
        if !is_silent {
            self.opening_until.set(Some(until));
        }
        until
    }

    /// The peer's own bytes are next. A drain that has begun takes what has come a moment later:
    /// with TLS 1.2 the first of them come a round trip after the handshake.
    fn end_opening(&self) {
        // Behind a window that is full nothing comes before it is read.
        let has_come = match self.state.session() {
            Some(_) => self.state.has_backlog(),
            None => self.state.unread_bytes() > 0,
        };
        if self.state.is_drain_due() && !has_come {
            let until = self.shared.lifecycle.opening_deadline(false);
            let wait = until.remaining(MAX_PARK).unwrap_or_default();
            self.state.poll_peer_gone_within(wait);
        }
        if self.state.end_opening() {
            self.state.drain_late();
            // Now, and not when the handler first reads.
            self.may_read(0);
        }
    }

    fn peers(&self) -> &PeerLists {
        &self.shared.listener_of(&self.state).peers
    }

    /// Reads the head and no byte behind it, so that for the kernel, too, all that is left is the
    /// client's: what a drain lets through, and what nobody reads. Returns the client, if the head
    /// names one.
    fn read_proxy_head(&self) -> Result<Option<SocketAddr>, BoxError> {
        // Not on the stack, of which a deep frame would pin a page for as long as the thread lives.
        let mut head = Vec::new();
        loop {
            let taken = head.len();
            head.resize(taken + AHEAD.min(MAX_LEN - taken), 0);
            let seen = self.peek(&mut head[taken..])?;
            head.truncate(taken + seen);
            if seen == 0 {
                return Err(match head.is_empty() {
                    true => Box::new(Ended(EndReason::Eof)),
                    false => not_opened(
                        EndReason::ProtocolError,
                        "the stream ended within the PROXY protocol header",
                    ),
                });
            }
            let (len, client) = match Head::parse(&head) {
                // All that was seen belongs to the head.
                Head::Incomplete => {
                    self.take(&mut head[taken..])?;
                    continue;
                }
                Head::Invalid(cause) => {
                    let begins = head[..head.len().min(SHOWN)].escape_ascii();
                    let cause = format!("{cause}; it begins \"{begins}\"");
                    return Err(not_opened(EndReason::ProtocolError, cause));
                }
                Head::Local { len } => (len, None),
                Head::Peer { len, source, .. } => (len, Some(source)),
            };
            self.take(&mut head[taken..len])?;
            return Ok(client);
        }
    }

    /// Blocks until bytes have come, and copies the first of them, which stay in the kernel.
    /// Returns 0 at the peer's end of stream.
    fn peek(&self, buf: &mut [u8]) -> Result<usize, BoxError> {
        loop {
            self.wait_in_opening().map_err(Ended)?;
            let most = self.may_read(buf.len());
            if most == 0 {
                return Err(Box::new(Ended(EndReason::Shutdown)));
            }
            let got = recv(&self.state.socket, &mut buf[..most], RecvFlags::PEEK);
            if got == Err(Errno::INTR) {
                continue;
            }
            if let Some(seen) = self.outcome(got.map(|(_, seen)| seen))? {
                return Ok(seen);
            }
        }
    }

    /// Takes what was seen from the kernel, into the same place.
    fn take(&self, seen: &mut [u8]) -> Result<(), BoxError> {
        let mut taken = 0;
        while taken < seen.len() {
            match recv(&self.state.socket, &mut seen[taken..], RecvFlags::empty()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(Box::new(std::io::Error::from(error))),
                // The bytes were there, and nobody else reads.
                Ok((_, 0)) => break,
                Ok((_, more)) => taken += more,
            }
        }
        self.use_allowance(seen.len());
        Ok(())
    }

    /// Lets the client in that a balancer has named, or the balancer itself where it has named
    /// none.
    fn admit(&self, client: Option<SocketAddr>) -> Result<(), BoxError> {
        // HAProxy names itself in its health checks by version 1, which has no head without a
        // client.
        let client = client.map(|client| Peer::from(client).canonical());
        let client = client.filter(|&client| client != self.peer());
        if let Some(client) = client {
            self.state.set_client(client);
            self.shared
                .logger
                .log_debug(|| format!("{}: the balancer has named the client", self.label()));
        }
        let peer = self.peer();
        if !self.peers().allows(peer) {
            // A health check says nothing, and is none the worse for a list of clients.
            let is_probe = client.is_none() && self.state.unread_bytes() == 0;
            return Err(match is_probe {
                true => Box::new(Ended(EndReason::NoData)),
                false => not_opened(EndReason::NotAllowed, "not in allow"),
            });
        }
        let Some(share) = self.shared.admission.share_of(peer) else {
            let limit = self.shared.config.max_connections_per_ip;
            let limit = limit.unwrap_or_default();
            let cause = format!("max_connections_per_ip ({limit}) reached");
            return Err(not_opened(EndReason::PerAddress, cause));
        };
        self.shared.table.keep_share(self.state.id, share);
        Ok(())
    }
}
