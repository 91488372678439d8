//! The body of a listener's thread: poll, accept in bursts, back off, and what clients meet while the gate
//! is shut.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::handler;
use crate::server::config::{OnOverload, TICK};
use crate::server::deadline::Deadline;
use crate::server::error::ServerError;
use crate::server::ledger::{NotAcceptingReason, Reason, RejectReason, counted};
use crate::server::state::Shared;
use crate::server::state::accepting::NewClients;
use crate::server::state::admission::Slot;
use crate::server::state::connection_state::unread_bytes;
use crate::server::state::handler_thread::{Job, Serve};
use crate::server::state::listener::{Accepted, Listener};
use crate::server::state::waker::Waker;

/// Accepts in one go before the state is looked at again.
const BURST: usize = 256;
/// Clients that are taken out of the kernel's queue at most to empty it: those that were in it, as far as a
/// backlog can be set, but not for ever those that keep coming.
const MAX_QUEUED: usize = 1 << 16;
/// A refusal for want of descriptors or threads is tried again after this, doubling up to the second.
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

/// Clients that have begun to connect may take this long, mostly a round trip, before the port is shut down.
const MAX_HANDSHAKE: Duration = Duration::from_millis(200);

pub(crate) struct Acceptor {
    listener: Listener,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    handler: Arc<dyn Serve>,
    on_overload: OnOverload,
    /// Given up for a moment to accept and close a client where the system has no descriptor left.
    reserve: Option<File>,
    starved: Option<Starved>,
    /// So long a listener that is to be shut down waits for connects that have begun.
    half_open_until: Option<Deadline>,
    /// Why somebody is kept out now, and what clients meet, as it is published.
    holds: Option<NotAcceptingReason>,
    new_clients: NewClients,
}

/// The system had nothing to give; not to be asked again for a while.
#[derive(Clone, Copy, Debug)]
struct Starved {
    reason: RejectReason,
    backoff: Duration,
    until: Duration,
}

/// What ended a burst.
enum Burst {
    /// Nobody is there, or something has changed: look at the state again.
    Over,
    /// The accept rate holds the next client back this long.
    Wait(Duration),
}

/// What follows on one client.
enum Next {
    Go,
    /// The system has no thread to give.
    Starved,
    /// Too many are being turned away.
    Wait(Duration),
}

impl Acceptor {
    pub(crate) fn new(
        listener: Listener,
        waker: Arc<Waker>,
        shared: Arc<Shared>,
        handler: Arc<dyn Serve>,
    ) -> io::Result<Self> {
        let on_overload = match shared.config.on_overload {
            OnOverload::Refuse if !listener.can_refuse() => OnOverload::Close,
            on_overload => on_overload,
        };
        let new_clients = new_clients(on_overload);
        shared
            .accepting
            .hold(listener.name.index(), None, new_clients);
        let reserve = Some(open_reserve()?);
        Ok(Acceptor {
            listener,
            waker,
            shared,
            handler,
            on_overload,
            reserve,
            starved: None,
            half_open_until: None,
            holds: None,
            new_clients,
        })
    }

    pub(crate) fn run(mut self) {
        loop {
            if self.shared.lifecycle.is_stopping() {
                break;
            }
            if let Err(error) = self.turn() {
                let (address, source) = (self.listener.address, Arc::new(error));
                self.shared
                    .fail(ServerError::ListenerFailed { address, source });
                break;
            }
        }
        self.serve_queue();
        // They come to the queue, and are counted there.
        while self.somebody_comes() && self.wait(false, Some(FIRST_BACKOFF)).is_ok() {}
        // Closing a listener resets every client that it has not accepted, half-closed ones too.
        if !self.empty_queue(RejectReason::Shutdown) {
            self.reject_unseen(RejectReason::Shutdown);
        }
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.lifecycle.acceptor_ended();
    }

    /// Serves whoever was in the kernel's queue when the drain began, as permits and descriptors come back, until handlers
    /// have had their share of its time. Those that come later are not waited for where the queue's length is known, or a
    /// drain would last as long as clients come. The accept rate is for a server that goes on.
    fn serve_queue(&mut self) {
        self.ignore_connects();
        let mut queued = match self.shared.lifecycle.error() {
            None => self.listener.close_queue().unwrap_or(MAX_QUEUED),
            // What they send would be dropped.
            Some(_) => 0,
        };
        while queued > 0 {
            if self.shared.table.is_closed() {
                self.shared.lifecycle.record_missed_deadline();
                return;
            }
            match self.serve_queued() {
                Ok(served) => queued = queued.saturating_sub(served),
                Err(_) => return,
            }
        }
    }

    /// Takes one client out of the queue, or waits until that may be possible.
    fn serve_queued(&mut self) -> io::Result<usize> {
        let retry = self
            .starving()
            .map(|starved| starved.until.saturating_sub(self.shared.now()));
        let slot = match self.not_accepting() {
            None => self.shared.admission.try_acquire().ok(),
            Some(_) => None,
        };
        let Some(slot) = slot else {
            self.wait(false, retry)?;
            return Ok(0);
        };
        match self.listener.accept()? {
            Accepted::Client(stream, peer) => {
                self.admit(stream, peer, slot);
                Ok(1)
            }
            Accepted::Gone => Ok(1),
            Accepted::Nobody => Ok(usize::MAX),
            Accepted::Starved(error) => {
                // Better served with it now than turned away with it later.
                if self.reserve.take().is_none() {
                    self.starve(RejectReason::NoDescriptor, &error);
                }
                Ok(0)
            }
        }
    }

    /// One look at the admission, and what follows from it.
    fn turn(&mut self) -> io::Result<()> {
        if self.lacks_reserve() {
            self.reserve = open_reserve().ok();
        }
        let retry = self
            .starving()
            .map(|starved| starved.until.saturating_sub(self.shared.now()));
        match self.not_accepting() {
            None => self.admit_clients(),
            Some(reason) => self.hold_off(reason, retry),
        }
    }

    /// The gate is open.
    fn admit_clients(&mut self) -> io::Result<()> {
        if !self.listener.listen_again()? {
            let address = self.listener.address;
            self.shared.table.starved();
            self.shared
                .logger
                .log_limited("address in use", Level::Warn, || {
                    format!(
                        "cannot listen on {address} again: another socket has the port; trying on"
                    )
                });
            self.wait(false, Some(TICK))?;
            return Ok(());
        }
        if self.starved.is_none() {
            self.hold(None);
        } else if !self.wait(true, Some(Duration::ZERO))? {
            // Nobody is kept out any more.
            self.starved = None;
            return Ok(());
        }
        // Permits are taken only when somebody is there: two acceptors that took them to look would wake
        // each other for ever.
        if self.wait(true, None)?
            && let Burst::Wait(wait) = self.admit_burst()?
        {
            self.hold(Some(NotAcceptingReason::AcceptRate));
            self.wait(false, Some(wait))?;
        }
        Ok(())
    }

    fn admit_burst(&mut self) -> io::Result<Burst> {
        for _ in 0..BURST {
            let wait = self.shared.admission.accept_wait(self.shared.now());
            if !wait.is_zero() {
                return Ok(Burst::Wait(wait));
            }
            // The room comes first: who does not come in must stay in the kernel's queue.
            let Ok(slot) = self.shared.admission.try_acquire() else {
                break;
            };
            match self.listener.accept()? {
                Accepted::Client(stream, peer) => match self.admit(stream, peer, slot) {
                    Next::Go => {}
                    Next::Starved => break,
                    Next::Wait(wait) => return Ok(Burst::Wait(wait)),
                },
                Accepted::Nobody => break,
                Accepted::Gone => {}
                Accepted::Starved(error) => {
                    self.starve(RejectReason::NoDescriptor, &error);
                    break;
                }
            }
            // Asked for by poll, which costs little: accept(2) makes a descriptor before it finds that nobody is there.
            if self.shared.lifecycle.is_stopping() || !self.wait(true, Some(Duration::ZERO))? {
                break;
            }
        }
        Ok(Burst::Over)
    }

    /// Gives a client its thread, or turns it away.
    fn admit(&mut self, stream: TcpStream, peer: SocketAddr, slot: Slot) -> Next {
        let shared = &self.shared;
        let Some(address) = shared.admission.try_acquire_address(peer) else {
            self.reject(&stream, peer, RejectReason::PerAddress);
            return match shared.admission.reject_wait(shared.now()) {
                Duration::ZERO => Next::Go,
                wait => Next::Wait(wait),
            };
        };
        shared.admission.admitted(shared.now());
        let mut table = shared.table.lock();
        if table.is_closed() {
            table.reject(RejectReason::Shutdown, unread_bytes(&stream));
            // The permits go back without the lock: they wake acceptors.
            drop(table);
            return Next::Go;
        }
        let connection = table.next_connection(stream, peer, self.listener.name.clone());
        let job = Job {
            connection: Arc::clone(&connection),
            handler: Arc::clone(&self.handler),
        };
        match slot {
            Slot::Idle(thread) => {
                table.insert_connection(connection, thread.number(), address);
                drop(table);
                thread.serve(job);
            }
            Slot::New(permit) => {
                let thread = table.next_thread();
                let number = thread.number;
                match handler::spawn(shared, thread, job) {
                    Ok(handle) => {
                        table.insert_thread(number, handle, permit);
                        table.insert_connection(connection, number, address);
                    }
                    Err(error) => {
                        table.reject(RejectReason::NoThread, connection.unread_bytes());
                        drop(table);
                        self.starve(RejectReason::NoThread, &error);
                        return Next::Starved;
                    }
                }
            }
        }
        self.starved = None;
        Next::Go
    }

    /// The gate is shut.
    fn hold_off(&mut self, reason: RejectReason, retry: Option<Duration>) -> io::Result<()> {
        match self.on_overload {
            OnOverload::Backlog => {
                // Whoever waits is seen once and not asked for again: poll would tell of them at once, for ever.
                let holds = NotAcceptingReason::from(reason);
                if self.wait(self.holds != Some(holds), retry)? {
                    self.hold(Some(holds));
                }
            }
            OnOverload::Close => {
                if !self.wait(true, retry)? {
                    return Ok(());
                }
                // It may have opened meanwhile, and the client came because it did.
                if let Some(reason) = self.not_accepting() {
                    self.hold(Some(reason.into()));
                    self.reject_burst(reason)?;
                }
            }
            OnOverload::Refuse => {
                self.hold(Some(reason.into()));
                if !self.listener.is_shut_down {
                    // Those that are left would be reset, and nobody would know: they wait, as do new ones.
                    if !self.empty_queue(reason) {
                        self.listener.stop_ignoring_connects()?;
                        return self.wait(false, Some(FIRST_BACKOFF)).map(drop);
                    }
                    if self.somebody_comes() {
                        return self.wait(true, Some(FIRST_BACKOFF)).map(drop);
                    }
                    // Whoever came meanwhile. A stop serves them.
                    if self.shared.lifecycle.is_stopping() || !self.empty_queue(reason) {
                        return Ok(());
                    }
                    self.listener.shut_down()?;
                }
                // Its state changes at most once a tick.
                std::thread::park_timeout(TICK);
                self.wait(false, retry)?;
            }
        }
        Ok(())
    }

    /// Waits for the waker, for a client if `for_clients`, or for `timeout`. Says whether a client is there.
    /// A listener that is held or shut down is not polled: poll would say POLLHUP at once, for ever.
    fn wait(&self, for_clients: bool, timeout: Option<Duration>) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&*self.waker, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        let watched = if for_clients { 2 } else { 1 };
        // A reserve that is given up is got back as soon as there is a descriptor again.
        let timeout = timeout.or(self.lacks_reserve().then_some(MAX_BACKOFF));
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(&mut fds[..watched], timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let has_rung = !fds[0].revents().is_empty();
        let has_client = for_clients && !fds[1].revents().is_empty();
        // Whatever it rang for, the next look at the state sees.
        if has_rung {
            self.waker.clear();
        }
        Ok(has_client)
    }

    /// Publishes why somebody is kept out, for the watchdog, and what clients meet: without even the reserve nobody can be
    /// turned away, whatever the policy.
    fn hold(&mut self, reason: Option<NotAcceptingReason>) {
        let is_helpless = reason == Some(NotAcceptingReason::NoDescriptor)
            && self.lacks_reserve()
            && !self.listener.is_shut_down;
        let new_clients = match is_helpless {
            true => NewClients::Wait,
            false => new_clients(self.on_overload),
        };
        if (self.holds, self.new_clients) != (reason, new_clients) {
            (self.holds, self.new_clients) = (reason, new_clients);
            self.shared
                .accepting
                .hold(self.listener.name.index(), reason, new_clients);
        }
    }

    // ---- turning clients away

    fn reject(&self, stream: &TcpStream, peer: SocketAddr, reason: RejectReason) {
        let shared = &self.shared;
        shared.table.rejected(reason, 1, unread_bytes(stream));
        shared.logger.log_debug(|| {
            let at = self.listener.name.name();
            format!("{peer} is turned away at {at}: {reason}")
        });
        if !matches!(reason, RejectReason::PerAddress | RejectReason::Shutdown) {
            // The watchdog tells of the state, with its limit.
            return;
        }
        shared.logger.log_limited(reason.name(), Level::Warn, || {
            let limit = match reason {
                RejectReason::PerAddress => shared.config.max_connections_per_ip,
                _ => None,
            };
            let limit = limit
                .map(|limit| format!(", max_connections_per_ip ({limit}) reached"))
                .unwrap_or_default();
            format!("{peer} is turned away: {reason}{limit}")
        });
    }

    /// Accepts and closes clients while the gate is shut.
    fn reject_burst(&mut self, reason: RejectReason) -> io::Result<()> {
        for _ in 0..BURST {
            match self.listener.accept()? {
                Accepted::Client(stream, peer) => self.reject(&stream, peer, reason),
                Accepted::Nobody => break,
                Accepted::Gone => {}
                Accepted::Starved(_) => return self.reject_with_reserve(),
            }
        }
        Ok(())
    }

    /// The descriptor kept in reserve turns one client away; another thread may be quicker to take it, and
    /// then the client stays in the kernel's queue until the next try.
    fn reject_with_reserve(&mut self) -> io::Result<()> {
        drop(self.reserve.take());
        if let Accepted::Client(stream, peer) = self.listener.accept()? {
            self.reject(&stream, peer, RejectReason::NoDescriptor);
        }
        self.reserve = open_reserve().ok();
        self.wait(false, Some(FIRST_BACKOFF)).map(drop)
    }

    /// No connect begins any more. Where the kernel takes no filter, who comes between the last accept and the end of the
    /// listener is reset, uncounted.
    fn ignore_connects(&mut self) {
        if self.listener.ignore_connects().unwrap_or(false) {
            self.half_open_until = Some(Deadline::after(MAX_HANDSHAKE));
        }
    }

    /// As [`ignore_connects`](Acceptor::ignore_connects); whether a connect has begun that the listener waits for before it
    /// is shut down or closed.
    fn somebody_comes(&mut self) -> bool {
        self.ignore_connects();
        let until = self.half_open_until;
        until.is_some_and(|until| self.listener.has_half_open(until))
    }

    /// Accepts whoever is in the kernel's queue, and turns them away. Ends however fast new ones come. Without a
    /// descriptor the one in reserve serves for all of them, one after the other; `false`: another thread was
    /// quicker to take it, and somebody is left.
    fn empty_queue(&mut self, reason: RejectReason) -> bool {
        for _ in 0..MAX_QUEUED {
            match self.listener.accept() {
                Ok(Accepted::Client(stream, peer)) => self.reject(&stream, peer, reason),
                Ok(Accepted::Gone) => {}
                Ok(Accepted::Nobody) | Err(_) => return true,
                Ok(Accepted::Starved(_)) => match self.reserve.take() {
                    Some(reserve) => drop(reserve),
                    // accept(2) asks for a descriptor before it looks for a client.
                    None => return !self.listener.has_client(),
                },
            }
        }
        true
    }

    /// Books whoever is left in the kernel's queue: there is no descriptor to accept them with.
    fn reject_unseen(&self, reason: RejectReason) {
        let shared = &self.shared;
        let queued = self.listener.queued();
        if queued.clients == 0 {
            return;
        }
        let clients = queued.clients as u64;
        shared.table.rejected(reason, clients, queued.unread_bytes);
        let (at, clients) = (self.listener.address, counted(clients, "client"));
        let text = format!(
            "{clients} turned away in the queue of {at}: {reason}, and no descriptor was left to accept with"
        );
        shared.logger.log(Level::Warn, text);
    }

    fn lacks_reserve(&self) -> bool {
        self.reserve.is_none()
    }

    // ---- when the system has nothing to give

    fn starve(&mut self, reason: RejectReason, error: &io::Error) {
        let backoff = match self.starved {
            Some(starved) => (starved.backoff * 2).min(MAX_BACKOFF),
            None => FIRST_BACKOFF,
        };
        self.shared.table.starved();
        self.hold(Some(reason.into()));
        self.starved = Some(Starved {
            reason,
            backoff,
            until: self.shared.now() + backoff,
        });
        // The watchdog tells of it.
        self.shared.accepting.set_error(error.to_string());
    }

    /// Why nobody may come in now, if so.
    fn not_accepting(&self) -> Option<RejectReason> {
        self.starving()
            .map(|starved| starved.reason)
            .or_else(|| self.shared.admission.not_accepting())
    }

    fn starving(&self) -> Option<Starved> {
        self.starved
            .filter(|starved| self.shared.now() < starved.until)
    }
}

fn new_clients(on_overload: OnOverload) -> NewClients {
    match on_overload {
        OnOverload::Backlog => NewClients::Wait,
        OnOverload::Close => NewClients::Closed,
        OnOverload::Refuse => NewClients::Refused,
    }
}

fn open_reserve() -> io::Result<File> {
    File::open("/dev/null")
}
