//! A handler's thread as the acceptors see it: they hand it a connection, and later perhaps
//! another.
//!
//! Making and joining a thread costs two to three times what a short connection itself costs. So a
//! thread whose connection ended well keeps its permit and waits a short while for the next client.
//! A thread whose connection was disconnected, missed a deadline or panicked always ends and is
//! joined.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::connection_state::ConnectionState;
use crate::server::deadline::Deadline;

/// Runs an embedder's handler for one connection.
pub(crate) trait Serve: Send + Sync {
    /// Blocks until the handler has returned. Returns whether the connection ended well, so that
    /// its thread may serve another.
    fn serve(&self, connection: Arc<ConnectionState>) -> bool;
}

/// A connection and the handler that is to serve it. As long as a job exists, the sending end of
/// the buffer stays open.
pub(crate) struct Job {
    pub(crate) connection: Arc<ConnectionState>,
    pub(crate) handler: Arc<dyn Serve>,
}

/// What an idle thread is woken for.
pub(crate) enum Command {
    Serve(Job),
    Exit,
}

/// How often a thread looks for its command whose idle time is over, but which an acceptor has
/// taken off the list at the same moment.
const COMMAND_IS_NEAR: Duration = Duration::from_millis(10);

/// The shared side of one handler's thread: its number, and the command it is to follow next.
pub(crate) struct HandlerThread {
    pub(crate) number: u64,
    thread: OnceLock<Thread>,
    command: Mutex<Option<Command>>,
}

impl HandlerThread {
    pub(crate) fn new(number: u64) -> Arc<Self> {
        Arc::new(HandlerThread {
            number,
            thread: OnceLock::new(),
            command: Mutex::new(None),
        })
    }

    /// Wakes the thread with a command. Whoever took a thread off a list of idle threads gives it
    /// exactly one command, or puts the thread back.
    pub(crate) fn give(&self, command: Command) {
        *self.command.lock() = Some(command);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Blocks the calling thread until it is given a command, for at most `max_idle`. Returns
    /// `None` when the thread is to end.
    ///
    /// When `max_idle` is over, `leave` takes the thread off the list of idle threads and returns
    /// whether the thread was still on the list. `leave` holds the lock under which acceptors take
    /// threads off, so a thread either is given a command or has left.
    pub(crate) fn wait_for_command(
        &self,
        max_idle: Duration,
        leave: impl Fn() -> bool,
    ) -> Option<Job> {
        let until = Deadline::after(max_idle);
        loop {
            match self.command.lock().take() {
                Some(Command::Serve(job)) => return Some(job),
                Some(Command::Exit) => return None,
                None => {}
            }
            match until.remaining(max_idle) {
                Some(left) => std::thread::park_timeout(left),
                None if leave() => return None,
                None => std::thread::park_timeout(COMMAND_IS_NEAR),
            }
        }
    }

    /// Must be called once by the thread itself, so that [`give`](HandlerThread::give) can wake it.
    pub(crate) fn bind_to_current_thread(&self) {
        let _ = self.thread.set(std::thread::current());
    }
}
