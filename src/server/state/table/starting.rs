//! Clients that were accepted and wait for their threads, and threads until they have begun.
//!
//! No lock is held while the system makes a thread. So a thread may be past its last line before
//! its JoinHandle is in the table: whichever of the two comes second tells the reaper.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Pid;

use super::{Client, Entry, Inner, Table, Thread};
use crate::server::error::drop_caught;
use crate::server::ledger::RejectReason;
use crate::server::state::admission::Permit;
use crate::server::state::handler_thread::{HandlerThread, Job};

/// A client that has waited this long for a thread that the system does not give is rejected.
pub(crate) const MAX_STARTING: Duration = Duration::from_secs(10);

/// A client that is in the table and whose thread is still to be made.
pub(super) struct Starting {
    job: Job,
    permit: Permit,
    /// When the client was accepted, by the server's clock.
    since: Duration,
}

/// A client that was rejected after it had entered the table. Dropped without the table's lock:
/// that returns its permits, and may drop the last of the embedder's handler.
pub(crate) struct Rejected {
    pub(crate) peer: SocketAddr,
    _starting: Starting,
    _entry: Option<Entry>,
}

impl Table {
    /// Enters a client that waits for its thread, or rejects it if nobody is admitted any more.
    pub(crate) fn enter_starting(&self, client: Client, permit: Permit, since: Duration) {
        let mut inner = self.inner.lock();
        match inner.enter(client) {
            Ok(job) => inner.starting.push_back(Starting { job, permit, since }),
            Err(rejected) => {
                // The permits are returned without the lock, because that wakes acceptors.
                drop(inner);
                drop((rejected, permit));
            }
        }
    }

    /// Takes the client that has waited longest for its thread, unless enough threads are being
    /// made. The caller makes the thread, and then says that it is [made](Table::made) or
    /// [refused](Table::refused).
    pub(crate) fn next_thread(&self) -> Option<(Arc<HandlerThread>, Job)> {
        let inner = &mut *self.inner.lock();
        if inner.making >= self.max_making {
            return None;
        }
        let Starting { job, permit, since } = inner.starting.pop_front()?;
        inner.making += 1;
        inner.last_thread += 1;
        let thread = Thread {
            first: Some((job.clone(), since)),
            handle: None,
            is_made: false,
            left: None,
            permit,
            last: None,
            is_leaving: false,
        };
        inner.threads.insert(inner.last_thread, thread);
        Some((HandlerThread::new(inner.last_thread), job))
    }

    /// Must be called by a new thread before anything else.
    pub(crate) fn begun(&self, number: u64) {
        let inner = &mut *self.inner.lock();
        let first = inner
            .threads
            .get_mut(&number)
            .and_then(|thread| thread.first.take());
        if let Some((job, _)) = first {
            inner.making -= 1;
            inner.counts.unjoined_peak = inner.counts.unjoined_peak.max(inner.threads.len());
            inner.serve(job.connection.id, number);
        }
    }

    /// Keeps the JoinHandle of a thread that was made. Returns the thread's id in the kernel if it
    /// has left already: then the caller tells the reaper.
    pub(crate) fn made(&self, number: u64, handle: Option<JoinHandle<()>>) -> Option<Pid> {
        let mut inner = self.inner.lock();
        let thread = inner.threads.get_mut(&number)?;
        thread.handle = handle;
        thread.is_made = true;
        thread.left
    }

    /// The system refused the thread: its client is the next again, or rejected where nobody is
    /// admitted any more. Returns what [`made`](Table::made) does if a spawner said so of a thread
    /// that runs.
    pub(crate) fn refused(&self, number: u64) -> Option<Pid> {
        let mut guard = self.inner.lock();
        let inner = &mut *guard;
        let Some((job, since)) = inner.threads.get_mut(&number)?.first.take() else {
            drop(guard);
            return self.made(number, None);
        };
        inner.making -= 1;
        let permit = inner.threads.remove(&number)?.permit;
        let starting = Starting { job, permit, since };
        if inner.is_closed {
            let rejected = inner.reject(starting, RejectReason::Shutdown);
            drop(guard);
            drop_caught(rejected);
        } else {
            inner.starting.push_front(starting);
        }
        None
    }

    /// Hands the client that has waited longest for a thread to one that runs already. The permit
    /// that the client came with is returned.
    pub(crate) fn take_starting(&self, number: u64) -> Option<Job> {
        let mut inner = self.inner.lock();
        let Starting { job, permit, .. } = inner.starting.pop_front()?;
        inner.serve(job.connection.id, number);
        drop(inner);
        drop(permit);
        Some(job)
    }

    /// Whether clients wait for threads, or for threads that are being made.
    pub(crate) fn has_starting(&self) -> bool {
        let inner = self.inner.lock();
        !inner.starting.is_empty() || inner.making > 0
    }

    /// Rejects the clients that have waited for their threads since `then` or before.
    pub(crate) fn reject_starting_since(&self, then: Duration) -> Vec<Rejected> {
        let inner = &mut *self.inner.lock();
        let count = inner
            .starting
            .iter()
            .take_while(|starting| starting.since <= then);
        let late: Vec<_> = inner.starting.drain(..count.count()).collect();
        let reject = |starting| inner.reject(starting, RejectReason::NoThread);
        late.into_iter().map(reject).collect()
    }
}

impl Inner {
    /// Counts a client as rejected that was to be given a thread.
    pub(super) fn reject(&mut self, starting: Starting, reason: RejectReason) -> Rejected {
        let connection = &starting.job.connection;
        self.counts.starting -= 1;
        self.counts.reject(reason, 1, connection.unread_bytes());
        Rejected {
            peer: connection.peer,
            _entry: self.connections.remove(&connection.id),
            _starting: starting,
        }
    }
}
