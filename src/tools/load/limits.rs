//! What a load may ask for, and what the system holds.

use std::fs;
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

use crate::cli::units;
use crate::cli::usage::{self, Accepted, UsageError};

use super::plan::{Plan, Sizes};

const MAX_MESSAGE: usize = 64 << 20;
const MAX_WRITE: usize = 16 << 20;
const MAX_CONNECTIONS: usize = 1_000_000;
const FASTEST: u64 = 10_000_000;
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
/// Standard streams, an epoll and its kin for each thread, and what the libraries open.
const OTHER_DESCRIPTORS: u64 = 32;

/// Each setting in its range, and messages long enough for what is to be in them.
pub(super) fn check(plan: &Plan, threads: usize, accepted: Accepted) -> Result<(), UsageError> {
    let ranges = [
        (
            "connections",
            (1..=MAX_CONNECTIONS).contains(&plan.connections),
            plan.connections.to_string(),
        ),
        ("messages", plan.messages != Some(0), "0".to_owned()),
        (
            "duration",
            plan.duration
                .is_none_or(|time| (Duration::from_millis(1)..=LONGEST).contains(&time)),
            units::print_duration(plan.duration.unwrap_or_default()),
        ),
        (
            "rate",
            plan.rate.is_none_or(|rate| (1..=FASTEST).contains(&rate)),
            plan.rate.unwrap_or_default().to_string(),
        ),
        (
            "hold",
            plan.hold <= LONGEST,
            units::print_duration(plan.hold),
        ),
        (
            "timeout",
            plan.timeout
                .is_none_or(|time| (Duration::from_millis(100)..=LONGEST).contains(&time)),
            units::print_duration(plan.timeout.unwrap_or_default()),
        ),
        (
            "size",
            1 <= plan.sizes.shortest
                && plan.sizes.shortest <= plan.sizes.longest
                && plan.sizes.longest <= MAX_MESSAGE,
            print_sizes(&plan.sizes),
        ),
        (
            "write_size",
            (1..=MAX_WRITE).contains(&plan.write_size),
            units::print_size(plan.write_size),
        ),
        (
            "reconnect_every",
            plan.reconnect_every != Some(0),
            "0".to_owned(),
        ),
        ("threads", (1..=64).contains(&threads), threads.to_string()),
    ];
    usage::check_ranges(&ranges, accepted)?;
    if plan.sizes.shortest < plan.shortest() {
        let why = match (plan.numbered, plan.timestamped) {
            (true, true) => "--numbered and --timestamped need",
            (true, false) => "--numbered needs",
            _ => "--timestamped needs",
        };
        let accepted = format!("{} bytes or more ({why} them)", plan.shortest());
        return Err(UsageError::bad_value(
            "--size",
            &print_sizes(&plan.sizes),
            &accepted,
        ));
    }
    Ok(())
}

/// Whether this system holds so many connections.
pub(super) fn check_system(plan: &Plan) -> Result<(), UsageError> {
    let needed = plan.connections as u64 + plan.threads as u64 + OTHER_DESCRIPTORS;
    if let Some(limit) = getrlimit(Resource::Nofile).current
        && needed > limit
    {
        return Err(UsageError::contradiction(&format!(
            "--connections {}: {needed} descriptors are needed, the limit (ulimit -n) is {limit}",
            plan.connections
        )));
    }
    // One address has no more connections to one port than it has ports.
    let ports = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut ends = ports.split_whitespace().map(str::parse::<usize>);
    if let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next())
        && plan.connections > last - first + 1
    {
        return Err(UsageError::contradiction(&format!(
            "--connections {}: this machine has {} local ports (net.ipv4.ip_local_port_range)",
            plan.connections,
            last - first + 1
        )));
    }
    Ok(())
}

fn print_sizes(sizes: &Sizes) -> String {
    let (shortest, longest) = (
        units::print_size(sizes.shortest),
        units::print_size(sizes.longest),
    );
    if shortest == longest {
        shortest
    } else {
        format!("{shortest}-{longest}")
    }
}
