//! The limits of the operating system, read once. A limit that cannot be read does not count: a
//! kernel without the file has no such limit, and a sandbox that hides the file would otherwise
//! prevent every start.

mod thread_locals;

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, Signal, getrlimit};

use self::thread_locals::thread_local_bytes;
use super::malloc::Malloc;

/// The limits of the system and what is in use of each. `None` stands for no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct System {
    /// /proc is missing, so what this process has in use already is not known.
    pub(in crate::server) is_without_proc: bool,
    /// The soft RLIMIT_NOFILE, which is the limit of accept(2).
    pub(in crate::server) descriptors_max: Option<u64>,
    /// Descriptors that are open in this process.
    pub(in crate::server) open_descriptors: u64,
    /// Threads of this process.
    pub(in crate::server) own_threads: u64,
    /// Threads of the whole machine, kernel threads included.
    pub(in crate::server) all_threads: u64,
    /// kernel.threads-max.
    pub(in crate::server) threads_max: Option<u64>,
    /// kernel.pid_max, which limits the ids of threads, too.
    pub(in crate::server) pid_max: Option<u64>,
    /// The control group around this process that has the fewest threads left.
    pub(in crate::server) pids: Option<Level>,
    /// vm.max_map_count.
    pub(in crate::server) mappings_max: Option<u64>,
    /// Memory mappings of this process.
    pub(in crate::server) mappings: u64,
    /// std maps no signal stack for a thread. So it is where neither SIGSEGV nor SIGBUS had its
    /// default action when the program started, which is told by both being ignored. Where either
    /// is caught, std's handler may be the one that catches it.
    pub(in crate::server) is_without_signal_stacks: bool,
    /// The least memory that the machine or one of the control groups around this process allows.
    pub(in crate::server) memory: Option<Level>,
    /// The soft RLIMIT_AS in bytes.
    pub(in crate::server) address_space_max: Option<u64>,
    /// Bytes that are mapped in this process, used or not.
    pub(in crate::server) address_space: u64,
    /// The soft RLIMIT_DATA in bytes.
    pub(in crate::server) data_max: Option<u64>,
    /// Of the bytes that are mapped, those that this process alone may write.
    pub(in crate::server) data: u64,
    /// The most arenas that malloc makes.
    pub(in crate::server) arenas_max: u64,
    /// The most bytes that malloc keeps for each thread.
    pub(in crate::server) thread_cache_bytes: u64,
    /// Bytes of the thread-local variables that each thread gets.
    pub(in crate::server) thread_local_bytes: u64,
    /// The largest receive buffer that the kernel grows a TCP socket to, in bytes.
    pub(in crate::server) receive_buffer_max: u64,
    /// The largest send buffer, likewise.
    pub(in crate::server) send_buffer_max: u64,
}

/// The limit of one control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::server) struct Level {
    /// Where an operator finds the limit.
    pub(in crate::server) limit: String,
    pub(in crate::server) max: u64,
    /// What all processes in the group use, this one included. 0 for memory: most of what a group
    /// uses is page cache, which the kernel drops when memory is needed.
    pub(in crate::server) used: u64,
}

impl System {
    /// Reads `/proc` and the control groups that this process sees.
    pub(in crate::server) fn read() -> System {
        let malloc = Malloc::of_process();
        System {
            descriptors_max: getrlimit(Resource::Nofile).current,
            address_space_max: getrlimit(Resource::As).current,
            data_max: getrlimit(Resource::Data).current,
            arenas_max: malloc.arenas_max.value(),
            thread_cache_bytes: malloc.thread_cache_bytes.value(),
            ..System::read_under(Path::new("/"))
        }
    }

    /// Reads everything that is in files, under a root that tests replace.
    fn read_under(root: &Path) -> System {
        let proc = root.join("proc");
        let status = text(&proc.join("self/status"));
        let maps = fs::read(proc.join("self/maps")).unwrap_or_default();
        let setting = |name: &str| number(&proc.join("sys").join(name));
        let last_of = |name: &str| last_number(&text(&proc.join("sys/net/ipv4").join(name)));
        let groups = Groups {
            root,
            own: text(&proc.join("self/cgroup")),
            mounts: text(&proc.join("self/mountinfo")),
        };
        System {
            is_without_proc: !proc.join("self").exists(),
            descriptors_max: None,
            address_space_max: None,
            address_space: kib_line(&status, "VmSize:").unwrap_or(0),
            data_max: None,
            data: kib_line(&status, "VmData:").unwrap_or(0),
            arenas_max: 0,
            thread_cache_bytes: 0,
            thread_local_bytes: thread_local_bytes(&proc, &maps, root),
            open_descriptors: open_descriptors(&proc.join("self/fd")),
            own_threads: own_threads(&status),
            all_threads: all_threads(&text(&proc.join("loadavg"))),
            threads_max: setting("kernel/threads-max"),
            pid_max: setting("kernel/pid_max"),
            pids: groups.pids(),
            mappings_max: setting("vm/max_map_count"),
            mappings: maps.split_inclusive(|byte| *byte == b'\n').count() as u64,
            is_without_signal_stacks: [Signal::SEGV, Signal::BUS]
                .iter()
                .all(|signal| is_ignored(&status, *signal)),
            memory: groups
                .memory()
                .into_iter()
                .chain(machine_memory(&text(&proc.join("meminfo"))))
                .min_by_key(|level| level.max),
            receive_buffer_max: last_of("tcp_rmem"),
            send_buffer_max: last_of("tcp_wmem"),
        }
    }
}

/// A file's text, or empty if it cannot be read. Paths in `/proc` may hold any byte, so the file is
/// read lossily.
fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The number in a file. `None` for `max`, and if the file cannot be read.
fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

/// The last number of tcp_rmem or tcp_wmem, which have the minimum, default and maximum (tcp(7)).
fn last_number(text: &str) -> u64 {
    let last = text.split_ascii_whitespace().last();
    last.and_then(|last| last.parse().ok()).unwrap_or(0)
}

/// The number of open descriptors, without the one that reads the folder.
fn open_descriptors(folder: &Path) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

/// The line `Threads:` of proc_pid_status(5); at least the calling thread.
fn own_threads(status: &str) -> u64 {
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))
        .and_then(|count| count.trim().parse().ok());
    count.unwrap_or(1)
}

/// By the mask `SigIgn:` of proc_pid_status(5).
fn is_ignored(status: &str, signal: Signal) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal.as_raw() - 1) & 1 == 1)
}

/// A line of proc_pid_status(5) or proc_meminfo(5) that gives a number of KiB, in bytes.
fn kib_line(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024))
}

fn machine_memory(meminfo: &str) -> Option<Level> {
    Some(Level {
        limit: "MemTotal of /proc/meminfo".to_owned(),
        max: kib_line(meminfo, "MemTotal:")?,
        used: 0,
    })
}

/// The number of all threads, which follows a slash in the fourth field of proc_loadavg(5).
fn all_threads(loadavg: &str) -> u64 {
    let field = loadavg.split_ascii_whitespace().nth(3);
    let all = field.and_then(|field| field.split_once('/')?.1.parse().ok());
    all.unwrap_or(0)
}

/// Version 1 writes "no limit" as the largest number of bytes that its page counter holds, which
/// depends on the page size; no machine has an eighth of that.
const NO_LIMIT_V1: u64 = 1 << 60;

/// The control groups around this process, of both versions (cgroups(7)).
struct Groups<'a> {
    root: &'a Path,
    /// `/proc/self/cgroup`
    own: String,
    /// `/proc/self/mountinfo`
    mounts: String,
}

impl Groups<'_> {
    fn pids(&self) -> Option<Level> {
        let level = |folder: PathBuf| {
            let file = folder.join("pids.max");
            Some(Level {
                max: number(&file)?,
                used: number(&folder.join("pids.current")).unwrap_or(0),
                limit: format!("pids.max of {}", folder.display()),
            })
        };
        self.folders("pids")
            .into_iter()
            .filter_map(level)
            .min_by_key(|level| level.max.saturating_sub(level.used))
    }

    fn memory(&self) -> Option<Level> {
        let level = |folder: PathBuf| {
            let (name, max) = ["memory.max", "memory.limit_in_bytes"]
                .into_iter()
                .find_map(|name| Some((name, number(&folder.join(name))?)))?;
            Some(Level {
                max,
                used: 0,
                limit: format!("{name} of {}", folder.display()),
            })
        };
        self.folders("memory")
            .into_iter()
            .filter_map(level)
            .filter(|level| level.max < NO_LIMIT_V1)
            .min_by_key(|level| level.max)
    }

    /// The folders of this process's group and of every group above it that its mounts show, for
    /// one controller. Both versions may be mounted at once; a folder that has not got the
    /// controller has not got its files either.
    fn folders(&self, controller: &str) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for mount in self.mounts.lines().filter_map(Mount::parse) {
            let Some(version) = mount.version(controller) else {
                continue;
            };
            let own = self.own.lines().find_map(|line| match version {
                Version::One => own_path_v1(line, controller),
                Version::Two => line.strip_prefix("0::"),
            });
            if let Some(own) = own {
                folders.extend(mount.levels(Path::new(own), self.root));
            }
        }
        folders
    }
}

/// A line `id:controllers:path`; the path may hold colons itself.
fn own_path_v1<'a>(line: &'a str, controller: &str) -> Option<&'a str> {
    let mut fields = line.splitn(3, ':').skip(1);
    let mut controllers = fields.next()?.split(',');
    let path = fields.next()?;
    controllers.any(|entry| entry == controller).then_some(path)
}

#[derive(Clone, Copy)]
enum Version {
    One,
    Two,
}

/// A line of proc_pid_mountinfo(5), as far as control groups need it.
struct Mount<'a> {
    /// Which folder of the file system is mounted: in a container often not its top.
    top: PathBuf,
    point: PathBuf,
    kind: &'a str,
    /// Options of the file system itself: in version 1 they name its controllers.
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        // Any number of optional fields comes before the dash.
        let (mount, system) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(3);
        let mut system = system.split(' ');
        Some(Mount {
            top: unescape(mount.next()?),
            point: unescape(mount.next()?),
            kind: system.next()?,
            options: system.nth(1)?,
        })
    }

    fn version(&self, controller: &str) -> Option<Version> {
        let named = || self.options.split(',').any(|option| option == controller);
        match self.kind {
            "cgroup2" => Some(Version::Two),
            "cgroup" if named() => Some(Version::One),
            _ => None,
        }
    }

    /// The folders from the mount point down to the group `own`, under `root`.
    fn levels(&self, own: &Path, root: &Path) -> Vec<PathBuf> {
        let climbs = |part: Component<'_>| part == Component::ParentDir;
        // A group outside our cgroup namespace (`/../x`), whose mount point is not known.
        if own.components().any(climbs) {
            return Vec::new();
        }
        let point = self.point.strip_prefix("/").unwrap_or(&self.point);
        let mut folder = root.join(point);
        let below = match own.strip_prefix(&self.top) {
            Ok(below) => below,
            // The mount was made outside our namespace and starts above it: a level around this
            // process, although no path leads from it down to our group.
            Err(_) if self.top.components().skip(1).all(climbs) => Path::new(""),
            // A part of the tree that this process is not in.
            Err(_) => return Vec::new(),
        };
        let mut levels = vec![folder.clone()];
        for part in below.components() {
            folder.push(part);
            levels.push(folder.clone());
        }
        levels
    }
}

/// Decodes space, tab, newline and backslash, which mountinfo writes as a backslash and three octal
/// digits.
fn unescape(field: &str) -> PathBuf {
    let mut pieces = field.split('\\');
    let mut path = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let code = piece
            .get(..3)
            .and_then(|code| u8::from_str_radix(code, 8).ok())
            .filter(u8::is_ascii);
        match code {
            Some(code) => {
                path.push(char::from(code));
                path.push_str(&piece[3..]);
            }
            None => {
                path.push('\\');
                path.push_str(piece);
            }
        }
    }
    PathBuf::from(path)
}

#[cfg(test)]
mod tests;
