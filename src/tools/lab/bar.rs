//! How far the lab is, on a terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::outcome::Point;

/// A line on stderr that is drawn anew; nothing where stderr is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    each: Duration,
}

impl Bar {
    /// For so many strategies, each for so long.
    pub(super) fn new(strategies: usize, each: Duration) -> Bar {
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(
            Some((each.as_millis() as u64) * strategies as u64),
            target,
        );
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} % {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar, each }
    }

    /// How things stand with the `nth` strategy.
    pub(super) fn show(&self, nth: usize, name: &str, point: &Point) {
        if self.bar.is_hidden() {
            return;
        }
        let each = self.each.as_millis() as u64;
        self.bar
            .set_position(each * nth as u64 + each.min(point.at.as_millis() as u64));
        self.bar.set_message(format!(
            "{name}: {} threads, {} MiB, {} messages in the buffer, {} delivered",
            point.threads,
            point.memory_bytes >> 20,
            point.buffered,
            point.delivered
        ));
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
