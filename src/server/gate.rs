//! Who may come in: permits in all and per address, the pause, and the accept rate.
//!
//! A permit belongs to a thread, from before its client is accepted until the thread is **joined**. So
//! permits out >= threads alive, always: that is the claim that this server cannot leak, in one line.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;

use super::bell::Bell;
use super::config::Config;
use super::ledger::RejectReason;
use crate::model::Bucket;

#[derive(Debug)]
struct Inner {
    out: usize,
    per_address: HashMap<IpAddr, usize>,
    paused: bool,
    /// Somebody found the gate shut since the last time it was seen to open.
    missed: bool,
    accepts: Option<Bucket>,
}

#[derive(Debug)]
pub(super) struct Gate {
    inner: Mutex<Inner>,
    max_connections: usize,
    max_per_address: Option<usize>,
    exempt: Vec<IpNet>,
    /// One for each acceptor.
    bells: Vec<Arc<Bell>>,
}

impl Gate {
    pub(super) fn new(config: &Config, max_connections: usize, bells: Vec<Arc<Bell>>) -> Self {
        Gate {
            inner: Mutex::new(Inner {
                out: 0,
                per_address: HashMap::new(),
                paused: false,
                missed: false,
                accepts: config
                    .accept_rate
                    .map(|rate| Bucket::new(rate as f64, Duration::ZERO)),
            }),
            max_connections,
            max_per_address: config.max_connections_per_ip,
            exempt: config.per_ip_exempt.clone(),
            bells,
        }
    }

    /// Why the gate is shut, if it is. Whoever is told so will hear the bell when that may have changed.
    pub(super) fn shut(&self) -> Option<RejectReason> {
        self.inner.lock().shut(self.max_connections)
    }

    /// Takes a permit, before the client is accepted: who does not come in stays in the kernel's queue.
    pub(super) fn enter(self: &Arc<Self>) -> Result<Permit, RejectReason> {
        let mut inner = self.inner.lock();
        match inner.shut(self.max_connections) {
            Some(reason) => Err(reason),
            None => {
                inner.out += 1;
                Ok(Permit {
                    gate: Arc::clone(self),
                    address: None,
                })
            }
        }
    }

    /// Counts the permit against its address, too. `false`: that address has its share.
    pub(super) fn claim(&self, permit: &mut Permit, peer: SocketAddr) -> bool {
        let Some(max) = self.max_per_address else {
            return true;
        };
        let (address, key) = address_of(peer);
        if self.exempt.iter().any(|network| network.contains(&address)) {
            return true;
        }
        let mut inner = self.inner.lock();
        let out = inner.per_address.entry(key).or_insert(0);
        if *out >= max {
            return false;
        }
        *out += 1;
        permit.address = Some(key);
        true
    }

    /// How long the accept rate holds the next client back.
    pub(super) fn accept_wait(&self, now: Duration) -> Duration {
        self.inner
            .lock()
            .accepts
            .as_mut()
            .map_or(Duration::ZERO, |bucket| bucket.wait(now))
    }

    /// A client was accepted.
    pub(super) fn accepted(&self, now: Duration) {
        if let Some(bucket) = &mut self.inner.lock().accepts {
            bucket.take(1, now);
        }
    }

    /// The ladder's word. A pause that begins rings, too: an acceptor that waits for a client has to learn
    /// of it before one comes, or it would go on listening where connects are to be refused.
    pub(super) fn set_paused(&self, paused: bool) {
        let mut inner = self.inner.lock();
        let begins = paused && !inner.paused;
        inner.paused = paused;
        let ring = begins || (!paused && std::mem::take(&mut inner.missed));
        drop(inner);
        if ring {
            self.ring();
        }
    }

    /// Wakes every acceptor.
    pub(super) fn ring(&self) {
        for bell in &self.bells {
            bell.ring();
        }
    }

    fn give_back(&self, address: Option<IpAddr>) {
        let mut inner = self.inner.lock();
        inner.out -= 1;
        if let Some(address) = address
            && let Some(out) = inner.per_address.get_mut(&address)
        {
            *out -= 1;
            if *out == 0 {
                inner.per_address.remove(&address);
            }
        }
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
    fn shut(&mut self, max_connections: usize) -> Option<RejectReason> {
        let reason = if self.paused {
            Some(RejectReason::Paused)
        } else if self.out >= max_connections {
            Some(RejectReason::MaxConnections)
        } else {
            None
        };
        self.missed |= reason.is_some();
        reason
    }
}

/// The right to one thread. Dropped after that thread was joined.
#[derive(Debug)]
pub(super) struct Permit {
    gate: Arc<Gate>,
    address: Option<IpAddr>,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.gate.give_back(self.address);
    }
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
