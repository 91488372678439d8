//! What a start takes of memory before its server: the command line and the environment, which the
//! system puts on the stack, the configuration file, and what reading them takes.

use std::fs;

/// What an ordinary start takes, in bytes: it is part of what the limits count for any process.
const ORDINARY: u64 = 1 << 20;
/// In these steps, so that the limits do not tell one start from the next.
const STEP: u64 = 1 << 20;

/// What it took beyond that, in bytes, for the limits. To be asked before the files of TLS are
/// read, which the limits count. Measured, since words cost more by what reads them than by what
/// they are, a flag that is repeated some 600 bytes each time; and since a limit on the words would
/// have to be as low as the worst of them asks for.
pub(super) fn beyond_ordinary() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let took = peak_without_code(&status);
    took.saturating_sub(ORDINARY).next_multiple_of(STEP)
}

/// The most that has been resident, by proc_pid_status(5), without the pages of the program's file,
/// which are as many as the system has at hand.
fn peak_without_code(status: &str) -> u64 {
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib << 10)
    };
    let (peak, code) = (bytes("VmHWM:"), bytes("RssFile:"));
    peak.unwrap_or(0).saturating_sub(code.unwrap_or(0))
}
