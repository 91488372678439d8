//! One connection: a thread that opens it and then reads its answers.

use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::exchange::{Run, Shared, Stage, State};
use super::opening;
use super::reading::Reading;
use super::target::Target;
use crate::ingest::sink::lookup::Lookup;
use crate::server::{Logger, Notifier};

/// How long the end of a connection's thread is waited for, unless it resolves a name.
const JOIN_WAIT: Duration = Duration::from_secs(1);

/// The sink's end of it. Drop ends it, and waits for its thread at most a second, and not at all
/// while that resolves a name.
#[derive(Debug)]
pub(super) struct Connection {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Connection {
    /// Begins to connect, on a thread.
    pub(super) fn open(
        target: &Arc<Target>,
        notifier: Notifier,
        logger: Logger,
    ) -> io::Result<Connection> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                stage: Stage::Opening,
                runs: Vec::new(),
                was_open: false,
                socket: None,
            }),
            taken: Condvar::new(),
            is_over: AtomicBool::new(false),
            lookup: Lookup::default(),
            notifier,
            logger,
        });
        let thread = thread::Builder::new().name("redis".to_owned()).spawn({
            let (shared, target) = (Arc::clone(&shared), Arc::clone(target));
            move || run(&target, &shared)
        })?;
        Ok(Connection {
            shared,
            thread: Some(thread),
        })
    }

    /// Whether it was open, and has ended.
    pub(super) fn has_ended_well(&self) -> bool {
        let state = self.shared.state.lock();
        state.was_open && matches!(state.stage, Stage::Ended(_)) && state.runs.is_empty()
    }

    /// Moves the answers that have come to `runs`, and says how far the connection is. Of one that
    /// has ended these are the last.
    pub(super) fn take(&self, runs: &mut Vec<Run>) -> Stage {
        let mut state = self.shared.state.lock();
        runs.append(&mut state.runs);
        self.shared.taken.notify_one();
        match &state.stage {
            Stage::Opening => Stage::Opening,
            Stage::Open(wire) => Stage::Open(Arc::clone(wire)),
            Stage::Ended(why) => Stage::Ended(why.clone()),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Release);
        let socket = {
            let state = self.shared.state.lock();
            self.shared.taken.notify_one();
            state.socket.clone()
        };
        if let Some(socket) = socket {
            // Ends its connect(2), too.
            let _ = socket.shutdown(Shutdown::Both);
        }
        let Some(thread) = self.thread.take() else {
            return;
        };
        self.shared.lookup.join(thread, Instant::now() + JOIN_WAIT);
    }
}

/// Tells the sink that the thread has ended, also if it panicked.
struct Ending<'a> {
    shared: &'a Shared,
    why: String,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.stage = Stage::Ended(std::mem::take(&mut self.why));
        state.socket = None;
        drop(state);
        self.shared.notifier.notify();
    }
}

/// The thread.
fn run(target: &Target, shared: &Shared) {
    let mut ending = Ending {
        shared,
        why: "the thread that reads answers has panicked".to_owned(),
    };
    ending.why = opened(target, shared).unwrap_or_else(|why| why);
}

/// Returns why the connection is over, and fails if it never was of use.
fn opened(target: &Target, shared: &Shared) -> Result<String, String> {
    let wire = Arc::new(opening::open(target, shared)?);
    let mut reading = Reading::new(target, &wire, shared);
    opening::greet(target, &wire, &mut reading, &shared.logger)?;
    shared.is_open(&wire);
    Ok(reading.run())
}
