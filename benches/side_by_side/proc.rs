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

pub(crate) use shared::{is_listening, peak_resident_bytes, resident_bytes, threads};

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

/// Open descriptors. The kernel says how many as the size of the folder (since Linux 6.2), which
/// costs the process nothing; an older one has them counted.
pub(crate) fn open_descriptors(pid: u32) -> Outcome<u64> {
    match fs::metadata(format!("/proc/{pid}/fd"))?.len() {
        0 => Ok(shared::descriptors(pid)?),
        open => Ok(open),
    }
}

/// What happened to connects, on the whole machine since it began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TcpCounters {
    /// A listener's queue was full.
    pub(crate) listen_overflows: u64,
    /// A SYN, or the answer to one, was sent again: the first time after a second.
    pub(crate) syn_retries: u64,
}

impl TcpCounters {
    pub(crate) fn now() -> Outcome<TcpCounters> {
        TcpCounters::read(&fs::read_to_string("/proc/net/netstat")?)
    }

    pub(crate) fn since(before: TcpCounters) -> Outcome<TcpCounters> {
        let now = TcpCounters::now()?;
        Ok(TcpCounters {
            listen_overflows: now.listen_overflows - before.listen_overflows,
            syn_retries: now.syn_retries - before.syn_retries,
        })
    }

    /// From two lines: names, and their values.
    fn read(netstat: &str) -> Outcome<TcpCounters> {
        let mut rows = netstat
            .lines()
            .filter_map(|line| line.strip_prefix("TcpExt:"))
            .map(str::split_whitespace);
        let (names, values) = rows.next().zip(rows.next()).ok_or("no TcpExt")?;
        let rows: Vec<(&str, &str)> = names.zip(values).collect();
        let value = |wanted: &str| -> Outcome<u64> {
            let row = rows.iter().find(|(name, _)| *name == wanted);
            let (_, value) = row.ok_or_else(|| format!("no {wanted} in /proc/net/netstat"))?;
            Ok(value.parse()?)
        };
        Ok(TcpCounters {
            listen_overflows: value("ListenOverflows")?,
            syn_retries: value("TCPSynRetrans")?,
        })
    }
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
