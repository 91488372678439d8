//! Whether a client may come in: permits in total, per listener and per address, the pause, and the
//! accept rate.
//!
//! A permit belongs to a thread, from before its client is accepted until the thread is **joined**.
//! So permits out >= threads alive, always: that is why this server cannot leak threads. An idle
//! thread, which waits for another client, keeps its permit and is a free slot. The permit of an
//! address belongs to a connection, and comes back when that has ended; that of a listener comes
//! back when the thread is a free slot again, or was joined.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::MutexGuard;

use super::crowd_lock::CrowdLock;
use super::exits::Exits;
use super::handler_thread::{Command, HandlerThread, Job};
use super::listener_state::ListenerState;
use super::waker::Waker;
use crate::policy::{IdleLimit, TokenBucket};
use crate::server::config::Config;
use crate::server::ledger::RejectReason;
use crate::server::peer::Peer;
use crate::server::peers;

/// Costs about a tenth of a processor. A kernel queue that one address has filled (4,096 clients by
/// default) is empty in less than half a second, so other clients wait no longer behind it.
const MAX_REJECTS_PER_SECOND: f64 = 10_000.0;

/// The connections of one listener, where their number is limited.
#[derive(Default)]
struct AtListener {
    /// Its permits that are out. Not counted without a limit.
    out: usize,
    /// Its acceptor was told that there are no more of them, and has not been woken since.
    is_awaited: bool,
}

struct Inner {
    /// Permits that are out.
    out: usize,
    /// Threads that wait for a client, the one that came last at the back: it is taken first, so
    /// that a few warm ones serve and the others end.
    idle: VecDeque<Arc<HandlerThread>>,
    /// Limits the threads that wait for a client while there are permits for new ones.
    idle_limit: IdleLimit,
    is_closed: bool,
    per_address: HashMap<IpAddr, usize>,
    paused: bool,
    /// An acceptor was told that it must not accept, whatever its listener, and has not been woken
    /// since.
    is_awaited: bool,
    listeners: Vec<AtListener>,
    accepts: Option<TokenBucket>,
    /// Limits the rejects of clients above the limit of their address, or on no list, which the
    /// accept rate does not charge. Only used with an accept rate.
    rejects: TokenBucket,
}

pub(crate) struct Admission {
    inner: CrowdLock<Inner>,
    max_connections: usize,
    /// By the index of the listener.
    max_at_listener: Vec<Option<usize>>,
    max_per_address: Option<usize>,
    exempt: Arc<[IpNet]>,
    exits: Arc<Exits>,
    /// One waker for each acceptor.
    wakers: Vec<Arc<Waker>>,
}

impl Admission {
    pub(crate) fn new(
        config: &Config,
        max_connections: usize,
        listeners: &[ListenerState],
        exits: Arc<Exits>,
        wakers: Vec<Arc<Waker>>,
    ) -> Self {
        Admission {
            inner: CrowdLock::new(Inner {
                out: 0,
                idle: VecDeque::new(),
                idle_limit: IdleLimit::default(),
                is_closed: false,
                per_address: HashMap::new(),
                paused: false,
                is_awaited: false,
                listeners: listeners.iter().map(|_| AtListener::default()).collect(),
                accepts: config
                    .accept_rate
                    .map(|rate| TokenBucket::new(rate as f64, Duration::ZERO)),
                rejects: TokenBucket::new(MAX_REJECTS_PER_SECOND, Duration::ZERO),
            }),
            max_connections,
            max_at_listener: listeners
                .iter()
                .map(|listener| listener.max_connections)
                .collect(),
            max_per_address: config.max_connections_per_ip,
            exempt: Arc::clone(&config.per_ip_exempt),
            exits,
            wakers,
        }
    }

    /// Why no client of this listener may be accepted, if so. An acceptor that was given a reason
    /// is woken when that may have changed.
    pub(crate) fn not_accepting(&self, listener: usize) -> Option<KeptOut> {
        self.inner.lock().not_accepting(self, listener)
    }

    /// Takes an idle thread, or a permit for a new one, and a permit of the listener. Called before
    /// accept(2), so that a client for which there is no slot stays in the kernel's queue.
    pub(crate) fn try_acquire(self: &Arc<Self>, listener: usize) -> Result<Slot, NotNow> {
        self.acquire(self.inner.lock(), listener)
    }

    /// As [`try_acquire`](Admission::try_acquire), as fast as the accept rate allows.
    pub(crate) fn try_acquire_at_rate(
        self: &Arc<Self>,
        listener: usize,
        now: Duration,
    ) -> Result<Slot, NotNow> {
        let mut inner = self.inner.lock();
        let wait = inner.accepts.as_mut().map(|accepts| accepts.wait(now));
        match wait.filter(|wait| !wait.is_zero()) {
            Some(wait) => Err(NotNow::Wait(wait)),
            None => self.acquire(inner, listener),
        }
    }

    /// Takes an idle thread for a client that is accepted already.
    pub(crate) fn take_idle(self: &Arc<Self>) -> Option<IdleThread> {
        self.idle_thread(&mut self.inner.lock())
    }

    fn idle_thread(self: &Arc<Self>, inner: &mut Inner) -> Option<IdleThread> {
        let (thread, is_ending) = match inner.idle.pop_back() {
            None => (self.exits.take_reusable(), true),
            thread => (thread, false),
        };
        let admission = Arc::clone(self);
        thread.is_some().then_some(IdleThread {
            admission,
            thread,
            is_ending,
        })
    }

    fn acquire(
        self: &Arc<Self>,
        mut inner: MutexGuard<'_, Inner>,
        listener: usize,
    ) -> Result<Slot, NotNow> {
        if inner.not_accepting(self, listener).is_some() {
            return Err(NotNow::NotAccepting);
        }
        let thread = match self.idle_thread(&mut inner) {
            Some(idle) => SlotThread::Idle(idle),
            None => {
                inner.out += 1;
                let admission = Arc::clone(self);
                SlotThread::New(Permit { admission })
            }
        };
        let limited = self.max_at_listener[listener].map(|_| Arc::clone(self));
        if limited.is_some() {
            inner.listeners[listener].out += 1;
        }
        let listener = ListenerPermit { limited, listener };
        Ok(Slot { thread, listener })
    }

    /// Admits an accepted client: takes its permit of its address, and charges the accept rate.
    /// `None`: who the client is will be known on its thread, which takes the
    /// [share](Admission::share_of) then.
    ///
    /// # Errors
    /// The address has reached `max_connections_per_ip`. Returns how long to wait before the next
    /// accept: such clients do not use up the accept rate, but neither may they keep a processor
    /// busy.
    pub(crate) fn admit(
        self: &Arc<Self>,
        peer: Option<Peer>,
        now: Duration,
    ) -> Result<AddressPermit, Duration> {
        let share = peer.and_then(|peer| self.max_share(peer));
        let mut inner = self.inner.lock();
        if !inner.take_share(share) {
            return Err(inner.reject_wait(now));
        }
        inner.idle_limit.came();
        if let Some(accepts) = &mut inner.accepts {
            accepts.take(1, now);
        }
        Ok(self.address_permit(share))
    }

    /// Takes a client's permit of its address after the client was admitted. `None`: the address
    /// has reached `max_connections_per_ip`.
    pub(crate) fn share_of(self: &Arc<Self>, peer: Peer) -> Option<AddressPermit> {
        let share = self.max_share(peer);
        let is_free = self.inner.lock().take_share(share);
        is_free.then(|| self.address_permit(share))
    }

    /// How long to wait before the next accept, now that a client is rejected that the accept rate
    /// does not charge.
    pub(crate) fn reject_wait(&self, now: Duration) -> Duration {
        self.inner.lock().reject_wait(now)
    }

    fn address_permit(self: &Arc<Self>, share: Option<(IpAddr, usize)>) -> AddressPermit {
        AddressPermit {
            admission: Arc::clone(self),
            key: share.map(|(key, _)| key),
        }
    }

    /// The key by which a peer's connections are counted, and the most that there may be. `None` if
    /// they are not counted, as those of an exempt network.
    fn max_share(&self, peer: Peer) -> Option<(IpAddr, usize)> {
        let address = peer.ip()?;
        let max = self.max_per_address?;
        (!peers::is_in(address, &self.exempt)).then(|| (key_of(address), max))
    }

    /// Blocks the calling thread, whose connection has ended, until it is handed the next
    /// connection, for at most `max_idle`. `None` if the thread is to end. Calls `idles` once the
    /// thread may be handed one.
    pub(crate) fn wait_idle(
        &self,
        thread: &Arc<HandlerThread>,
        max_idle: Duration,
        idles: impl FnOnce(),
    ) -> Option<Job> {
        if !self.push(thread) {
            return None;
        }
        idles();
        match thread.wait_for_command(max_idle) {
            Some(command) => command.job(),
            None if self.leave(thread) => None,
            // An acceptor has just taken the thread off the list.
            None => thread.next_command().job(),
        }
    }

    /// Must be called at the end of each of the watchdog's ticks.
    pub(crate) fn end_tick(&self) {
        self.inner.lock().idle_limit.end_tick();
    }

    /// Adds an idle thread. `false` if nobody is accepted any more, or enough threads are idle.
    fn push(&self, thread: &Arc<HandlerThread>) -> bool {
        let mut inner = self.inner.lock();
        let has_permits = inner.out < self.max_connections;
        if inner.is_closed || (has_permits && inner.idle.len() >= inner.idle_limit.max_idle()) {
            return false;
        }
        inner.idle.push_back(Arc::clone(thread));
        self.wake_if_awaited(inner);
        true
    }

    /// Takes a thread off the list. `false` if an acceptor, which needs the same lock for that, has
    /// taken it off already: then its command is on its way.
    fn leave(&self, thread: &Arc<HandlerThread>) -> bool {
        let mut inner = self.inner.lock();
        let index = inner.idle.iter().position(|idle| Arc::ptr_eq(idle, thread));
        index.and_then(|index| inner.idle.remove(index)).is_some()
    }

    /// Ends all idle threads, and from now on lets no thread wait, because the server stops.
    pub(crate) fn close(&self) {
        let idle = {
            let mut inner = self.inner.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.idle)
        };
        for thread in idle {
            thread.give(Command::Exit);
        }
        self.wake();
    }

    /// Sets whether the overload policy pauses accepting.
    pub(crate) fn set_paused(&self, paused: bool) {
        let changed = std::mem::replace(&mut self.inner.lock().paused, paused) != paused;
        // Acceptors are woken for a pause, too: one that is to refuse clients must do so before the
        // next client comes.
        if changed {
            self.wake();
        }
    }

    /// Wakes every acceptor.
    pub(crate) fn wake(&self) {
        for waker in &self.wakers {
            waker.wake();
        }
    }

    /// Wakes acceptors that wait for a slot, because a thread that may serve a client waits to end.
    pub(crate) fn announce_free_slot(&self) {
        self.wake_if_awaited(self.inner.lock());
    }

    /// Wakes the acceptors for a free slot, if one of them found none and accepting is not paused.
    fn wake_if_awaited(&self, mut inner: MutexGuard<'_, Inner>) {
        let wake = !inner.paused && std::mem::take(&mut inner.is_awaited);
        drop(inner);
        if wake {
            self.wake();
        }
    }
}

impl Inner {
    /// Decides, and remembers that an acceptor waits, under one lock. So a permit that is returned
    /// at the same moment wakes the acceptor.
    fn not_accepting(&mut self, admission: &Admission, listener: usize) -> Option<KeptOut> {
        let is_full = || {
            self.out >= admission.max_connections
                && self.idle.is_empty()
                && !admission.exits.has_reusable()
        };
        let at_listener = &mut self.listeners[listener];
        let most = admission.max_at_listener[listener];
        let (reason, is_own) = if self.paused {
            (RejectReason::Paused, false)
        } else if most.is_some_and(|most| at_listener.out >= most) {
            (RejectReason::MaxConnections, true)
        } else if is_full() {
            (RejectReason::MaxConnections, false)
        } else {
            return None;
        };
        // Only the return of what it lacks wakes the acceptor. Where both are lacking, it asks
        // again when it has been woken for the first.
        if is_own {
            at_listener.is_awaited = true;
        } else {
            self.is_awaited = true;
        }
        Some(KeptOut { reason, is_own })
    }

    /// Whether a connection may be counted for an address.
    fn take_share(&mut self, share: Option<(IpAddr, usize)>) -> bool {
        let Some((key, max)) = share else {
            return true;
        };
        let out = self.per_address.entry(key).or_insert(0);
        let is_free = *out < max;
        *out += usize::from(is_free);
        is_free
    }

    /// How long to wait before the next accept, now that a client is rejected that the accept rate
    /// does not charge.
    fn reject_wait(&mut self, now: Duration) -> Duration {
        if self.accepts.is_none() {
            return Duration::ZERO;
        }
        self.rejects.take(1, now);
        self.rejects.wait(now)
    }
}

/// Why a listener's clients are kept out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptOut {
    pub(crate) reason: RejectReason,
    /// It is the listener's own limit, and others may go on accepting.
    pub(crate) is_own: bool,
}

impl From<RejectReason> for KeptOut {
    fn from(reason: RejectReason) -> Self {
        KeptOut {
            reason,
            is_own: false,
        }
    }
}

/// Why no client may be accepted now.
#[derive(Clone, Copy, Debug)]
pub(crate) enum NotNow {
    /// The acceptor is woken when [`Admission::not_accepting`] may say so no more.
    NotAccepting,
    /// The accept rate holds the next client back this long.
    Wait(Duration),
}

/// The right to serve one more connection of a listener.
pub(crate) struct Slot {
    pub(crate) thread: SlotThread,
    pub(crate) listener: ListenerPermit,
}

pub(crate) enum SlotThread {
    New(Permit),
    Idle(IdleThread),
}

/// A connection's permit of its listener. Held until the connection has ended and its thread is
/// free for others, or was joined.
#[derive(Default)]
pub(crate) struct ListenerPermit {
    /// `None` if the listener's connections are not limited.
    limited: Option<Arc<Admission>>,
    listener: usize,
}

impl ListenerPermit {
    /// Whether this is one of the permits of a listener that are limited.
    pub(crate) fn is_of(&self, listener: usize) -> bool {
        self.limited.is_some() && self.listener == listener
    }
}

impl Drop for ListenerPermit {
    fn drop(&mut self) {
        let Some(admission) = &self.limited else {
            return;
        };
        let mut inner = admission.inner.lock();
        let is_paused = inner.paused;
        let at_listener = &mut inner.listeners[self.listener];
        at_listener.out -= 1;
        // The end of a pause wakes all acceptors.
        let wake = !is_paused && std::mem::take(&mut at_listener.is_awaited);
        drop(inner);
        if wake {
            admission.wakers[self.listener].wake();
        }
    }
}

/// The right to one thread. Dropped after the thread was joined.
pub(crate) struct Permit {
    admission: Arc<Admission>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.admission.inner.lock();
        inner.out -= 1;
        self.admission.wake_if_awaited(inner);
    }
}

/// An idle thread that was taken to serve a client. Dropped unused, the thread is idle again.
pub(crate) struct IdleThread {
    admission: Arc<Admission>,
    thread: Option<Arc<HandlerThread>>,
    /// The thread was taken from those that wait for their turn to end.
    is_ending: bool,
}

impl IdleThread {
    pub(crate) fn number(&self) -> u64 {
        self.thread.as_ref().map_or(0, |thread| thread.number)
    }

    pub(crate) fn serve(mut self, job: Job) {
        if let Some(thread) = self.thread.take() {
            thread.give(Command::Serve(job));
        }
    }
}

impl Drop for IdleThread {
    fn drop(&mut self) {
        match self.thread.take() {
            Some(thread) if self.is_ending => {
                self.admission.exits.put_back(thread);
                self.admission.announce_free_slot();
            }
            Some(thread) if !self.admission.push(&thread) => thread.give(Command::Exit),
            _ => {}
        }
    }
}

/// A connection's permit of its peer's address, held until the connection ends.
pub(crate) struct AddressPermit {
    admission: Arc<Admission>,
    key: Option<IpAddr>,
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut inner = self.admission.inner.lock();
        if let Some(out) = inner.per_address.get_mut(&key) {
            *out -= 1;
            if *out == 0 {
                inner.per_address.remove(&key);
            }
        }
    }
}

/// The key by which an address's connections are counted. An IPv4-mapped address is IPv4, and the
/// key of an IPv6 address is its /64, since a host usually has a whole /64 (RFC 6177, section 2).
fn key_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> String {
        key_of(ip.parse().expect("an address")).to_string()
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
