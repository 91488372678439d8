//! Child processes that do not outlive this one, unless it is killed.

use std::io;
use std::process::{Child, ExitStatus, Output};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RUNNING: Mutex<Vec<u32>> = Mutex::new(Vec::new());
static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// A child that is killed when this is dropped, and when this program is told to end.
#[derive(Debug)]
pub(crate) struct Owned(Option<Child>);

impl Owned {
    pub(crate) fn new(child: Child) -> Owned {
        list(|running| running.push(child.id()));
        Owned(Some(child))
    }

    pub(crate) fn id(&self) -> u32 {
        self.0.as_ref().map_or(0, Child::id)
    }

    /// How it ended, if it has.
    pub(crate) fn status(&mut self) -> io::Result<Option<ExitStatus>> {
        let child = self.0.as_mut().ok_or(io::ErrorKind::NotFound)?;
        child.try_wait()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        signal_to(self.id(), signal);
    }

    pub(crate) fn wait_with_output(mut self) -> io::Result<Output> {
        let Some(child) = self.0.take() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let id = child.id();
        let output = child.wait_with_output();
        list(|running| running.retain(|&other| other != id));
        output
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            list(|running| running.retain(|&other| other != child.id()));
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// SIGINT and SIGTERM end the children; what is being measured fails, and everything is cleared
/// away.
pub(crate) fn end_with_signals() -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    thread::spawn(move || {
        for _ in signals.forever() {
            IS_INTERRUPTED.store(true, Ordering::Relaxed);
            list(|running| running.iter().for_each(|&id| signal_to(id, Signal::KILL)));
        }
    });
    Ok(())
}

pub(crate) fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

fn list(change: impl FnOnce(&mut Vec<u32>)) {
    if let Ok(mut running) = RUNNING.lock() {
        change(&mut running);
    }
}

fn signal_to(id: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(id.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}
