//! A handler's thread, as those see it who hand it a connection. It serves one, and for a short while waits for
//! another one.
//!
//! Making and joining a thread costs two to three times what a short connection itself costs. A thread whose
//! connection ended well parks at the gate with its permit, and the next client is handed to it. A thread
//! whose connection was cut, met a deadline or panicked always ends and is joined.

use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use parking_lot::Mutex;

use super::connection_state::ConnectionState;
use crate::server::deadline::Deadline;

/// Runs an embedder's handler for a connection, to its end.
pub(crate) trait Serve: Send + Sync {
    /// Says whether the connection ended well: then its thread may serve another one.
    fn serve(&self, connection: Arc<ConnectionState>) -> bool;
}

/// A connection, and what serves it. Whoever has it holds the sending end of the buffer open.
pub(crate) struct Job {
    pub(crate) connection: Arc<ConnectionState>,
    pub(crate) handler: Arc<dyn Serve>,
}

/// What a parked thread is woken for.
pub(crate) enum Command {
    Serve(Job),
    Exit,
}

/// How often a thread whose patience is at its end, but that somebody has taken off its list this very moment, looks for
/// its command.
const COMMAND_IS_NEAR: Duration = Duration::from_millis(10);

/// One thread, as others see it.
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

    /// Whoever took it off the stack of parked threads gives it exactly one command, or puts it back.
    pub(crate) fn give(&self, command: Command) {
        *self.command.lock() = Some(command);
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }

    /// Parks this thread, the thread's, until it is given an command, at most for `patience`: then it calls `leave`, which
    /// takes it off the list that it waits on, and says whether it was still there. Both under the lock of those who
    /// take threads off: it is either given an command or gone. `None`: it is to end.
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

    /// It is this thread.
    pub(crate) fn bind_to_current_thread(&self) {
        let _ = self.thread.set(std::thread::current());
    }
}
