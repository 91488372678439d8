//! A lock that thousands of threads may want at once, on a machine with few idle processors.

use parking_lot::{Mutex, MutexGuard};

/// Attempts before a waiter goes to sleep after all: by then the holder is not about to run.
const MAX_YIELDS: u32 = 1_000;

/// A mutex whose waiters yield their processor instead of sleeping.
///
/// Critical sections are short, unless the holder is preempted. With a plain mutex all that ask for
/// the lock meanwhile would fall asleep in a queue, which only moves as each sleeper is woken and
/// scheduled in its turn: a wait of milliseconds becomes seconds for the last of thousands.
#[derive(Debug, Default)]
pub(crate) struct CrowdLock<T>(Mutex<T>);

impl<T> CrowdLock<T> {
    pub(crate) fn new(value: T) -> Self {
        CrowdLock(Mutex::new(value))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
        for _ in 0..MAX_YIELDS {
            if let Some(guard) = self.try_lock() {
                return guard;
            }
            std::thread::yield_now();
        }
        self.0.lock()
    }

    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
        self.0.try_lock()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::fs;
    use std::sync::mpsc;
    use std::thread;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn whoever_waits_long_falls_asleep() {
        let lock = CrowdLock::new(());
        let (tell, told) = mpsc::channel();
        thread::scope(|scope| {
            let held = lock.lock();
            scope.spawn(|| {
                let this = fs::canonicalize("/proc/thread-self").unwrap();
                tell.send(this).unwrap();
                drop(lock.lock());
            });
            let status = told.recv().unwrap().join("status");
            let is_asleep = || fs::read_to_string(&status).unwrap().contains("State:\tS");
            let end = Instant::now() + Duration::from_secs(60);
            while !is_asleep() && Instant::now() < end {
                thread::yield_now();
            }
            let is_asleep = is_asleep();
            drop(held);
            assert!(is_asleep);
        });
    }
}
