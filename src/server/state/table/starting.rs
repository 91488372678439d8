//! From accept until a thread serves the client: clients that wait for threads, and threads that
//! have not begun.
//!
//! No lock is held while the system makes a thread. So a thread may be past its last line before
//! its JoinHandle is in the table: whichever of the two comes second tells the reaper.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::process::Pid;
use socket2::Socket;

use super::{Entry, Inner, Starting, Table, Thread};
use crate::policy::{Pace, Watch};
use crate::server::error::drop_caught;
use crate::server::ledger::RejectReason;
use crate::server::peer::Peer;
use crate::server::state::admission::{AddressPermit, ListenerPermit, Permit};
use crate::server::state::connection_state::{ConnectionState, ListenerName, unread_bytes};
use crate::server::state::handler_thread::{HandlerThread, Job, Serve};

/// A client that has waited this long for a thread that the system does not give is rejected.
pub(crate) const MAX_STARTING: Duration = Duration::from_secs(10);

/// A client that the kernel has handed over, and who is to serve it.
pub(crate) struct Client {
    pub(crate) socket: Socket,
    pub(crate) peer: Peer,
    pub(crate) listener: ListenerName,
    pub(crate) address: AddressPermit,
    pub(crate) listener_permit: ListenerPermit,
    pub(crate) handler: Arc<dyn Serve>,
    /// Something comes before the peer's own bytes.
    pub(crate) has_opening: bool,
    /// Nothing is ever written to the peer.
    pub(crate) is_one_way: bool,
}

/// A client that was rejected after it had entered the table. Dropped without the table's lock:
/// that returns its permits, and may drop the last of the embedder's handler.
pub(crate) struct Rejected {
    pub(crate) peer: Peer,
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

    /// Enters a client that the thread of this number is to serve. `None` if the client was
    /// rejected, because nobody is admitted any more.
    pub(crate) fn enter(&self, client: Client, number: u64) -> Option<Job> {
        let mut inner = self.inner.lock();
        match inner.enter(client) {
            Ok(job) => {
                inner.serve(job.connection.id, number);
                Some(job)
            }
            Err(rejected) => {
                drop(inner);
                drop(rejected);
                None
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
            listener: ListenerPermit::default(),
            last: None,
            is_leaving: false,
        };
        inner.threads.insert(inner.last_thread, thread);
        Some((HandlerThread::new(inner.last_thread), job))
    }

    /// Whether the system has refused a thread, and has given none since.
    pub(crate) fn lacks_thread(&self) -> bool {
        self.lacks_thread.load(Ordering::Acquire)
    }

    /// A number that changes whenever a thread has begun or was joined: the system may have one to
    /// give again.
    pub(crate) fn thread_changes(&self) -> u64 {
        self.thread_changes.load(Ordering::Acquire)
    }

    /// Must be called by a new thread before anything else. `None` if the thread is not expected,
    /// because a spawner that runs it has said that it was refused: then it serves nobody.
    /// Otherwise, whether the system had refused threads, and acceptors are to be woken.
    pub(crate) fn begun(&self, number: u64) -> Option<bool> {
        let inner = &mut *self.inner.lock();
        let (job, _) = inner.threads.get_mut(&number)?.first.take()?;
        inner.making -= 1;
        inner.unjoined_peak = inner.unjoined_peak.max(inner.threads.len());
        inner.serve(job.connection.id, number);
        self.thread_changes.fetch_add(1, Ordering::AcqRel);
        Some(self.lacks_thread.swap(false, Ordering::AcqRel))
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
    /// that runs. Does nothing if that was said before.
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
            self.lacks_thread.store(true, Ordering::Release);
        }
        None
    }

    /// Where nobody waits for a thread any more, whether the system has threads again is for the
    /// next client to show.
    pub(crate) fn forget_refusal(&self) {
        let inner = self.inner.lock();
        if inner.starting.is_empty() && inner.making == 0 {
            self.lacks_thread.store(false, Ordering::Release);
        }
    }

    /// Hands the client that has waited longest for a thread to one that runs already. The permit
    /// that the client came with is returned, and so is that of the listener whose connection ended
    /// on the thread.
    pub(crate) fn take_starting(&self, number: u64) -> Option<Job> {
        let mut inner = self.inner.lock();
        let Starting { job, permit, .. } = inner.starting.pop_front()?;
        inner.serve(job.connection.id, number);
        let ended = inner.take_listener_permit(number);
        drop(inner);
        drop((permit, ended));
        Some(job)
    }

    /// From now on nobody is admitted, and clients that wait for threads are rejected. `None` if
    /// that is not new.
    pub(crate) fn close(&self) -> Option<Vec<Rejected>> {
        let inner = &mut *self.inner.lock();
        if std::mem::replace(&mut inner.is_closed, true) {
            return None;
        }
        let starting = std::mem::take(&mut inner.starting);
        let reject = |starting| inner.reject(starting, RejectReason::Shutdown);
        Some(starting.into_iter().map(reject).collect())
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
    /// Adds a connection, which nobody serves yet. Where nobody is admitted any more, counts the
    /// client as rejected and returns it.
    fn enter(&mut self, client: Client) -> Result<Job, Box<Client>> {
        if self.is_closed {
            let unread_bytes = unread_bytes(&client.socket);
            self.rows[client.listener.index()].reject(RejectReason::Shutdown, 1, unread_bytes);
            return Err(Box::new(client));
        }
        let Client {
            socket,
            peer,
            listener,
            address,
            listener_permit,
            handler,
            has_opening,
            is_one_way,
        } = client;
        self.last_id += 1;
        self.rows[listener.index()].starting += 1;
        let connection = Arc::new(ConnectionState::new(self.last_id, peer, socket, listener));
        if is_one_way {
            connection.leave.set_one_way();
        }
        if has_opening {
            connection.begin_opening();
        }
        if self.is_draining {
            connection.drain_late();
        }
        let entry = Entry {
            state: Arc::clone(&connection),
            watch: Watch::default(),
            pace: Pace::default(),
            thread: None,
            address,
            listener: listener_permit,
        };
        self.connections.insert(self.last_id, entry);
        Ok(Job {
            connection,
            handler,
        })
    }

    /// A thread begins to serve a connection: the client is accepted.
    fn serve(&mut self, id: u64, thread: u64) {
        if let Some(entry) = self.connections.get_mut(&id) {
            entry.thread = Some(thread);
            let row = &mut self.rows[entry.state.listener.index()];
            row.starting -= 1;
            row.accepted += 1;
            row.open += 1;
        }
    }

    /// Counts a client as rejected that was to be given a thread.
    pub(super) fn reject(&mut self, starting: Starting, reason: RejectReason) -> Rejected {
        let connection = &starting.job.connection;
        let row = &mut self.rows[connection.listener.index()];
        row.starting -= 1;
        row.reject(reason, 1, connection.unread_bytes());
        Rejected {
            peer: connection.peer(),
            _entry: self.connections.remove(&connection.id),
            _starting: starting,
        }
    }
}
