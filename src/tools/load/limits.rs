//! What a load may ask for, and what the system holds.

use std::fs;

use rustix::process::{Resource, getrlimit};

use crate::cli::usage::UsageError;

use super::plan::Plan;

/// Standard streams, an epoll and its kin for each thread, and what the libraries open.
const OTHER_DESCRIPTORS: u64 = 32;

/// Messages have to be long enough for what is to be in them.
///
/// # Errors
/// They are shorter.
pub(super) fn check(plan: &Plan) -> Result<(), UsageError> {
    if plan.sizes.shortest < plan.shortest() {
        let why = match (plan.numbered, plan.timestamped) {
            (true, true) => "--numbered and --timestamped need",
            (true, false) => "--numbered needs",
            _ => "--timestamped needs",
        };
        let accepted = format!("{} bytes or more ({why} them)", plan.shortest());
        return Err(UsageError::bad_value(
            "--size",
            &plan.sizes.to_string(),
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
