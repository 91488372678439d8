//! The clock of waits that stand still while the process does: a sender's, which must not lose its message
//! because the process was stopped.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::policy::RunningTime;

/// A [`RunningTime`] that the watchdog ticks. It is read where a wait begins and where one may be over.
#[derive(Debug)]
pub(crate) struct RunningClock {
    started: Instant,
    time: Mutex<RunningTime>,
}

impl RunningClock {
    pub(crate) fn new() -> Self {
        RunningClock {
            started: Instant::now(),
            time: Mutex::new(RunningTime::new(Duration::ZERO)),
        }
    }

    pub(crate) fn tick(&self) {
        let mut time = self.time.lock();
        time.tick(self.started.elapsed());
    }

    pub(crate) fn now(&self) -> Duration {
        let time = self.time.lock();
        time.at(self.started.elapsed())
    }
}
