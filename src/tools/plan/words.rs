//! How what is computed is said.

use std::time::Duration;

use crate::cli::units;

pub(super) use super::super::words::{count, rate};

/// A measured or computed time, as people say it.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 600.0 => units::print_duration(Duration::from_secs(seconds.round() as u64)),
        _ if seconds >= 9.95 => format!("{seconds:.0} s"),
        _ if seconds >= 0.95 => format!("{seconds:.1} s"),
        _ => format!("{:.0} ms", seconds * 1e3),
    }
}
