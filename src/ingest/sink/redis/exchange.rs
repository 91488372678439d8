//! What the sink and the thread of a connection share: how far it is, and the answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Condvar, Mutex};
use socket2::Socket;

use super::answer::Answer;
use super::wire::Wire;
use crate::ingest::sink::lookup::Lookup;
use crate::server::{Logger, Notifier};

/// The most runs of like answers that wait for the sink.
pub(super) const MAX_RUNS: usize = 256;

/// Answers of one kind that came one behind the other.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) answer: Answer,
    pub(super) count: u64,
}

/// How far a connection is.
#[derive(Debug)]
pub(super) enum Stage {
    Opening,
    Open(Arc<Wire>),
    /// For good: it could not be opened, or it was lost.
    Ended(String),
}

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) state: Mutex<State>,
    /// The sink has taken the answers, or gives the connection up.
    pub(super) taken: Condvar,
    pub(super) is_over: AtomicBool,
    /// What the thread does that the end does not wait for.
    pub(super) lookup: Lookup,
    pub(super) notifier: Notifier,
    pub(super) logger: Logger,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) stage: Stage,
    pub(super) runs: Vec<Run>,
    pub(super) was_open: bool,
    /// While there is one to shut down.
    pub(super) socket: Option<Arc<Socket>>,
}

impl Shared {
    pub(super) fn is_over(&self) -> bool {
        self.is_over.load(Ordering::Acquire)
    }

    /// The sink shuts the socket down to end whatever waits for it.
    pub(super) fn has_socket(&self, socket: &Arc<Socket>) -> Result<(), String> {
        self.state.lock().socket = Some(Arc::clone(socket));
        match self.is_over() {
            true => Err("given up".to_owned()),
            false => Ok(()),
        }
    }

    /// Commands may be sent.
    pub(super) fn is_open(&self, wire: &Arc<Wire>) {
        let mut state = self.state.lock();
        state.was_open = true;
        state.stage = Stage::Open(Arc::clone(wire));
        drop(state);
        self.notifier.notify();
    }

    /// Hands the answers over, and waits for the sink while it has too many.
    pub(super) fn publish(&self, runs: &mut Vec<Run>) {
        if runs.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        while state.runs.len() >= MAX_RUNS && !self.is_over() {
            self.notifier.notify();
            self.taken.wait(&mut state);
        }
        for run in runs.drain(..) {
            add(&mut state.runs, run.answer, run.count);
        }
        drop(state);
        self.notifier.notify();
    }
}

/// Adds to the last run, if that is of the same kind.
pub(super) fn add(runs: &mut Vec<Run>, answer: Answer, count: u64) {
    match runs.last_mut() {
        Some(last) if last.answer == answer => last.count += count,
        _ => runs.push(Run { answer, count }),
    }
}
