//! What the kernel says about a process, read from /proc by its id.
//!
//! Each reading panics when the process is gone or, where memory is asked for, has ended and was
//! not waited for.

use std::fs;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::process::Signal;

#[path = "../../src/tools/proc.rs"]
mod shared;

/// Threads that the kernel still lists. A joined thread stays on the list for a moment.
#[track_caller]
pub fn threads(pid: u32) -> u64 {
    shared::threads(pid).unwrap()
}

/// Open descriptors.
#[track_caller]
pub fn descriptors(pid: u32) -> u64 {
    shared::descriptors(pid).unwrap()
}

/// The numbers of its open descriptors, sorted.
#[track_caller]
pub fn descriptor_numbers(pid: u32) -> Vec<u64> {
    let path = format!("/proc/{pid}/fd");
    let entries = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let mut numbers: Vec<u64> = entries
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .collect();
    numbers.sort_unstable();
    numbers
}

/// The size of the kernel's table of its descriptors.
#[track_caller]
pub fn descriptor_table(pid: u32) -> u64 {
    let status = read(pid, "status");
    let size = status.lines().find_map(|line| line.strip_prefix("FDSize:"));
    size.unwrap().trim().parse().unwrap()
}

/// Memory mappings.
#[track_caller]
pub fn mappings(pid: u32) -> u64 {
    read(pid, "maps").lines().count() as u64
}

/// Does it ignore a signal?
#[track_caller]
pub fn is_ignored(pid: u32, signal: Signal) -> bool {
    let status = read(pid, "status");
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = u64::from_str_radix(mask.unwrap().trim(), 16).unwrap();
    mask >> (signal.as_raw() - 1) & 1 == 1
}

/// Resident memory now.
#[track_caller]
pub fn rss_bytes(pid: u32) -> u64 {
    shared::resident_bytes(pid).unwrap()
}

/// The most resident memory since the process began.
#[track_caller]
pub fn peak_rss_bytes(pid: u32) -> u64 {
    shared::peak_resident_bytes(pid).unwrap()
}

/// As [`peak_rss_bytes`], for a process that may have ended: `None` then.
pub fn last_peak_rss_bytes(pid: u32) -> Option<u64> {
    shared::peak_resident_bytes(pid).ok()
}

/// Time on a processor, in user and kernel mode, of all its threads that are or were. Resolution: a
/// clock tick (10 ms).
#[track_caller]
pub fn cpu_time(pid: u32) -> Duration {
    let stat = read(pid, "stat");
    // The name, in brackets, may hold spaces and brackets of its own: fields are counted after the
    // last one (proc(5)).
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = fields
        .split_whitespace()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<u64>().unwrap())
        .sum();
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// The names of its threads, sorted; a name holds at most 15 bytes (proc(5)).
pub fn thread_names(pid: u32) -> Vec<String> {
    let path = format!("/proc/{pid}/task");
    let tasks = fs::read_dir(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    // A thread that ends between the listing and the reading is left out.
    let names = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim_end().to_owned()).collect();
    names.sort();
    names
}

/// The id of the first of its threads with this name.
pub fn thread_id(pid: u32, name: &str) -> Option<i32> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let named = tasks.flatten().find(|task| {
        let found = fs::read_to_string(task.path().join("comm"));
        found.is_ok_and(|found| found.trim_end() == name)
    });
    named?.file_name().to_str()?.parse().ok()
}

/// How often a thread of it has gone to sleep by itself.
#[track_caller]
pub fn switches(pid: u32, thread: i32) -> u64 {
    let path = format!("/proc/{pid}/task/{thread}/status");
    shared::number(&path, "voluntary_ctxt_switches:").unwrap()
}

/// Does each thread sleep? One that waits for a processor does not, however long it waits.
pub fn is_asleep(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    // A thread that ends between the listing and the reading is left out.
    let mut stats = tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("stat")).ok());
    stats.all(|stat| stat.rsplit_once(") ").unwrap().1.starts_with('S'))
}

/// Is each thread stopped, as by SIGSTOP? That signal stops a thread when it next comes by, not
/// when it is sent.
pub fn is_stopped(pid: u32) -> bool {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    tasks.into_iter().all(|task| {
        let stat = fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
        // The state stands behind the name, which may hold anything.
        stat.rsplit_once(") ").unwrap().1.starts_with('T')
    })
}

/// Bytes that the kernel holds for the loopback connection's end at port `local`, whose peer is at
/// port `remote`, and that nobody has read yet. `None`: there is no such connection.
pub fn unread_bytes(local: u16, remote: u16) -> Option<u64> {
    let remote = shared::port(remote);
    let mut sockets = shared::sockets_at(local).unwrap().into_iter();
    let found = sockets.find(|socket| socket.remote.ends_with(&remote));
    found.map(|socket| socket.unread)
}

/// Bytes that the kernel holds for all connections of a server at this IPv4 address together, and
/// that it has not read yet.
pub fn unread_at(addr: SocketAddr) -> u64 {
    let sockets = shared::sockets_at(addr.port()).unwrap().into_iter();
    sockets.map(|socket| socket.unread).sum()
}

/// Clients in the kernel's queues of those who listen on this port by IPv4.
pub fn queued_at(port: u16) -> u64 {
    let sockets = shared::sockets_at(port).unwrap().into_iter();
    let listening = sockets.filter(|socket| socket.state == shared::LISTEN);
    listening.map(|socket| socket.unread).sum()
}

/// Does a socket of this machine listen on this IPv4 address? Asks without connecting.
pub fn is_listening(addr: SocketAddr) -> bool {
    shared::is_listening(addr).unwrap()
}

const BETWEEN_READINGS: Duration = Duration::from_millis(5);

/// The highest readings that a [`Watch`] saw.
#[derive(Debug, Clone, Copy, Default)]
pub struct Peak {
    pub threads: u64,
    pub descriptors: u64,
    /// How many readings were taken.
    pub samples: u64,
}

/// Reads a process's threads and descriptors every 5 ms until it is stopped or the process has
/// ended. What rises and falls between two readings is not seen.
#[derive(Debug)]
pub struct Watch {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Peak>>,
}

impl Watch {
    pub fn start(pid: u32) -> Watch {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || {
                let mut peak = Peak::default();
                loop {
                    // Asked first: what is there when the watch is stopped is seen for certain.
                    let is_last = stopped.load(Ordering::Relaxed);
                    let Some((threads, descriptors)) = sample(pid) else {
                        break;
                    };
                    peak.threads = peak.threads.max(threads);
                    peak.descriptors = peak.descriptors.max(descriptors);
                    peak.samples += 1;
                    if is_last {
                        break;
                    }
                    thread::sleep(BETWEEN_READINGS);
                }
                peak
            });
        Watch {
            stop,
            thread: Some(thread.unwrap()),
        }
    }

    /// Ends the watch; blocks for one reading.
    pub fn stop(mut self) -> Peak {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn sample(pid: u32) -> Option<(u64, u64)> {
    Some((shared::threads(pid).ok()?, shared::descriptors(pid).ok()?))
}

#[track_caller]
fn read(pid: u32, file: &str) -> String {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}
