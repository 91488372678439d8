//! Who may come in: permits in all and per address, the pause, and the accept rate.
//!
//! A permit belongs to a thread, from before its client is accepted until the thread is **joined**. So
//! permits out >= threads alive, always: that is the claim that this server cannot leak, in one line. A
//! thread that is parked here, waiting for another client, keeps its permit and counts as room.

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use parking_lot::MutexGuard;

use super::crowd_lock::CrowdLock;
use super::exits::Exits;
use super::handler_thread::{Job, Order, Worker};
use super::waker::Bell;
use crate::policy::Bucket;
use crate::server::config::Config;
use crate::server::ledger::RejectReason;

/// A tenth of a processor's worth. A kernel's queue that one address has filled (4,096 by default) is through in
/// less than half a second, so that long those behind it wait.
const TURNS_AWAY_PER_SECOND: f64 = 10_000.0;

struct Inner {
    out: usize,
    /// Threads that wait for a client, the one that came last at the back: it is taken first, so that a few
    /// warm ones serve and the others end.
    parked: VecDeque<Arc<Worker>>,
    is_closed: bool,
    per_address: HashMap<IpAddr, usize>,
    paused: bool,
    /// Somebody found the gate shut since the last time it was seen to open.
    missed: bool,
    accepts: Option<Bucket>,
    /// Where there is an accept rate, clients of an address above its share have one of their own.
    turns_away: Bucket,
}

pub(crate) struct Gate {
    inner: CrowdLock<Inner>,
    max_connections: usize,
    max_per_address: Option<usize>,
    exempt: Vec<IpNet>,
    exits: Arc<Exits>,
    /// One for each acceptor.
    bells: Vec<Arc<Bell>>,
}

impl Gate {
    pub(crate) fn new(
        config: &Config,
        max_connections: usize,
        exits: Arc<Exits>,
        bells: Vec<Arc<Bell>>,
    ) -> Self {
        Gate {
            inner: CrowdLock::new(Inner {
                out: 0,
                parked: VecDeque::new(),
                is_closed: false,
                per_address: HashMap::new(),
                paused: false,
                missed: false,
                accepts: config
                    .accept_rate
                    .map(|rate| Bucket::new(rate as f64, Duration::ZERO)),
                turns_away: Bucket::new(TURNS_AWAY_PER_SECOND, Duration::ZERO),
            }),
            max_connections,
            max_per_address: config.max_connections_per_ip,
            exempt: config
                .per_ip_exempt
                .iter()
                .copied()
                .map(canonical)
                .collect(),
            exits,
            bells,
        }
    }

    /// Threads that have a permit, and those of them that serve.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        (inner.out, inner.out.saturating_sub(inner.parked.len()))
    }

    /// Why the gate is shut, if it is. Whoever is told so will hear the bell when that may have changed.
    pub(crate) fn shut(&self) -> Option<RejectReason> {
        self.inner.lock().shut(self.max_connections, &self.exits)
    }

    /// Takes a parked thread or a permit for a new one, before the client is accepted: who does not come in
    /// stays in the kernel's queue.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Room, RejectReason> {
        let mut inner = self.inner.lock();
        if let Some(reason) = inner.shut(self.max_connections, &self.exits) {
            return Err(reason);
        }
        let gate = Arc::clone(self);
        let (parked, is_ending) = match inner.parked.pop_back() {
            None => (self.exits.take_fit(), true),
            parked => (parked, false),
        };
        if parked.is_some() {
            return Ok(Room::Parked(Parked {
                gate,
                worker: parked,
                is_ending,
            }));
        }
        inner.out += 1;
        Ok(Room::New(Permit { gate }))
    }

    /// A connection's share of its peer's address. `None`: that address has all of its shares.
    pub(crate) fn claim(self: &Arc<Self>, peer: SocketAddr) -> Option<Claim> {
        let gate = Arc::clone(self);
        let Some(max) = self.max_per_address else {
            return Some(Claim { gate, key: None });
        };
        let (address, key) = address_of(peer);
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return Some(Claim { gate, key: None });
        }
        let mut inner = self.inner.lock();
        let out = inner.per_address.entry(key).or_insert(0);
        if *out >= max {
            return None;
        }
        *out += 1;
        let key = Some(key);
        Some(Claim { gate, key })
    }

    /// Where the thread of a connection that ended waits for the next one, at most for `patience`. `None`: it is
    /// to end.
    pub(crate) fn park(&self, worker: &Arc<Worker>, patience: Duration) -> Option<Job> {
        if !self.push(worker) {
            return None;
        }
        worker.wait_for_order(patience, || self.leave(worker))
    }

    /// `false`: the gate is closed for good.
    fn push(&self, worker: &Arc<Worker>) -> bool {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            return false;
        }
        inner.parked.push_back(Arc::clone(worker));
        self.ring_if_missed(inner);
        true
    }

    fn leave(&self, worker: &Arc<Worker>) -> bool {
        let mut inner = self.inner.lock();
        let place = inner
            .parked
            .iter()
            .position(|parked| Arc::ptr_eq(parked, worker));
        place.and_then(|place| inner.parked.remove(place)).is_some()
    }

    /// The server stops: parked threads end, and none parks any more.
    pub(crate) fn close(&self) {
        let parked = {
            let mut inner = self.inner.lock();
            inner.is_closed = true;
            std::mem::take(&mut inner.parked)
        };
        for worker in parked {
            worker.give(Order::Leave);
        }
        self.ring();
    }

    /// How long the accept rate holds the next client back.
    pub(crate) fn accept_wait(&self, now: Duration) -> Duration {
        self.inner
            .lock()
            .accepts
            .as_mut()
            .map_or(Duration::ZERO, |bucket| bucket.wait(now))
    }

    /// A client was admitted: it is charged to the accept rate.
    pub(crate) fn admitted(&self, now: Duration) {
        if let Some(bucket) = &mut self.inner.lock().accepts {
            bucket.take(1, now);
        }
    }

    /// A client above its address's share was turned away. It costs the others nothing of the accept rate, and
    /// yet not all of a processor: says how long to wait before the next client.
    pub(crate) fn turned_away(&self, now: Duration) -> Duration {
        let mut inner = self.inner.lock();
        if inner.accepts.is_none() {
            return Duration::ZERO;
        }
        inner.turns_away.take(1, now);
        inner.turns_away.wait(now)
    }

    /// The ladder's word.
    pub(crate) fn set_paused(&self, paused: bool) {
        let changed = std::mem::replace(&mut self.inner.lock().paused, paused) != paused;
        // Both ways: an acceptor that is to refuse clients must not learn of it from the next one.
        if changed {
            self.ring();
        }
    }

    /// Wakes every acceptor.
    pub(crate) fn ring(&self) {
        for bell in &self.bells {
            bell.ring();
        }
    }

    /// A thread that may serve waits somewhere again.
    pub(crate) fn has_room_again(&self) {
        self.ring_if_missed(self.inner.lock());
    }

    /// There is room again: whoever found none is told, unless the pause shuts the gate anyway.
    fn ring_if_missed(&self, mut inner: MutexGuard<'_, Inner>) {
        let ring = !inner.paused && std::mem::take(&mut inner.missed);
        drop(inner);
        if ring {
            self.ring();
        }
    }
}

impl Inner {
    /// Decided under the lock, and the one who is told is remembered under it: so a permit that comes back
    /// at this very moment finds somebody to wake.
    fn shut(&mut self, max_connections: usize, exits: &Exits) -> Option<RejectReason> {
        let reason = if self.paused {
            Some(RejectReason::Paused)
        } else if self.out >= max_connections && self.parked.is_empty() && !exits.has_fit() {
            Some(RejectReason::MaxConnections)
        } else {
            None
        };
        self.missed |= reason.is_some();
        reason
    }
}

/// Room for one more connection.
pub(crate) enum Room {
    New(Permit),
    Parked(Parked),
}

/// The right to one thread. Dropped after that thread was joined.
pub(crate) struct Permit {
    gate: Arc<Gate>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut inner = self.gate.inner.lock();
        inner.out -= 1;
        self.gate.ring_if_missed(inner);
    }
}

/// A thread that was taken off the stack. Dropped unused, it goes back.
pub(crate) struct Parked {
    gate: Arc<Gate>,
    worker: Option<Arc<Worker>>,
    /// It waits for its turn to end, not at the gate.
    is_ending: bool,
}

impl Parked {
    pub(crate) fn number(&self) -> u64 {
        self.worker.as_ref().map_or(0, |worker| worker.number)
    }

    pub(crate) fn serve(mut self, job: Job) {
        if let Some(worker) = self.worker.take() {
            worker.give(Order::Serve(job));
        }
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        match self.worker.take() {
            Some(worker) if self.is_ending => {
                self.gate.exits.put_back(worker);
                self.gate.has_room_again();
            }
            Some(worker) if !self.gate.push(&worker) => worker.give(Order::Leave),
            _ => {}
        }
    }
}

/// A connection's share of its peer's address.
pub(crate) struct Claim {
    gate: Arc<Gate>,
    key: Option<IpAddr>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        let Some(key) = self.key else { return };
        let mut inner = self.gate.inner.lock();
        if let Some(out) = inner.per_address.get_mut(&key) {
            *out -= 1;
            if *out == 0 {
                inner.per_address.remove(&key);
            }
        }
    }
}

/// A network of IPv4-mapped addresses is one of IPv4, as its addresses are.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = network else {
        return network;
    };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(MAPPED))
        .and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok())
        .map_or(network, IpNet::V4)
}

/// The address as networks are written, and the key under which its connections are counted: an
/// IPv4-mapped address is IPv4, and an IPv6 host has a whole /64 to itself (RFC 6177, section 2).
fn address_of(peer: SocketAddr) -> (IpAddr, IpAddr) {
    let address = peer.ip().to_canonical();
    let key = match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    };
    (address, key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(ip: &str) -> String {
        address_of(SocketAddr::new(ip.parse().expect("an address"), 1))
            .1
            .to_string()
    }

    #[test]
    fn an_ipv4_address_is_one_however_it_is_written() {
        assert_eq!(key("192.0.2.7"), "192.0.2.7");
        assert_eq!(key("::ffff:192.0.2.7"), "192.0.2.7");
        assert_ne!(key("192.0.2.7"), key("192.0.2.8"));
    }

    #[test]
    fn a_network_of_ipv4_mapped_addresses_is_one_of_ipv4() {
        let canonical = |net: &str| canonical(net.parse().expect("a network")).to_string();
        assert_eq!(canonical("::ffff:127.0.0.1/128"), "127.0.0.1/32");
        assert_eq!(canonical("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        for same in ["10.0.0.0/8", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(canonical(same), same);
        }
    }

    #[test]
    fn an_ipv6_address_counts_by_its_64_and_an_exempt_network_is_held_against_all_of_it() {
        assert_eq!(key("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
        let peer = SocketAddr::new("2001:db8::5".parse().expect("an address"), 1);
        assert_eq!(address_of(peer).0, peer.ip());
    }
}
