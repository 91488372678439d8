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
use crate::server::deadline::{Deadline, MAX_PARK};

/// Runs an embedder's handler for one connection.
pub(crate) trait Serve: Send + Sync {
    /// Blocks until the handler has returned. Returns whether the connection ended well, so that
    /// its thread may serve another.
    fn serve(&self, connection: Arc<ConnectionState>) -> bool;
}

/// A connection and the handler that is to serve it. As long as a job exists, the sending end of
/// the buffer stays open.
#[derive(Clone)]
pub(crate) struct Job {
    pub(crate) connection: Arc<ConnectionState>,
    pub(crate) handler: Arc<dyn Serve>,
}

/// What an idle thread is woken for.
pub(crate) enum Command {
    Serve(Job),
    Exit,
}

impl Command {
    /// `None` if the thread is to end.
    pub(super) fn job(self) -> Option<Job> {
        match self {
            Command::Serve(job) => Some(job),
            Command::Exit => None,
        }
    }
}

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

    /// Blocks the calling thread until it is given a command, for at most `max_wait`. `None` when
    /// that time is over: then the thread has to take itself off the list of idle threads, or, if
    /// somebody else has done that, follow its [next command](HandlerThread::next_command).
    pub(super) fn wait_for_command(&self, max_wait: Duration) -> Option<Command> {
        let until = Deadline::after(max_wait);
        loop {
            if let Some(command) = self.command.lock().take() {
                return Some(command);
            }
            std::thread::park_timeout(until.remaining(MAX_PARK)?);
        }
    }

    /// As [`wait_for_command`](HandlerThread::wait_for_command), for a command that is on its way.
    pub(super) fn next_command(&self) -> Command {
        loop {
            if let Some(command) = self.wait_for_command(MAX_PARK) {
                return command;
            }
        }
    }

    /// Must be called once by the thread itself, so that [`give`](HandlerThread::give) can wake it.
    pub(crate) fn bind_to_current_thread(&self) {
        let _ = self.thread.set(std::thread::current());
    }
}
