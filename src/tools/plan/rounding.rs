//! Values as people would set them.

use std::time::Duration;

/// No time that is set is longer.
pub(super) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

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
