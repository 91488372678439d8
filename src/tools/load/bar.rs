//! The progress of a load, on a terminal.

use std::io::IsTerminal;
use std::time::Instant;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::plan::Plan;
use super::shared::Progress;
use crate::cli::units::counted;

/// A line on stderr that is drawn anew; nothing where stderr is no terminal.
pub(super) struct Bar {
    bar: ProgressBar,
    /// The whole way in messages; else the time is the way.
    messages: Option<u64>,
    millis: u64,
}

impl Bar {
    pub(super) fn new(plan: &Plan) -> Bar {
        // With a rate, the time says how many messages come.
        let messages = plan
            .messages
            .filter(|_| plan.duration.is_none())
            .map(|messages| messages.saturating_mul(plan.connections as u64));
        let millis = plan.duration.unwrap_or_default().as_millis() as u64;
        let target = match std::io::stderr().is_terminal() {
            true => ProgressDrawTarget::stderr(),
            false => ProgressDrawTarget::hidden(),
        };
        let bar = ProgressBar::with_draw_target(Some(messages.unwrap_or(millis)), target);
        if let Ok(style) = ProgressStyle::with_template("{bar:30} {percent:>3} % {msg}") {
            bar.set_style(style.progress_chars("=> "));
        }
        Bar {
            bar,
            messages,
            millis,
        }
    }

    pub(super) fn show(&self, progress: Progress) {
        if self.bar.is_hidden() {
            return;
        }
        let Some(start) = progress.start else {
            return self.bar.set_message("connecting");
        };
        let elapsed = Instant::now().saturating_duration_since(start);
        let position = match self.messages {
            Some(_) => progress.messages,
            None => (elapsed.as_millis() as u64).min(self.millis),
        };
        let rate = progress.messages as f64 / elapsed.as_secs_f64().max(1e-3);
        self.bar.set_message(format!(
            "{}, {rate:.0}/s, {} through",
            counted(progress.messages, "message"),
            counted(progress.through, "connection")
        ));
        self.bar.set_position(position);
    }

    /// Takes it off the terminal while a line is written.
    pub(super) fn say_above(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        self.bar.finish_and_clear();
    }
}
