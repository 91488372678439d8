//! How far the lab is, on a terminal.

use std::time::Duration;

use super::super::bar::Bar;
use super::outcome::Point;

/// Of all strategies, one after the other.
pub(super) struct LabBar {
    bar: Bar,
    each: Duration,
}

impl LabBar {
    /// For so many strategies, each for so long.
    pub(super) fn new(strategies: usize, each: Duration) -> LabBar {
        LabBar {
            bar: Bar::new((each.as_millis() as u64) * strategies as u64),
            each,
        }
    }

    /// How things stand with the `nth` strategy.
    pub(super) fn show(&self, nth: usize, name: &str, point: &Point) {
        let each = self.each.as_millis() as u64;
        let done = each * nth as u64 + each.min(point.at.as_millis() as u64);
        self.bar.show(done, || {
            format!(
                "{name}: {} threads, {} MiB, {} messages in the buffer, {} delivered",
                point.threads,
                point.memory_bytes >> 20,
                point.buffered,
                point.delivered
            )
        });
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        self.bar.clear();
    }
}
