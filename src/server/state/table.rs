//! The tables of connections and of their threads, under one lock: the shared state of each
//! connection, the JoinHandle and the permit of each thread, and the clients that wait for a
//! thread.
//!
//! Every connection is counted here as its thread begins to serve it and as it ends, so
//! `accepted = ended + open` holds in every reading.

pub(crate) mod starting;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::num::NonZero;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::thread::{JoinHandle, available_parallelism};
use std::time::Duration;

use super::admission::{AddressPermit, ListenerPermit, Permit};
use super::connection_state::ConnectionState;
use super::crowd_lock::CrowdLock;
use super::handler_thread::Job;
use super::listener_state::ListenerState;
use rustix::process::Pid;

use crate::policy::{Activity, Coalesce, Finding, Pace, Sample, Watch};
use crate::server::ledger::{Counters, EndReason, RejectReason};
use crate::server::report::ConnectionInfo;

/// The connection side of the ledger, of one listener or in all.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ConnectionCounts {
    pub(crate) accepted: u64,
    pub(crate) open: u64,
    /// Clients that have a permit and are not served by a thread yet.
    pub(crate) starting: u64,
    pub(crate) rejected: Counters<RejectReason>,
    pub(crate) ended: Counters<EndReason>,
    /// Bytes that nobody read, of connections that ended and of clients that were rejected.
    pub(crate) unread_ended: Counters<EndReason>,
    pub(crate) unread_rejected: Counters<RejectReason>,
}

/// One reading of the table.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TableCounts {
    /// `open` is what is in the table, by no row's own count.
    pub(crate) connections: ConnectionCounts,
    pub(crate) accept_failures: u64,
    /// Handlers' threads that are not joined: now, and the most so far.
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
    /// The number of the thread that serves the connection; `None` while the client is starting.
    thread: Option<u64>,
    address: AddressPermit,
    listener: ListenerPermit,
}

impl Entry {
    fn info(&self) -> ConnectionInfo {
        let state = &self.state;
        let sample = state.sample();
        ConnectionInfo {
            id: state.id,
            peer: state.peer(),
            balancer: state.balancer(),
            tls_name: state.tls_name().cloned(),
            listener: state.listener.shared(),
            listener_index: state.listener.index(),
            is_listener_in_text: state.listener.is_in_texts(),
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

/// A client that is in the table and whose thread is still to be made.
struct Starting {
    job: Job,
    permit: Permit,
    /// When the client was accepted, by the clock that stands still while the process is stopped.
    since: Duration,
}

struct Thread {
    /// What the thread is to serve first, and since when that client waits; `None` once the thread
    /// has begun.
    first: Option<(Job, Duration)>,
    /// `None` until the system has made the thread, and once the reaper has taken it.
    handle: Option<JoinHandle<()>>,
    is_made: bool,
    /// The thread has run its last line, and this is its id in the kernel.
    left: Option<Pid>,
    /// Dropped with this entry, after the join.
    permit: Permit,
    /// The permit of the listener whose connection ended on this thread, until the thread's own
    /// permit is free for others again: because the thread serves another client or is idle, or was
    /// joined. If it came back sooner, clients of the listener could take the permits that others
    /// have left, while thousands of threads that served it before wait for their end.
    listener: ListenerPermit,
    /// The last connection that ended on this thread.
    last: Option<ConnectionInfo>,
    /// The thread serves nobody any more and is to be joined.
    is_leaving: bool,
}

#[derive(Default)]
struct Inner {
    connections: BTreeMap<u64, Entry>,
    threads: HashMap<u64, Thread>,
    /// Clients that wait for a thread, the one that came first at the front.
    starting: VecDeque<Starting>,
    /// Threads that are being made: they do not run yet.
    making: usize,
    last_id: u64,
    last_thread: u64,
    /// By the index of the listener.
    rows: Vec<ConnectionCounts>,
    accept_failures: u64,
    unjoined_peak: usize,
    is_draining: bool,
    is_closed: bool,
}

pub(crate) struct Table {
    inner: CrowdLock<Inner>,
    /// The system has refused a thread, and has given none since. Written under the lock, so that
    /// whenever clients wait for threads, a thread is being made, or an acceptor is to try again.
    lacks_thread: AtomicBool,
    /// How many threads have begun and how many were joined so far.
    thread_changes: AtomicU64,
    /// The most threads that are made at once: more would compete with the acceptor for the
    /// processors, and with each other for the kernel's lock on the process's mappings.
    max_making: usize,
}

impl Table {
    pub(crate) fn new(listeners: usize) -> Self {
        let inner = Inner {
            rows: vec![ConnectionCounts::default(); listeners],
            ..Inner::default()
        };
        Table {
            inner: CrowdLock::new(inner),
            lacks_thread: AtomicBool::new(false),
            thread_changes: AtomicU64::new(0),
            max_making: available_parallelism().map_or(2, NonZero::get) + 1,
        }
    }

    pub(crate) fn rejected(
        &self,
        listener: usize,
        reason: RejectReason,
        clients: u64,
        unread_bytes: u64,
    ) {
        let mut inner = self.inner.lock();
        inner.rows[listener].reject(reason, clients, unread_bytes);
    }

    /// Counts that the system lacked what an acceptor needed to accept a client.
    pub(crate) fn accept_failed(&self) {
        self.inner.lock().accept_failures += 1;
    }

    /// Keeps the permit of a peer's address, which was taken on the connection's thread, until the
    /// connection has ended.
    pub(crate) fn keep_share(&self, id: u64, share: AddressPermit) {
        let mut inner = self.inner.lock();
        let entry = inner.connections.get_mut(&id);
        let before = entry.map(|entry| std::mem::replace(&mut entry.address, share));
        drop(inner);
        drop(before);
    }

    /// Counts a connection whose handler has returned, and takes it out of the table, whose
    /// reference would keep the socket open.
    pub(crate) fn ended(&self, state: &ConnectionState, reason: EndReason, unread_bytes: u64) {
        let mut inner = self.inner.lock();
        let row = &mut inner.rows[state.listener.index()];
        row.open = row.open.wrapping_sub(1);
        row.ended.add(reason, 1);
        row.unread_ended.add(reason, unread_bytes);
        let mut entry = inner.connections.remove(&state.id);
        if let Some(entry) = &mut entry
            && let Some(number) = entry.thread
            && let Some(thread) = inner.threads.get_mut(&number)
        {
            thread.last = Some(ConnectionInfo {
                state: Activity::Ending,
                in_state: Duration::ZERO,
                ended: Some(reason),
                ..entry.info()
            });
            thread.listener = std::mem::take(&mut entry.listener);
        }
        drop(inner);
        drop(entry);
    }

    /// Returns the permit of the listener whose connection ended on a thread, because another
    /// client may have the thread now.
    pub(crate) fn return_listener_permit(&self, number: u64) {
        let mut inner = self.inner.lock();
        let permit = inner.take_listener_permit(number);
        drop(inner);
        drop(permit);
    }

    /// A thread serves nobody any more. Returns whether the thread is to tell the reaper; if not,
    /// whoever made it does.
    pub(crate) fn leaving(&self, number: u64, pid: Pid) -> bool {
        let mut inner = self.inner.lock();
        let Some(thread) = inner.threads.get_mut(&number) else {
            return false;
        };
        thread.is_leaving = true;
        thread.left = Some(pid);
        thread.is_made
    }

    /// The JoinHandles of threads that announced their end.
    pub(crate) fn take_threads(&self, numbers: impl Iterator<Item = u64>) -> Vec<JoinHandle<()>> {
        let mut inner = self.inner.lock();
        numbers
            .filter_map(|number| inner.threads.get_mut(&number)?.handle.take())
            .collect()
    }

    /// Must be called when these threads were joined: their permits are returned.
    pub(crate) fn joined(&self, numbers: impl Iterator<Item = u64>) {
        let threads: Vec<_> = {
            let mut inner = self.inner.lock();
            numbers
                .filter_map(|number| inner.threads.remove(&number))
                .collect()
        };
        self.thread_changes.fetch_add(1, Ordering::AcqRel);
        // Without the lock, because returning a permit wakes acceptors.
        drop(threads);
    }

    /// The number of handlers' threads that run or are not joined, and of connections. A thread
    /// that is being made is not among them.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        let inner = self.inner.lock();
        let threads = inner.threads.len() - inner.making;
        (threads, inner.connections.len())
    }

    /// Whether every handler's thread was joined.
    pub(crate) fn is_empty(&self) -> bool {
        self.inner.lock().threads.is_empty()
    }

    /// Whether every handler has returned. Its thread may still run.
    pub(crate) fn has_no_connections(&self) -> bool {
        self.inner.lock().connections.is_empty()
    }

    /// Every connection whose handler has not returned.
    pub(crate) fn open_connections(&self) -> Vec<ConnectionInfo> {
        let inner = self.inner.lock();
        inner.connections.values().map(Entry::info).collect()
    }

    /// From now on, clients that are admitted are drained at once. The caller drains the others.
    pub(crate) fn begin_drain(&self) {
        self.inner.lock().is_draining = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().is_closed
    }

    /// Visits every connection whose handler has not returned, without the lock: threads that a
    /// visit wakes ask for the lock next, and thousands of them would wake each other one by one. A
    /// connection that ends before its visit keeps no socket until then: its permit is back, and
    /// the next client may have come for that.
    pub(crate) fn for_each(&self, visit: impl FnMut(Arc<ConnectionState>)) {
        let states: Vec<_> = {
            let inner = self.inner.lock();
            let entries = inner.connections.values();
            entries.map(|entry| Arc::downgrade(&entry.state)).collect()
        };
        states.iter().filter_map(Weak::upgrade).for_each(visit);
    }

    /// The states of all connections whose handlers have not returned.
    pub(crate) fn states(&self) -> Vec<Arc<ConnectionState>> {
        let inner = self.inner.lock();
        let entries = inner.connections.values();
        entries.map(|entry| Arc::clone(&entry.state)).collect()
    }

    /// One tick of the watch over every connection. `leaving` is called once for each thread that
    /// announced its end and was not joined within `warn_after`, with its last connection.
    pub(crate) fn watch(
        &self,
        elapsed: Duration,
        listeners: &[ListenerState],
        warn_after: Duration,
        mut coalesce: Option<&mut Coalesce>,
        mut visit: impl FnMut(&Arc<ConnectionState>, Sample, &Watch, Finding),
        mut leaving: impl FnMut(&ConnectionInfo),
    ) {
        let inner = &mut *self.inner.lock();
        for entry in inner.connections.values_mut() {
            let sample = entry.state.sample();
            let limits = &listeners[entry.state.listener.index()].deadlines;
            let finding = entry.watch.step(sample, elapsed, limits);
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
            visit(&entry.state, sample, &entry.watch, finding);
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
                if before < warn_after && last.in_state >= warn_after {
                    leaving(last);
                }
            }
        }
    }

    /// The number of threads whose connection has ended or is being ended, idle threads included.
    pub(crate) fn leaving_threads(&self) -> usize {
        let inner = self.inner.lock();
        let serving = inner.connections.values();
        let serving =
            serving.filter(|entry| entry.thread.is_some() && entry.state.ended().is_none());
        inner
            .threads
            .len()
            .saturating_sub(serving.count() + inner.making)
    }

    /// The number of a listener's permits that connections still hold that have ended or are being
    /// ended.
    pub(crate) fn leaving_connections(&self, listener: usize) -> usize {
        let inner = self.inner.lock();
        let connections = inner.connections.values().map(|entry| &entry.state);
        let ending = connections
            .filter(|state| state.listener.index() == listener && state.ended().is_some());
        let threads = inner.threads.values();
        let ended = threads.filter(|thread| thread.listener.is_of(listener));
        ending.count() + ended.count()
    }

    /// The address with the most connections, of one listener or in all, and their number. Looks at
    /// every connection, so this is for a rate-limited log line only.
    pub(crate) fn busiest(&self, listener: Option<usize>) -> Option<(IpAddr, usize)> {
        let inner = self.inner.lock();
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        let is_counted =
            |entry: &&Entry| listener.is_none_or(|index| entry.state.listener.index() == index);
        for entry in inner.connections.values().filter(is_counted) {
            if let Some(address) = entry.state.peer().ip() {
                *counts.entry(address).or_default() += 1;
            }
        }
        counts.into_iter().max_by_key(|&(_, count)| count)
    }

    pub(crate) fn find(&self, id: u64) -> Option<Arc<ConnectionState>> {
        let inner = self.inner.lock();
        let entry = inner.connections.get(&id)?;
        Some(Arc::clone(&entry.state))
    }

    /// Every connection whose handler has not returned, and the last connection of each thread that
    /// announced its end at least a tick ago and is not joined. Sorted by id.
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

    pub(crate) fn counts(&self) -> TableCounts {
        self.inner.lock().counts()
    }

    /// All counts, and those of each listener by its index.
    pub(crate) fn read(&self) -> (TableCounts, Vec<ConnectionCounts>) {
        let inner = self.inner.lock();
        (inner.counts(), inner.rows.clone())
    }
}

impl Inner {
    fn take_listener_permit(&mut self, number: u64) -> ListenerPermit {
        let thread = self.threads.get_mut(&number);
        thread.map_or_else(ListenerPermit::default, |thread| {
            std::mem::take(&mut thread.listener)
        })
    }

    fn counts(&self) -> TableCounts {
        let mut all = ConnectionCounts::default();
        for row in &self.rows {
            all.accepted += row.accepted;
            all.starting += row.starting;
            all.rejected.add_all(&row.rejected);
            all.ended.add_all(&row.ended);
            all.unread_ended.add_all(&row.unread_ended);
            all.unread_rejected.add_all(&row.unread_rejected);
        }
        all.open = (self.connections.len() as u64).saturating_sub(all.starting);
        TableCounts {
            connections: all,
            accept_failures: self.accept_failures,
            unjoined: self.threads.len(),
            unjoined_peak: self.unjoined_peak,
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

    /// A server that reads and discards what its clients send.
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
    fn a_connection_that_ends_before_its_visit_keeps_no_socket_for_it() {
        let server = reads_all();
        let address = server.local_addrs()[0];
        let connect = |_| TcpStream::connect(address).unwrap();
        let mut clients: Vec<_> = (0..2).map(connect).collect();
        let end = Instant::now() + Duration::from_secs(60);
        let until = |holds: &dyn Fn() -> bool| {
            while !holds() {
                assert!(Instant::now() < end);
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        until(&|| server.stats().open == 2);
        let table = &server.shared.table;
        let mut visited = 0;
        table.for_each(|_| {
            visited += 1;
            clients.clear();
            until(&|| table.is_empty());
        });
        assert_eq!(visited, 1);
    }

    #[test]
    fn the_ledger_does_not_close_with_a_connection_left_out() {
        let left_out: [fn(&mut Inner); 6] = [
            |inner| inner.rows[0].starting += 1,
            |inner| inner.rows[0].accepted -= 1,
            |inner| inner.rows[0].accepted += 1,
            |inner| inner.rows[0].open -= 1,
            |inner| inner.rows[0].ended = Counters::default(),
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
