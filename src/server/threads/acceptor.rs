//! The body of a listener's thread: polls, accepts in bursts, backs off, and keeps clients waiting,
//! closes or refuses them while the server is not accepting.

mod rejecting;

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use log::Level;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::Socket;

use super::handler;
use crate::server::config::{OnOverload, TICK};
use crate::server::deadline::Deadline;
use crate::server::error::{ServerError, drop_caught};
use crate::server::ledger::{NotAcceptingReason, RejectReason};
use crate::server::peer::Peer;
use crate::server::state::Shared;
use crate::server::state::accepting::{Hold, NewClients};
use crate::server::state::admission::{KeptOut, NotNow, Slot, SlotThread};
use crate::server::state::handler_thread::Serve;
use crate::server::state::listener::{Accepted, BoundListener};
use crate::server::state::table::starting::{Client, MAX_STARTING};
use crate::server::state::waker::Waker;

/// The most clients that are accepted before the state is checked again.
const BURST: usize = 256;
/// The most clients that are accepted to empty the kernel's queue: as many as the longest backlog
/// holds, so that emptying ends while new clients keep coming.
const MAX_QUEUED: usize = 1 << 16;
/// The time until the next try when the system lacks descriptors or threads, doubled after each
/// try up to [`MAX_BACKOFF`].
const FIRST_BACKOFF: Duration = Duration::from_millis(5);
const MAX_BACKOFF: Duration = Duration::from_secs(1);

pub(crate) struct Acceptor {
    listener: BoundListener,
    waker: Arc<Waker>,
    shared: Arc<Shared>,
    handler: Arc<dyn Serve>,
    on_overload: OnOverload,
    /// A descriptor kept to accept and reject a client when the system has none left.
    reserve: Option<File>,
    starved: Option<Starved>,
    /// Until when a listener that is to be shut down waits for connects that have begun.
    half_open_until: Option<Deadline>,
    /// Why clients are kept out now and what happens to them, as last published.
    holds: Option<Hold>,
    new_clients: NewClients,
}

/// The system had no descriptor or no thread, and is not asked again before `until`.
#[derive(Clone, Copy, Debug)]
struct Starved {
    reason: RejectReason,
    backoff: Duration,
    until: Duration,
    /// [`Table::thread_changes`](crate::server::state::table::Table::thread_changes) at that time.
    thread_changes: u64,
}

/// What ended a burst.
enum Burst {
    /// No client is waiting, or something has changed: the state has to be checked again.
    Over,
    /// The accept rate holds the next client back this long.
    Wait(Duration),
}

/// What follows on one accepted client.
enum Next {
    Go,
    /// Too many clients are being rejected to accept the next one at once.
    Wait(Duration),
}

impl Next {
    fn after(wait: Duration) -> Self {
        match wait {
            Duration::ZERO => Next::Go,
            wait => Next::Wait(wait),
        }
    }
}

impl Acceptor {
    pub(crate) fn new(
        listener: BoundListener,
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
                let (address, source) = (self.listener.address.clone(), Arc::new(error));
                self.shared
                    .fail(ServerError::ListenerFailed { address, source });
                break;
            }
        }
        self.serve_queue();
        self.wait_for_threads();
        // Connects that have begun reach the queue, where they are counted.
        while self.has_half_open() && self.wait_for_change(Some(FIRST_BACKOFF)).is_ok() {}
        // Closing a listener resets every client that was not accepted, half-closed ones, too;
        // unless the next server has the same socket, and its queue.
        if !self.listener.is_shared && !self.empty_queue(RejectReason::Shutdown) {
            self.reject_unseen(RejectReason::Shutdown);
        }
        self.listener.end_listening();
        let shared = Arc::clone(&self.shared);
        // With the last acceptor goes the embedder's handler, and what that captured may panic.
        drop_caught(self);
        shared.lifecycle.acceptor_ended();
    }

    /// Serves the clients that were in the kernel's queue when the drain began, as permits and
    /// descriptors become free, until the handlers' share of the drain is over. Clients that came
    /// later are not served if the queue's length was known, or a drain would last as long as
    /// clients come. The accept rate does not apply to a drain.
    fn serve_queue(&mut self) {
        self.ignore_connects();
        let mut queued = match self.shared.lifecycle.error() {
            None => self.listener.close_queue().unwrap_or(MAX_QUEUED),
            // After an error, what these clients send would be dropped.
            Some(_) => 0,
        };
        while queued > 0 {
            if self.shared.table.is_closed() {
                if !self.listener.is_shared {
                    self.shared.lifecycle.record_missed_deadline();
                }
                return;
            }
            self.try_threads_again();
            match self.serve_queued() {
                Ok(served) => queued = queued.saturating_sub(served),
                Err(_) => return,
            }
        }
    }

    /// Threads make one another, but where the system refuses one, an acceptor has to try again.
    fn wait_for_threads(&mut self) {
        while self.shared.table.has_starting() && !self.shared.table.is_closed() {
            self.try_threads_again();
            if self.wait_for_change(Some(FIRST_BACKOFF)).is_err() {
                return;
            }
        }
    }

    /// Accepts and serves one client of the queue, or waits until that may be possible. Returns the
    /// number of clients that are no longer in the queue.
    fn serve_queued(&mut self) -> io::Result<usize> {
        let retry = self
            .starving()
            .map(|starved| starved.until.saturating_sub(self.shared.now()));
        let slot = match self.not_accepting() {
            None => self.shared.admission.try_acquire(self.index()).ok(),
            Some(_) => None,
        };
        let Some(slot) = slot else {
            self.wait_for_change(retry)?;
            return Ok(0);
        };
        match self.listener.accept()? {
            Accepted::Client(socket, peer) => {
                self.starved = None;
                self.admit(socket, peer, slot);
                handler::make_next(&self.shared);
                Ok(1)
            }
            Accepted::Gone => Ok(1),
            Accepted::Nobody => Ok(usize::MAX),
            Accepted::Starved(error) => {
                // The reserve serves a client now, instead of rejecting one later.
                if self.reserve.take().is_none() {
                    self.lack_descriptor(&error);
                }
                Ok(0)
            }
        }
    }

    /// Asks once whether the server is accepting, and acts on that.
    fn turn(&mut self) -> io::Result<()> {
        if self.lacks_reserve() {
            self.reserve = open_reserve().ok();
        }
        self.try_threads_again();
        let retry = self
            .starving()
            .map(|starved| starved.until.saturating_sub(self.shared.now()));
        match self.not_accepting() {
            None => self.admit_clients(),
            Some(kept_out) => self.hold_off(kept_out, retry),
        }
    }

    /// Waits for clients and admits them, because the server is accepting.
    fn admit_clients(&mut self) -> io::Result<()> {
        if !self.listener.listen_again()? {
            self.shared.table.accept_failed();
            let address = &self.listener.address;
            self.shared
                .logger
                .log_limited("address in use", Level::Warn, || {
                    format!(
                        "cannot listen on {address} again: another socket has the port; retrying"
                    )
                });
            self.wait_for_change(Some(TICK))?;
            return Ok(());
        }
        if self.starved.is_none() {
            self.hold(None);
        } else if !self.wait_for_client(Some(Duration::ZERO))? {
            // No client is there that was kept out.
            self.starved = None;
            return Ok(());
        }
        // Permits are only taken once a client is there: two acceptors that took and returned
        // permits without one would wake each other for ever.
        if self.wait_for_client(None)? {
            let burst = self.admit_burst()?;
            handler::make_next(&self.shared);
            if let Burst::Wait(wait) = burst {
                self.hold(Some(Hold {
                    reason: NotAcceptingReason::AcceptRate,
                    is_own: false,
                }));
                self.wait_for_change(Some(wait))?;
            }
        }
        Ok(())
    }

    fn admit_burst(&mut self) -> io::Result<Burst> {
        // Where the system had nothing to give a moment ago, one client shows whether it has now.
        let most = if self.starved.is_some() { 1 } else { BURST };
        for _ in 0..most {
            // The slot comes first: a client for which there is none must stay in the kernel's
            // queue.
            let now = self.shared.now();
            if self.shared.table.lacks_thread() {
                break;
            }
            let slot = match self.shared.admission.try_acquire_at_rate(self.index(), now) {
                Ok(slot) => slot,
                Err(NotNow::NotAccepting) => break,
                Err(NotNow::Wait(wait)) => return Ok(Burst::Wait(wait)),
            };
            match self.listener.accept()? {
                Accepted::Client(socket, peer) => match self.admit(socket, peer, slot) {
                    Next::Go => self.starved = None,
                    Next::Wait(wait) => return Ok(Burst::Wait(wait)),
                },
                Accepted::Nobody => break,
                Accepted::Gone => {}
                Accepted::Starved(error) => {
                    self.lack_descriptor(&error);
                    break;
                }
            }
            // poll(2) is cheaper than an accept(2) that finds no client, which makes a descriptor
            // first.
            if self.shared.lifecycle.is_stopping() || !self.wait_for_client(Some(Duration::ZERO))? {
                break;
            }
        }
        Ok(Burst::Over)
    }

    /// Enters a client into the table, for an idle thread or one that is to be made, or rejects the
    /// client.
    fn admit(&mut self, socket: Socket, peer: Peer, slot: Slot) -> Next {
        let shared = &self.shared;
        let now = shared.now();
        let listener = &shared.listeners[self.listener.name.index()];
        let peers = &listener.peers;
        if peers.keeps_out(peer).is_some() {
            self.reject(&socket, peer, RejectReason::NotAllowed);
            return Next::after(shared.admission.reject_wait(now));
        }
        // A balancer is not its clients: nobody knows yet whose share is to be taken.
        let sharer = (!peers.expects_proxy()).then_some(peer);
        let address = match shared.admission.admit(sharer, now) {
            Ok(address) => address,
            Err(wait) => {
                self.reject(&socket, peer, RejectReason::PerAddress);
                return Next::after(wait);
            }
        };
        let client = Client {
            socket,
            peer,
            listener: self.listener.name.clone(),
            address,
            listener_permit: slot.listener,
            handler: Arc::clone(&self.handler),
            has_opening: listener.has_opening,
            is_one_way: listener.is_one_way,
        };
        match slot.thread {
            SlotThread::New(permit) => {
                let since = shared.quota.running_time();
                shared.table.enter_starting(client, permit, since);
            }
            SlotThread::Idle(thread) => {
                if let Some(job) = shared.table.enter(client, thread.number()) {
                    thread.serve(job);
                }
            }
        }
        Next::Go
    }

    /// Does with clients what `on_overload` says, because the server is not accepting.
    fn hold_off(&mut self, kept_out: KeptOut, retry: Option<Duration>) -> io::Result<()> {
        match self.on_overload {
            OnOverload::Backlog => {
                // Polls the listener until a client was seen once. After that, poll(2) would return
                // for that client at once, for ever.
                let holds = Hold::from(kept_out);
                if self.holds == Some(holds) {
                    self.wait_for_change(retry)?;
                } else if self.wait_for_client(retry)? {
                    self.hold(Some(holds));
                }
            }
            OnOverload::Close => {
                if !self.wait_for_client(retry)? {
                    return Ok(());
                }
                // The server may be accepting again, and the client may have come because of that.
                if let Some(kept_out) = self.not_accepting() {
                    self.hold(Some(kept_out.into()));
                    self.reject_burst(kept_out.reason)?;
                }
            }
            OnOverload::Refuse => {
                let reason = kept_out.reason;
                self.hold(Some(kept_out.into()));
                if !self.listener.is_shut_down {
                    // Clients that are left would be reset uncounted, so they wait, as do new ones.
                    if !self.empty_queue(reason) {
                        self.listener.stop_ignoring_connects()?;
                        return self.wait_for_change(Some(FIRST_BACKOFF));
                    }
                    if self.has_half_open() {
                        return self.wait_for_client(Some(FIRST_BACKOFF)).map(drop);
                    }
                    // Rejects clients that came meanwhile. A drain serves them instead.
                    if self.shared.lifecycle.is_stopping() || !self.empty_queue(reason) {
                        return Ok(());
                    }
                    self.listener.shut_down()?;
                }
                // So the port opens and closes at most once a tick.
                std::thread::park_timeout(TICK);
                self.wait_for_change(retry)?;
            }
        }
        Ok(())
    }

    /// Blocks until a client is there, the waker is woken or `timeout` is over. Returns whether a
    /// client is there. A listener that was shut down must not be polled: poll(2) would return
    /// POLLHUP at once, for ever.
    fn wait_for_client(&self, timeout: Option<Duration>) -> io::Result<bool> {
        let mut fds = [
            PollFd::new(&*self.waker, PollFlags::IN),
            PollFd::new(&self.listener, PollFlags::IN),
        ];
        self.poll(&mut fds, timeout)?;
        Ok(!fds[1].revents().is_empty())
    }

    /// As [`wait_for_client`](Acceptor::wait_for_client), whether clients are there or not: blocks
    /// until the waker is woken or `timeout` is over.
    fn wait_for_change(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.poll(&mut [PollFd::new(&*self.waker, PollFlags::IN)], timeout)
    }

    /// The first of `fds` is the waker, which is cleared: the caller checks the whole state next,
    /// so the cause of the wake-up does not matter.
    fn poll(&self, fds: &mut [PollFd<'_>], timeout: Option<Duration>) -> io::Result<()> {
        // Without the reserve, wakes up to open it as soon as there is a descriptor.
        let timeout = timeout.or(self.lacks_reserve().then_some(MAX_BACKOFF));
        let timeout = timeout.and_then(|wait| Timespec::try_from(wait).ok());
        match poll(fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        if !fds[0].revents().is_empty() {
            self.waker.clear();
        }
        Ok(())
    }

    /// Publishes for the watchdog why clients are kept out, and what happens to them. Without the
    /// reserve no client can be accepted to be closed, so clients wait under every `on_overload`.
    fn hold(&mut self, hold: Option<Hold>) {
        let lacks_descriptor =
            hold.is_some_and(|hold| hold.reason == NotAcceptingReason::NoDescriptor);
        let is_helpless = lacks_descriptor && self.lacks_reserve() && !self.listener.is_shut_down;
        let new_clients = match is_helpless {
            true => NewClients::Wait,
            false => new_clients(self.on_overload),
        };
        if (self.holds, self.new_clients) != (hold, new_clients) {
            (self.holds, self.new_clients) = (hold, new_clients);
            self.shared.accepting.hold(self.index(), hold, new_clients);
        }
    }

    fn lacks_reserve(&self) -> bool {
        self.reserve.is_none()
    }

    // ---- when the system has nothing to give

    /// Where the system has refused a thread, tries again when that is due, and rejects the clients
    /// that have waited too long for theirs.
    fn try_threads_again(&mut self) {
        let shared = Arc::clone(&self.shared);
        if !shared.table.lacks_thread() || self.starving().is_some() {
            return;
        }
        handler::serve_by_idle(&shared);
        handler::make_next(&shared);
        self.reject_late(MAX_STARTING);
        self.starve(RejectReason::NoThread);
        shared.table.forget_refusal();
    }

    fn lack_descriptor(&mut self, error: &io::Error) {
        self.shared.table.accept_failed();
        // The watchdog logs the error.
        self.shared.accepting.set_error(error.to_string());
        self.starve(RejectReason::NoDescriptor);
    }

    fn starve(&mut self, reason: RejectReason) {
        let thread_changes = self.shared.table.thread_changes();
        let again = self
            .starved
            .filter(|starved| starved.thread_changes == thread_changes);
        let backoff = again.map_or(FIRST_BACKOFF, |starved| {
            (starved.backoff * 2).min(MAX_BACKOFF)
        });
        self.hold(Some(KeptOut::from(reason).into()));
        self.starved = Some(Starved {
            reason,
            backoff,
            until: self.shared.now() + backoff,
            thread_changes,
        });
    }

    /// Why the server is not accepting now, if so.
    fn not_accepting(&self) -> Option<KeptOut> {
        let lacks_thread = || self.shared.table.lacks_thread();
        self.starving()
            .map(|starved| starved.reason)
            .or_else(|| lacks_thread().then_some(RejectReason::NoThread))
            .map(KeptOut::from)
            .or_else(|| self.shared.admission.not_accepting(self.index()))
    }

    /// The listener's index.
    fn index(&self) -> usize {
        self.listener.name.index()
    }

    fn starving(&self) -> Option<Starved> {
        let table = &self.shared.table;
        self.starved
            .filter(|starved| match starved.reason {
                // A thread that has begun or was joined since then is worth a try at once.
                RejectReason::NoThread => {
                    table.lacks_thread() && starved.thread_changes == table.thread_changes()
                }
                _ => true,
            })
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
