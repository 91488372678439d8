//! The progress of a load, on a terminal.

use std::time::Instant;

use super::super::bar::Bar;
use super::plan::Plan;
use super::shared::Progress;
use crate::cli::units::counted;

pub(super) struct LoadBar {
    bar: Bar,
    /// The whole way in messages; else the time is the way.
    messages: Option<u64>,
    millis: u64,
}

impl LoadBar {
    pub(super) fn new(plan: &Plan) -> LoadBar {
        // With a rate, the time says how many messages come.
        let messages = plan
            .messages
            .filter(|_| plan.duration.is_none())
            .map(|messages| messages.saturating_mul(plan.connections as u64));
        let millis = plan.duration.unwrap_or_default().as_millis() as u64;
        LoadBar {
            bar: Bar::new(messages.unwrap_or(millis)),
            messages,
            millis,
        }
    }

    pub(super) fn show(&self, progress: Progress) {
        let Some(start) = progress.start else {
            return self.bar.show(0, || "connecting".to_owned());
        };
        let elapsed = Instant::now().saturating_duration_since(start);
        let done = match self.messages {
            Some(_) => progress.messages,
            None => (elapsed.as_millis() as u64).min(self.millis),
        };
        self.bar.show(done, || {
            let rate = progress.messages as f64 / elapsed.as_secs_f64().max(1e-3);
            format!(
                "{}, {rate:.0}/s, {} through",
                counted(progress.messages, "message"),
                counted(progress.through, "connection")
            )
        });
    }

    /// Takes it off the terminal while a line is written.
    pub(super) fn say_above(&self, say: impl FnOnce()) {
        self.bar.say_above(say);
    }

    /// Takes it off the terminal.
    pub(super) fn clear(&self) {
        self.bar.clear();
    }
}
