//! When a consumer with nothing to do sleeps for a moment instead of waiting for the next item.

use std::time::Duration;

/// How often it is decided anew whether the consumer is busy.
const WINDOW: Duration = Duration::from_millis(100);
/// An item that holds no more than this is small: waking for it costs more than what it brings.
const SMALL_ITEM_BYTES: u64 = 4 << 10;

/// A sender that finds the consumer waiting has to wake it, which costs both of them more than a
/// small item itself does.
///
/// So it sleeps, while many small items come, and after a look that found more than one: then the
/// sleep will most likely find several again. Where little comes, latency counts, and where items
/// are large a wake-up is cheap.
#[derive(Clone, Debug)]
pub struct Linger {
    busy_items_per_second: f64,
    sleep: Duration,
    in_window: u64,
    since_empty: u64,
    window_began: Duration,
    is_busy: bool,
}

impl Linger {
    /// It acts from so many small items a second on, with a sleep of this length.
    pub fn new(busy_items_per_second: f64, sleep: Duration) -> Self {
        Linger {
            busy_items_per_second,
            sleep,
            in_window: 0,
            since_empty: 0,
            window_began: Duration::ZERO,
            is_busy: false,
        }
    }

    /// The consumer took an item that holds so many bytes.
    pub fn took(&mut self, bytes: u64) {
        if bytes <= SMALL_ITEM_BYTES {
            self.in_window += 1;
            self.since_empty += 1;
        }
    }

    /// The consumer found nothing at time `now`: how long it is to sleep, if at all.
    pub fn found_nothing(&mut self, now: Duration) -> Option<Duration> {
        let window = now.saturating_sub(self.window_began);
        if window >= WINDOW {
            self.is_busy =
                self.in_window as f64 >= self.busy_items_per_second * window.as_secs_f64();
            self.in_window = 0;
            self.window_began = now;
        }
        let found_several = std::mem::take(&mut self.since_empty) > 1;
        (self.is_busy && found_several).then_some(self.sleep)
    }
}
