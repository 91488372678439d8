//! What the kernel says about a server and about itself.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;

use crate::Outcome;

/// Time on a processor of all threads that a process has or had, to the nanosecond.
pub(crate) fn cpu_time(pid: u32) -> Outcome<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
    Ok(Duration::from(clock.now()?))
}

pub(crate) fn peak_resident_bytes(pid: u32) -> Outcome<u64> {
    Ok(status(pid, "VmHWM:")? * 1024)
}

pub(crate) fn resident_bytes(pid: u32) -> Outcome<u64> {
    Ok(status(pid, "VmRSS:")? * 1024)
}

pub(crate) fn threads(pid: u32) -> Outcome<u64> {
    status(pid, "Threads:")
}

fn status(pid: u32, key: &str) -> Outcome<u64> {
    number(&format!("/proc/{pid}/status"), key)
}

/// The number after `key` in a file of lines.
fn number(path: &str, key: &str) -> Outcome<u64> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(key));
    let first = line.and_then(|line| line.split_whitespace().next());
    Ok(first.ok_or(format!("no {key} in {path}"))?.parse()?)
}

/// What the kernel holds for itself on the whole machine: stacks, page tables, sockets and what belongs to them.
pub(crate) fn kernel_bytes() -> Outcome<u64> {
    let mut kib = 0;
    for key in ["KernelStack:", "PageTables:", "SUnreclaim:"] {
        kib += number("/proc/meminfo", key)?;
    }
    Ok(kib * 1024)
}

/// Clients that found a listener's queue full, on the whole machine since it began.
pub(crate) fn listen_overflows() -> Outcome<u64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut rows = text.lines().filter_map(|line| line.strip_prefix("TcpExt:"));
    let (names, values) = (rows.next().unwrap_or(""), rows.next().unwrap_or(""));
    let at = names
        .split_whitespace()
        .position(|name| name == "ListenOverflows");
    let value = at.and_then(|at| values.split_whitespace().nth(at));
    Ok(value
        .ok_or("no ListenOverflows in /proc/net/netstat")?
        .parse()?)
}

/// Looks at a process's threads now and then, for the most that there were.
#[derive(Debug)]
pub(crate) struct ThreadWatch {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<u64>,
}

impl ThreadWatch {
    const EVERY: Duration = Duration::from_millis(100);

    pub(crate) fn start(pid: u32) -> ThreadWatch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = most.max(threads(pid).unwrap_or(0));
                thread::park_timeout(Self::EVERY);
            }
            most.max(threads(pid).unwrap_or(0))
        });
        ThreadWatch { stop, thread }
    }

    pub(crate) fn most(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.thread().unpark();
        self.thread.join().unwrap_or(0)
    }
}
