//! The tables of connections and of their threads, under one lock: the shared state of each connection, the
//! JoinHandle and the permit of each thread.
//!
//! Whoever accepts holds the lock across spawn and insert, so that no end overtakes its JoinHandle. Every
//! connection is counted here as it comes and as it goes, so `accepted = ended + open` holds whenever
//! anybody looks.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use super::admission::{AddressPermit, Permit};
use super::connection_state::{ConnectionState, ListenerName};
use super::crowd_lock::CrowdLock;
use super::handler_thread::HandlerThread;
use parking_lot::MutexGuard;

use crate::policy::{Activity, Coalesce, Eviction, Pace, Sample, Verdict, Watch, WatchLimits};
use crate::server::ledger::{Counters, EndReason, RejectReason};
use crate::server::report::ConnectionInfo;

/// The connection side of the ledger.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) accepted: u64,
    pub(crate) open: u64,
    pub(crate) rejected: Counters<RejectReason>,
    pub(crate) ended: Counters<EndReason>,
    /// Bytes that nobody read, of connections that ended and of clients that were turned away.
    pub(crate) unread_ended: Counters<EndReason>,
    pub(crate) unread_rejected: Counters<RejectReason>,
    pub(crate) starved: u64,
    /// Handlers' threads that are not joined, now and at most so far.
    pub(crate) unjoined: usize,
    pub(crate) unjoined_peak: usize,
}

impl ConnectionCounts {
    fn reject(&mut self, reason: RejectReason, clients: u64, unread_bytes: u64) {
        self.rejected.add(reason, clients);
        self.unread_rejected.add(reason, unread_bytes);
    }
}

struct Entry {
    state: Arc<ConnectionState>,
    watch: Watch,
    pace: Pace,
    /// The number of its thread.
    thread: u64,
    _address: AddressPermit,
}

impl Entry {
    fn info(&self) -> ConnectionInfo {
        let state = &self.state;
        let sample = state.sample();
        ConnectionInfo {
            id: state.id,
            peer: state.peer,
            listener: state.listener.shared(),
            state: sample.activity,
            in_state: self.watch.in_activity_of(&sample),
            peer_gone: state.peer_gone(),
            ended: state.ended(),
            messages: state.messages(),
            bytes: sample.bytes,
            inside_frame: sample.inside,
        }
    }
}

struct Thread {
    /// Taken out by the reaper.
    handle: Option<JoinHandle<()>>,
    /// Dropped with it: after the join.
    _permit: Permit,
    /// The last connection that ended on it.
    last: Option<ConnectionInfo>,
    /// It serves no more: it is to be joined.
    is_leaving: bool,
}

#[derive(Default)]
struct Inner {
    connections: BTreeMap<u64, Entry>,
    threads: HashMap<u64, Thread>,
    last_id: u64,
    last_thread: u64,
    counts: ConnectionCounts,
    is_draining: bool,
    is_closed: bool,
}

#[derive(Default)]
pub(crate) struct Table {
    inner: CrowdLock<Inner>,
}

impl Table {
    /// The way in. Held across the making of a thread and its entry, so that whoever looks for a
    /// connection's thread finds both or neither.
    pub(crate) fn lock(&self) -> TableGuard<'_> {
        TableGuard(self.inner.lock())
    }

    pub(crate) fn rejected(&self, reason: RejectReason, clients: u64, unread_bytes: u64) {
        let mut inner = self.inner.lock();
        inner.counts.reject(reason, clients, unread_bytes);
    }

    /// An acceptor could not accept, for want of something that the system had not to give.
    pub(crate) fn starved(&self) {
        self.inner.lock().counts.starved += 1;
    }

    /// A handler is at its end: counts it, and lets go of the table's hold on its socket.
    pub(crate) fn ended(&self, id: u64, reason: EndReason, unread_bytes: u64) {
        let mut inner = self.inner.lock();
        inner.counts.ended.add(reason, 1);
        inner.counts.unread_ended.add(reason, unread_bytes);
        let entry = inner.connections.remove(&id);
        if let Some(entry) = &entry
            && let Some(thread) = inner.threads.get_mut(&entry.thread)
        {
            thread.last = Some(ConnectionInfo {
                state: Activity::Ending,
                in_state: Duration::ZERO,
                ended: Some(reason),
                ..entry.info()
            });
        }
        drop(inner);
        drop(entry);
    }

    /// A thread serves no more. It announces that before it tells the reaper.
    pub(crate) fn leaving(&self, number: u64) {
        if let Some(thread) = self.inner.lock().threads.get_mut(&number) {
            thread.is_leaving = true;
        }
    }

    /// A thread that announced its end.
    pub(crate) fn take_thread(&self, number: u64) -> Option<JoinHandle<()>> {
        self.inner.lock().threads.get_mut(&number)?.handle.take()
    }

    /// A thread was joined: its permit comes back.
    pub(crate) fn joined(&self, number: u64) {
        let thread = self.inner.lock().threads.remove(&number);
        // Outside the lock: the permit rings wakers.
        drop(thread);
    }

    /// Every thread is joined.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().threads.is_empty()
    }

    /// Every handler is at its end, though its thread may not be.
    pub(crate) fn has_no_connections(&self) -> bool {
        self.inner.lock().connections.is_empty()
    }

    /// Every connection whose handler has not ended.
    pub(crate) fn open_connections(&self) -> Vec<ConnectionInfo> {
        let inner = self.inner.lock();
        inner.connections.values().map(Entry::info).collect()
    }

    /// Whoever is admitted from now on is drained at once; those who were before are the caller's.
    pub(crate) fn begin_drain(&self) {
        self.inner.lock().is_draining = true;
    }

    /// Admits nobody from now on. Says whether that is new.
    pub(crate) fn close(&self) -> bool {
        !std::mem::replace(&mut self.inner.lock().is_closed, true)
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().is_closed
    }

    /// Every connection whose handler has not ended. Visited without the lock: who is woken by it wants the lock
    /// next, and thousands that sleep for it would wake each other one by one.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(&Arc<ConnectionState>)) {
        for state in self.states() {
            visit(&state);
        }
    }

    /// All of them.
    pub(crate) fn states(&self) -> Vec<Arc<ConnectionState>> {
        let inner = self.inner.lock();
        let entries = inner.connections.values();
        entries.map(|entry| Arc::clone(&entry.state)).collect()
    }

    /// One tick of the watch over every connection. `leaving` is called once for the last connection of a thread
    /// that is at its end, and was not joined for `warn_after`.
    pub(crate) fn watch(
        &self,
        elapsed: Duration,
        limits: &WatchLimits,
        mut coalesce: Option<&mut Coalesce>,
        eviction: &mut Eviction,
        mut visit: impl FnMut(&Arc<ConnectionState>, Sample, &Watch, Verdict),
        mut leaving: impl FnMut(&ConnectionInfo),
    ) {
        let inner = &mut *self.inner.lock();
        for entry in inner.connections.values_mut() {
            let sample = entry.state.sample();
            let verdict = entry.watch.step(sample, elapsed, limits);
            let verdict = eviction.judge(verdict, &entry.watch, &sample);
            if let Some(coalesce) = &mut coalesce
                && entry.state.may_be_delayed()
            {
                let counts = entry.state.counts();
                let delay = coalesce.step(&mut entry.pace, counts, elapsed);
                let is_near_deadline = entry.watch.is_near_deadline(limits);
                entry
                    .state
                    .set_read_delay(delay.filter(|_| !is_near_deadline));
                if is_near_deadline && sample.activity == Activity::Delayed {
                    entry.state.unpark();
                }
            }
            visit(&entry.state, sample, &entry.watch, verdict);
        }
        if let Some(coalesce) = coalesce {
            coalesce.end_tick();
        }
        for thread in inner
            .threads
            .values_mut()
            .filter(|thread| thread.is_leaving)
        {
            if let Some(last) = &mut thread.last {
                let before = last.in_state;
                last.in_state += elapsed;
                if before < limits.warn_after && last.in_state >= limits.warn_after {
                    leaving(last);
                }
            }
        }
    }

    /// Threads whose connection has ended or was ended, parked ones included.
    pub(crate) fn leaving_threads(&self) -> usize {
        let inner = self.inner.lock();
        let serving = inner.connections.values();
        let serving = serving.filter(|entry| entry.state.ended().is_none());
        inner.threads.len().saturating_sub(serving.count())
    }

    /// The address that has the most connections, with how many: for a line of the log, since it looks at all of them.
    pub(crate) fn busiest(&self) -> Option<(IpAddr, usize)> {
        let inner = self.inner.lock();
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for entry in inner.connections.values() {
            *counts.entry(entry.state.peer.ip()).or_default() += 1;
        }
        counts.into_iter().max_by_key(|&(_, count)| count)
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<ConnectionState>> {
        let inner = self.inner.lock();
        let entry = inner.connections.get(&id)?;
        Some(Arc::clone(&entry.state))
    }

    /// Every connection whose handler has not ended, and the last ones of threads that a tick has seen unjoined
    /// since they ended; by their numbers.
    pub(crate) fn connections(&self) -> Vec<ConnectionInfo> {
        let inner = self.inner.lock();
        let leaving = inner.threads.values().filter(|thread| thread.is_leaving);
        let unjoined = leaving
            .filter_map(|thread| thread.last.clone())
            .filter(|last| !last.in_state.is_zero());
        let mut all: Vec<_> = inner
            .connections
            .values()
            .map(Entry::info)
            .chain(unjoined)
            .collect();
        all.sort_unstable_by_key(|connection| connection.id);
        all
    }

    pub(crate) fn counts(&self) -> ConnectionCounts {
        let inner = self.inner.lock();
        ConnectionCounts {
            open: inner.connections.len() as u64,
            unjoined: inner.threads.len(),
            ..inner.counts
        }
    }
}

/// The table, locked for one client that was accepted.
pub(crate) struct TableGuard<'a>(MutexGuard<'a, Inner>);

impl TableGuard<'_> {
    /// The server shuts down: nobody enters any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed
    }

    /// The state of the next connection. It is in the table when a thread has it
    /// ([`enter`](TableGuard::enter)).
    pub(crate) fn next_connection(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        listener: ListenerName,
    ) -> Arc<ConnectionState> {
        let state = Arc::new(ConnectionState::new(
            self.0.last_id + 1,
            peer,
            stream,
            listener,
        ));
        if self.0.is_draining {
            state.drain();
        }
        state
    }

    /// The handler's thread that is to be made next.
    pub(crate) fn next_thread(&self) -> Arc<HandlerThread> {
        HandlerThread::new(self.0.last_thread + 1)
    }

    pub(crate) fn reject(&mut self, reason: RejectReason, unread_bytes: u64) {
        self.0.counts.reject(reason, 1, unread_bytes);
    }

    /// A handler's thread was made. It keeps its permit until it is joined.
    pub(crate) fn insert_thread(&mut self, number: u64, handle: JoinHandle<()>, permit: Permit) {
        let inner = &mut *self.0;
        inner.last_thread = number;
        let thread = Thread {
            handle: Some(handle),
            _permit: permit,
            last: None,
            is_leaving: false,
        };
        inner.threads.insert(number, thread);
        inner.counts.unjoined_peak = inner.counts.unjoined_peak.max(inner.threads.len());
    }

    /// A connection has the thread of this number.
    pub(crate) fn insert_connection(
        &mut self,
        state: Arc<ConnectionState>,
        thread: u64,
        permit: AddressPermit,
    ) {
        let inner = &mut *self.0;
        inner.last_id = state.id;
        inner.counts.accepted += 1;
        let entry = Entry {
            state,
            watch: Watch::default(),
            pace: Pace::default(),
            thread,
            _address: permit,
        };
        inner.connections.insert(inner.last_id, entry);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::net::{Ipv4Addr, TcpStream};
    use std::time::Instant;

    use super::*;
    use crate::server::Server;

    /// A server that reads what its clients send, and sends nothing on.
    fn reads_all() -> Server {
        Server::builder::<Vec<u8>>()
            .listen((Ipv4Addr::LOCALHOST, 0).into())
            .start_each(
                |connection, _| Ok(std::io::copy(connection, &mut std::io::sink()).map(drop)?),
                |_| Ok(()),
            )
            .unwrap()
    }

    #[test]
    fn connections_are_visited_without_the_lock_that_whoever_is_woken_needs() {
        let server = reads_all();
        let _open = TcpStream::connect(server.local_addrs()[0]).unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let mut visited = 0;
        while visited == 0 && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
            let table = &server.shared.table;
            table.for_each(|_| {
                visited += 1;
                while table.inner.try_lock().is_none() {
                    assert!(Instant::now() < end);
                }
            });
        }
        assert_eq!(visited, 1);
    }

    #[test]
    fn the_ledger_does_not_close_with_a_connection_left_out() {
        let left_out: [fn(&mut Inner); 4] = [
            |inner| inner.counts.accepted -= 1,
            |inner| inner.counts.accepted += 1,
            |inner| inner.counts.ended = Counters::default(),
            |inner| drop(std::mem::take(&mut inner.connections)),
        ];
        for leave_out in left_out {
            let server = reads_all();
            let address = server.local_addrs()[0];
            drop(TcpStream::connect(address).unwrap());
            let _open = TcpStream::connect(address).unwrap();
            let end = Instant::now() + Duration::from_secs(60);
            let one_of_each = || {
                let stats = server.stats();
                (stats.accepted, stats.ended.total(), stats.open) == (2, 1, 1)
            };
            while !one_of_each() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert!(one_of_each() && server.stats().is_balanced());
            leave_out(&mut server.shared.table.inner.lock());
            assert!(!server.stats().is_balanced(), "{:?}", server.stats());
        }
    }
}
