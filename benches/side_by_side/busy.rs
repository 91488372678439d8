//! A machine that is busy: a process for each processor takes all the time it is given.
//!
//! The processes are this program, started with another argument.

use std::hint::black_box;
use std::os::unix::process::parent_id;
use std::process::{Command, Stdio};
use std::thread;

use crate::Outcome;
use crate::owned::Owned;

/// What this program is started with to be one of those processes.
pub(crate) const ARGUMENT: &str = "--spin";

/// The processes. They end when this is dropped.
#[derive(Debug)]
pub(crate) struct Busy(
    #[expect(dead_code, reason = "what it is for is to be held and dropped")] Vec<Owned>,
);

impl Busy {
    pub(crate) fn start() -> Outcome<Busy> {
        let program = std::env::current_exe()?;
        let spin = || -> Outcome<Owned> {
            let child = Command::new(&program)
                .arg(ARGUMENT)
                .stdin(Stdio::null())
                .spawn()?;
            Ok(Owned::new(child))
        };
        let processors = thread::available_parallelism()?.get();
        let processes: Outcome<Vec<Owned>> = (0..processors).map(|_| spin()).collect();
        Ok(Busy(processes?))
    }
}

/// What each does, for as long as the bench lives.
pub(crate) fn spin() -> Outcome<()> {
    /// Some milliseconds.
    const STEPS: u64 = 10_000_000;
    let bench = parent_id();
    while parent_id() == bench {
        for step in 0..STEPS {
            black_box(step);
        }
    }
    Ok(())
}
