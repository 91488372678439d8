//! What is decided for the inputs: settings, the reason for each, and what they promise; with
//! values as people would set them.

use std::time::Duration;

use drainline::{Config, ranges};

/// Settings, and what they are good for.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) config: Config,
    pub(crate) max_message: usize,
    pub(crate) promise: Promise,
    /// Every setting that was decided.
    pub(crate) decided: Vec<Decided>,
}

/// A flag, its value and the reason for it.
#[derive(Clone, Debug)]
pub(crate) struct Decided {
    pub(crate) flag: &'static str,
    pub(crate) value: String,
    pub(crate) why: String,
}

/// What becomes of the messages.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Promise {
    /// Nothing is lost. Senders are held up for the last so much of a stall: zero, not at all.
    Lossless { held: Duration },
    /// Nothing is lost, because senders are held to the rate of the sink. They keep the rest.
    Held { rest_per_second: u64 },
    /// More arrives than the sink takes, and senders are not made to wait.
    Loses { per_second: u64 },
    /// The simulation loses so many, whatever was computed.
    Unkept { lost: u64 },
}

impl Promise {
    pub(crate) fn loses_nothing(self) -> bool {
        !matches!(self, Promise::Loses { .. } | Promise::Unkept { .. })
    }
}

impl Settings {
    /// As they can be typed.
    pub(crate) fn flags(&self) -> Vec<String> {
        let words = |decided: &Decided| [decided.flag.to_owned(), decided.value.clone()];
        self.decided.iter().flat_map(words).collect()
    }

    pub(super) fn decide(&mut self, flag: &'static str, value: String, why: String) {
        self.decided.push(Decided { flag, value, why });
    }
}

/// No time that is set is longer.
pub(super) const DAY: Duration = *ranges::SEND_TIMEOUT.end();

/// To two digits.
pub(super) fn round_up(value: u64) -> u64 {
    value.div_ceil(unit(value)) * unit(value)
}

pub(super) fn round_down(value: u64) -> u64 {
    value / unit(value) * unit(value)
}

/// Of its second digit.
fn unit(value: u64) -> u64 {
    let mut unit = 1;
    while value / unit >= 100 {
        unit *= 10;
    }
    unit
}

/// Rounded up.
pub(super) fn whole_seconds(time: Duration) -> Duration {
    Duration::from_secs(time.as_secs() + u64::from(time.subsec_nanos() > 0))
}
