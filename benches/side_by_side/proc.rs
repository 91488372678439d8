//! What the kernel says about a server and about itself.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;
use nix::time::clock_getcpuclockid;
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;

use crate::Outcome;

#[path = "../../src/tools/proc.rs"]
mod shared;

pub(crate) use shared::{is_listening, peak_resident_bytes, resident_bytes};

/// Time on a processor of all threads that a process has or had, to the nanosecond.
pub(crate) fn cpu_time(pid: u32) -> Outcome<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(pid.cast_signed()))?;
    Ok(Duration::from(clock.now()?))
}

/// What the kernel holds for itself on the whole machine: stacks, page tables, sockets and what
/// belongs to them.
pub(crate) fn kernel_bytes() -> Outcome<u64> {
    let mut kib = 0;
    for key in ["KernelStack:", "PageTables:", "SUnreclaim:"] {
        kib += shared::number("/proc/meminfo", key)?;
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

/// Processor time since some moment: of everybody, and of this process with all that it has waited
/// for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MachineTime {
    everybody: Duration,
    ours: Duration,
    at: Instant,
}

impl MachineTime {
    pub(crate) fn now() -> Outcome<MachineTime> {
        let text = fs::read_to_string("/proc/stat")?;
        let numbers = text.lines().next().unwrap_or("").split_whitespace().skip(1);
        let ticks: Vec<u64> = numbers.map(str::parse).collect::<Result<_, _>>()?;
        // user, nice, system, (idle, iowait,) irq, softirq, steal; what follows is in user already
        // (proc_stat(5)).
        let [user, nice, system, _, _, irq, softirq, steal, ..] = ticks[..] else {
            return Err("/proc/stat has another form".into());
        };
        let busy = user + nice + system + irq + softirq + steal;
        let mut ours = Duration::ZERO;
        for who in [UsageWho::RUSAGE_SELF, UsageWho::RUSAGE_CHILDREN] {
            let usage = getrusage(who)?;
            for time in [usage.user_time(), usage.system_time()] {
                ours += Duration::from_micros(time.num_microseconds().cast_unsigned());
            }
        }
        Ok(MachineTime {
            everybody: Duration::from_secs_f64(busy as f64 / clock_ticks_per_second() as f64),
            ours,
            at: Instant::now(),
        })
    }

    /// The share of the machine that went to others since then. Whoever was a child has to be
    /// waited for.
    pub(crate) fn others_since(before: MachineTime) -> Outcome<f64> {
        let now = MachineTime::now()?;
        let everybody = (now.everybody - before.everybody).as_secs_f64();
        let others = everybody - (now.ours - before.ours).as_secs_f64();
        let processors = thread::available_parallelism()?.get() as f64;
        let most = (now.at - before.at).as_secs_f64() * processors;
        Ok((others / most).max(0.0))
    }
}

/// Looks at a process's threads now and then, for the most that there were. Ends when it is
/// dropped.
#[derive(Debug)]
pub(crate) struct ThreadWatch {
    stop: Arc<AtomicBool>,
    most: Arc<AtomicU64>,
}

impl ThreadWatch {
    const EVERY: Duration = Duration::from_millis(100);

    pub(crate) fn start(pid: u32) -> ThreadWatch {
        let watch = ThreadWatch {
            stop: Arc::default(),
            most: Arc::default(),
        };
        let (stop, most) = (Arc::clone(&watch.stop), Arc::clone(&watch.most));
        thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                most.fetch_max(shared::threads(pid).unwrap_or(0), Ordering::Relaxed);
                thread::sleep(Self::EVERY);
            }
        });
        watch
    }

    pub(crate) fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }
}

impl Drop for ThreadWatch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
