//! The time of day as of the last tick: for handlers, which read no clock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time of day that the watchdog set at its last tick. Stands still while the process is
/// stopped.
#[derive(Debug)]
pub(crate) struct TickTime {
    nanos_since_epoch: AtomicU64,
}

impl TickTime {
    pub(crate) fn now() -> Self {
        let time = TickTime {
            nanos_since_epoch: AtomicU64::new(0),
        };
        time.tick();
        time
    }

    pub(crate) fn tick(&self) {
        // A clock before 1970 reads as 1970; 64 bits of nanoseconds last until 2554.
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanos = since_epoch.unwrap_or_default().as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        self.nanos_since_epoch.store(nanos, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(self.nanos_since_epoch.load(Ordering::Relaxed))
    }
}
