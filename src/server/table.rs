//! The table of connections: the shared record, the thread and the permit of each, under one lock.
//!
//! Whoever accepts holds the lock across spawn and insert, so that no end overtakes its JoinHandle. Every
//! connection is counted here as it comes and as it goes, so `accepted = ended + open` holds whenever
//! anybody looks.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;

use super::gate::Permit;
use super::ledger::{EndReason, RejectReason, Tally};
use super::record::{Record, unread_bytes};
use super::report::ConnectionInfo;
use crate::model::{Activity, Sample, Verdict, Watch, WatchLimits};

/// The connection side of the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) accepted: u64,
    pub(super) open: u64,
    pub(super) rejected: Tally<RejectReason>,
    pub(super) ended: Tally<EndReason>,
    pub(super) unread_bytes: u64,
    pub(super) starved: u64,
    /// Handlers' threads that are not joined, now and at most so far.
    pub(super) unjoined: usize,
    pub(super) unjoined_peak: usize,
}

impl Traffic {
    fn reject(&mut self, reason: RejectReason, unread_bytes: u64) {
        self.rejected.add(reason, 1);
        self.unread_bytes += unread_bytes;
    }
}

#[derive(Debug)]
struct Entry {
    /// Taken out by the handler itself as it ends, so that its own thread closes the socket.
    record: Option<Arc<Record>>,
    /// Taken out by the reaper.
    thread: Option<JoinHandle<()>>,
    /// Returned when the entry is dropped: after the join.
    _permit: Permit,
    watch: Watch,
    /// What is left to tell of it once its handler has ended.
    ended: Option<ConnectionInfo>,
}

impl Entry {
    fn info(&self) -> Option<ConnectionInfo> {
        let Some(record) = &self.record else {
            return self.ended.clone();
        };
        let sample = record.sample();
        Some(ConnectionInfo {
            id: record.id,
            peer: record.peer,
            state: sample.activity,
            in_state: self.watch.in_activity_of(&sample),
            peer_gone: record.peer_gone(),
            ended: record.ended(),
            messages: record.messages(),
            bytes: sample.bytes,
            inside_frame: sample.inside,
        })
    }
}

#[derive(Debug, Default)]
struct Inner {
    entries: BTreeMap<u64, Entry>,
    last_id: u64,
    traffic: Traffic,
    is_closed: bool,
}

#[derive(Debug, Default)]
pub(super) struct Table {
    inner: Mutex<Inner>,
}

/// What became of a client that was accepted.
#[derive(Debug)]
pub(super) enum Admitted {
    Served,
    /// The server shuts down: rejected, and booked.
    Closed,
    /// The system had no thread to give: rejected, and booked.
    NoThread(io::Error),
}

impl Table {
    /// Gives a connection its number, its record and its thread, or books why not. Where the spawn fails,
    /// the socket closes with the body that was to hold it.
    pub(super) fn admit(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: Permit,
        spawn: impl FnOnce(Arc<Record>) -> io::Result<JoinHandle<()>>,
    ) -> Admitted {
        let mut inner = self.inner.lock();
        if inner.is_closed {
            inner
                .traffic
                .reject(RejectReason::Shutdown, unread_bytes(&stream));
            return Admitted::Closed;
        }
        let id = inner.last_id + 1;
        let record = Arc::new(Record::new(id, peer, stream));
        let thread = match spawn(Arc::clone(&record)) {
            Ok(thread) => thread,
            Err(error) => {
                inner
                    .traffic
                    .reject(RejectReason::NoThread, record.unread_bytes());
                // Outside the lock: a permit that comes back rings bells.
                drop(inner);
                drop(permit);
                return Admitted::NoThread(error);
            }
        };
        inner.last_id = id;
        inner.traffic.accepted += 1;
        let entry = Entry {
            record: Some(record),
            thread: Some(thread),
            _permit: permit,
            watch: Watch::default(),
            ended: None,
        };
        inner.entries.insert(id, entry);
        inner.traffic.unjoined_peak = inner.traffic.unjoined_peak.max(inner.entries.len());
        Admitted::Served
    }

    pub(super) fn rejected(&self, reason: RejectReason, unread_bytes: u64) {
        self.inner.lock().traffic.reject(reason, unread_bytes);
    }

    /// An acceptor could not accept, for want of something that the system had not to give.
    pub(super) fn starved(&self) {
        self.inner.lock().traffic.starved += 1;
    }

    /// A handler is at its end: counts it, and lets go of the table's hold on its socket.
    pub(super) fn ended(&self, id: u64, reason: EndReason, unread_bytes: u64) {
        let mut inner = self.inner.lock();
        inner.traffic.ended.add(reason, 1);
        inner.traffic.unread_bytes += unread_bytes;
        let record = inner.entries.get_mut(&id).and_then(|entry| {
            let info = entry.info();
            entry.ended = info.map(|info| ConnectionInfo {
                state: Activity::Ending,
                in_state: Duration::ZERO,
                ended: Some(reason),
                ..info
            });
            entry.record.take()
        });
        drop(inner);
        drop(record);
    }

    /// The thread of a handler that announced its end.
    pub(super) fn take_thread(&self, id: u64) -> Option<JoinHandle<()>> {
        self.inner.lock().entries.get_mut(&id)?.thread.take()
    }

    /// A handler's thread was joined: its permit comes back.
    pub(super) fn joined(&self, id: u64) {
        let entry = self.inner.lock().entries.remove(&id);
        // Outside the lock: the permit rings bells.
        drop(entry);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.inner.lock().entries.is_empty()
    }

    /// Admits nobody from now on.
    pub(super) fn close(&self) {
        self.inner.lock().is_closed = true;
    }

    /// Every connection whose handler has not ended.
    pub(super) fn for_each(&self, mut visit: impl FnMut(&Arc<Record>)) {
        for entry in self.inner.lock().entries.values() {
            if let Some(record) = &entry.record {
                visit(record);
            }
        }
    }

    /// One tick of the watch over every connection. `ending` is called once for one whose thread has ended,
    /// and was not joined for `warn_after`.
    pub(super) fn watch(
        &self,
        elapsed: Duration,
        limits: &WatchLimits,
        mut visit: impl FnMut(&Arc<Record>, Sample, &Watch, Verdict),
        mut ending: impl FnMut(&ConnectionInfo),
    ) {
        for entry in self.inner.lock().entries.values_mut() {
            if let Some(record) = &entry.record {
                let sample = record.sample();
                let verdict = entry.watch.step(sample, elapsed, limits);
                visit(record, sample, &entry.watch, verdict);
            } else if let Some(ended) = &mut entry.ended {
                let before = ended.in_state;
                ended.in_state += elapsed;
                if before < limits.warn_after && ended.in_state >= limits.warn_after {
                    ending(ended);
                }
            }
        }
    }

    pub(super) fn find(&self, id: u64) -> Option<Arc<Record>> {
        self.inner.lock().entries.get(&id)?.record.clone()
    }

    /// Every connection whose handler has not ended, and those that a tick has seen unjoined since.
    pub(super) fn connections(&self) -> Vec<ConnectionInfo> {
        let is_told =
            |info: &ConnectionInfo| info.state != Activity::Ending || !info.in_state.is_zero();
        let inner = self.inner.lock();
        inner
            .entries
            .values()
            .filter_map(Entry::info)
            .filter(is_told)
            .collect()
    }

    pub(super) fn traffic(&self) -> Traffic {
        let inner = self.inner.lock();
        let open = inner
            .entries
            .values()
            .filter(|entry| entry.record.is_some())
            .count() as u64;
        Traffic {
            open,
            unjoined: inner.entries.len(),
            ..inner.traffic
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::server::Server;

    #[test]
    fn the_ledger_does_not_close_with_a_connection_left_out() {
        let left_out: [fn(&mut Inner); 4] = [
            |inner| inner.traffic.accepted -= 1,
            |inner| inner.traffic.accepted += 1,
            |inner| inner.traffic.ended = Tally::default(),
            |inner| {
                drop(
                    inner
                        .entries
                        .values_mut()
                        .map(|entry| entry.record.take())
                        .collect::<Vec<_>>(),
                )
            },
        ];
        for leave_out in left_out {
            let handle = Server::<Vec<u8>>::builder()
                .listen((Ipv4Addr::LOCALHOST, 0).into())
                .start_each(
                    |connection, _| Ok(std::io::copy(connection, &mut std::io::sink()).map(drop)?),
                    |_| Ok(()),
                )
                .unwrap();
            let address = handle.local_addrs()[0];
            drop(TcpStream::connect(address).unwrap());
            let _open = TcpStream::connect(address).unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            let one_of_each = || {
                let stats = handle.stats();
                (stats.accepted, stats.ended.total(), stats.open) == (2, 1, 1)
            };
            while !one_of_each() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(one_of_each() && handle.stats().is_balanced());
            leave_out(&mut handle.shared.table.inner.lock());
            assert!(!handle.stats().is_balanced(), "{:?}", handle.stats());
        }
    }
}
