//! What a run of the lab may take of the machine.

use std::ops::RangeInclusive;
use std::time::Duration;

use crate::cli::units;
use crate::cli::usage::UsageError;

use super::super::args::check_descriptors;
use super::super::words;
use super::super::workload::{ClientPace, Crowd, Workload};
use super::outcome::Point;

/// A server that has so many, or so much, is stopped, whatever it does.
const MAX_THREADS: u64 = 3000;
const MAX_MEMORY: u64 = 2 << 30;
const MAX_DESCRIPTORS: u64 = 6000;

/// As many threads as a server may have when each client has one.
const MAX_CONNECTIONS: usize = 2000;
/// Messages a second over all connections.
const MAX_RATE_IN_ALL: u64 = 2_000_000;
const MAX_TIME: Duration = Duration::from_secs(600);
pub(super) const DURATIONS: RangeInclusive<Duration> = Duration::from_secs(1)..=MAX_TIME;
pub(super) const STALLS: RangeInclusive<Duration> = Duration::from_nanos(1)..=MAX_TIME;
pub(super) const STAYS: RangeInclusive<Duration> = Duration::from_millis(50)..=MAX_TIME;
pub(super) const SIZES: RangeInclusive<usize> = 1..=64 << 10;
pub(super) const RATES: RangeInclusive<u64> = 1..=1_000_000;
/// Of the lab itself, beside one for each client.
const OTHER_DESCRIPTORS: u64 = 64;

/// The first ceiling of a server that is reached, as people read it.
pub(super) fn ceiling_reached(point: &Point) -> Option<String> {
    if point.threads >= MAX_THREADS {
        Some(format!("{} threads", words::count(MAX_THREADS)))
    } else if point.memory_bytes >= MAX_MEMORY {
        let memory = units::print_size(MAX_MEMORY as usize);
        Some(format!("{memory} of memory"))
    } else if point.descriptors >= MAX_DESCRIPTORS {
        Some(format!("{} descriptors", words::count(MAX_DESCRIPTORS)))
    } else {
        None
    }
}

/// What is typed fits together, and fits this machine.
///
/// # Errors
/// The first contradiction.
pub(super) fn check(workload: &Workload) -> Result<(), UsageError> {
    let duration = workload.duration;
    let mut free_from = Duration::ZERO;
    for stall in &workload.sink.stalls {
        if stall.at >= duration {
            let line = format!(
                "--stall {stall}: it begins when the load is over (--duration {})",
                units::print_duration(duration)
            );
            return Err(UsageError::contradiction(&line));
        }
        if stall.at < free_from {
            let line = format!("--stall {stall}: it begins before the one before it has ended");
            return Err(UsageError::contradiction(&line));
        }
        free_from = stall.end();
    }
    check_system(workload)?;
    let rate = |crowd: &Crowd| match crowd.pace {
        ClientPace::Rate(rate) => rate.saturating_mul(crowd.connections as u64),
        ClientPace::Greedy | ClientPace::Drip => 0,
    };
    let all = workload
        .crowds
        .iter()
        .map(rate)
        .fold(0, u64::saturating_add);
    if all > MAX_RATE_IN_ALL {
        return Err(UsageError::contradiction(&format!(
            "--rate: {all} messages a second over all connections: the lab sends at most {MAX_RATE_IN_ALL}"
        )));
    }
    Ok(())
}

fn check_system(workload: &Workload) -> Result<(), UsageError> {
    let connections = workload.connections();
    if connections > MAX_CONNECTIONS {
        return Err(UsageError::contradiction(&format!(
            "--connections {connections}: the lab holds at most {MAX_CONNECTIONS} at once, so that a server that \
             leaks does not take the machine"
        )));
    }
    // A server needs one for each, too, and one that leaks needs more.
    let needed = connections as u64 * 2 + OTHER_DESCRIPTORS;
    check_descriptors(connections, needed)
}
