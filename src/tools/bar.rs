//! How far something is, on a terminal.

use indicatif::{ProgressBar, ProgressStyle};

/// A line on stderr that is drawn anew; nothing where stderr is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
}

impl Bar {
    /// `way`: what is done at the end.
    pub(super) fn new(way: u64) -> Bar {
        let bar = ProgressBar::new(way);
        if let Ok(style) = ProgressStyle::with_template("{bar:20} {percent:>3} % {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar { bar }
    }

    /// Shows that `done` of the way is done, with what `say` says of that.
    pub(super) fn show(&self, done: u64, say: impl FnOnce() -> String) {
        if !self.bar.is_hidden() {
            self.bar.set_message(say());
            self.bar.set_position(done);
        }
    }

    /// Takes the bar off the terminal while `say` writes a line.
    pub(super) fn say_above(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Takes the bar off the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
