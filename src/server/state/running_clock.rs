//! A clock that stands still while the process is stopped (SIGSTOP), so that
//! no message is lost to a send timeout that passed meanwhile.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::policy::RunningTime;

/// A [`RunningTime`] that the watchdog ticks, read when a send begins to wait and when its wait may
/// be over.
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
