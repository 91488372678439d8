//! What the operating system can give, read once. What cannot be read is no limit: a kernel without
//! the file has none of that kind, and a sandbox that hides it would otherwise forbid every start.

use std::fs;
use std::path::{Component, Path, PathBuf};

use rustix::process::{Resource, getrlimit};

/// The limits of the system and what is in use of each. `None` where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::server) struct System {
    /// RLIMIT_NOFILE, the soft one: it is the one that accept(2) meets.
    pub(super) descriptors_max: Option<u64>,
    /// Open in this process.
    pub(super) open_descriptors: u64,
    /// Of this process.
    pub(super) own_threads: u64,
    /// Of the whole machine, kernel threads included.
    pub(super) all_threads: u64,
    /// kernel.threads-max.
    pub(super) threads_max: Option<u64>,
    /// kernel.pid_max: a thread takes a number from the same space.
    pub(super) pid_max: Option<u64>,
    /// Of all control groups around this process the one with the fewest threads left.
    pub(super) pids: Option<Level>,
    /// vm.max_map_count.
    pub(super) mappings_max: Option<u64>,
    /// Of this process.
    pub(super) mappings: u64,
    /// Of all control groups around this process the one that allows the least memory.
    pub(super) memory: Option<Level>,
    /// The largest receive buffer that the kernel grows a TCP socket to, in bytes.
    pub(super) receive_buffer_max: u64,
    /// The largest send buffer, likewise.
    pub(super) send_buffer_max: u64,
}

/// The limit of one control group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Level {
    /// The file, as an operator finds it.
    pub(super) limit: String,
    pub(super) max: u64,
    /// In use by everybody in the group, this process included. 0 for memory: most of what a group
    /// uses is page cache, which gives way.
    pub(super) used: u64,
}

impl System {
    /// Reads `/proc` and the control groups that this process sees.
    pub(in crate::server) fn read() -> System {
        System {
            descriptors_max: getrlimit(Resource::Nofile).current,
            ..System::read_under(Path::new("/"))
        }
    }

    /// Everything that stands in files, under a root that tests replace.
    fn read_under(root: &Path) -> System {
        let proc = root.join("proc");
        let setting = |name: &str| number(&proc.join("sys").join(name));
        let last_of = |name: &str| last_number(&text(&proc.join("sys/net/ipv4").join(name)));
        let groups = Groups {
            root,
            own: text(&proc.join("self/cgroup")),
            mounts: text(&proc.join("self/mountinfo")),
        };
        System {
            descriptors_max: None,
            open_descriptors: open_descriptors(&proc.join("self/fd")),
            own_threads: own_threads(&text(&proc.join("self/status"))),
            all_threads: all_threads(&text(&proc.join("loadavg"))),
            threads_max: setting("kernel/threads-max"),
            pid_max: setting("kernel/pid_max"),
            pids: groups.pids(),
            mappings_max: setting("vm/max_map_count"),
            mappings: text(&proc.join("self/maps")).lines().count() as u64,
            memory: groups.memory(),
            receive_buffer_max: last_of("tcp_rmem"),
            send_buffer_max: last_of("tcp_wmem"),
        }
    }
}

/// A file's text, empty if there is none. Paths in `/proc` may hold any byte, so it is read lossily.
fn text(path: &Path) -> String {
    let bytes = fs::read(path).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A file that holds one number. `max` and what is not there are none.
fn number(path: &Path) -> Option<u64> {
    text(path).trim().parse().ok()
}

/// tcp_rmem and tcp_wmem hold least, default and most (tcp(7)).
fn last_number(text: &str) -> u64 {
    let last = text.split_ascii_whitespace().last();
    last.and_then(|last| last.parse().ok()).unwrap_or(0)
}

/// Without the descriptor that reads the folder.
fn open_descriptors(folder: &Path) -> u64 {
    fs::read_dir(folder).map_or(0, |entries| (entries.count() as u64).saturating_sub(1))
}

/// The line `Threads:` of proc_pid_status(5). Whoever asks is at least one.
fn own_threads(status: &str) -> u64 {
    let count = status
        .lines()
        .find_map(|line| line.strip_prefix("Threads:"))
        .and_then(|count| count.trim().parse().ok());
    count.unwrap_or(1)
}

/// The fourth field of proc_loadavg(5): runnable threads, a slash, all threads.
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

    /// The folders of this process's group and of every group above it that its mounts show, for one
    /// controller. Both versions may be mounted at once; a folder that has not got the controller has
    /// not got its files either.
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
        // Before the dash stands any number of optional fields.
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
        // A group outside our cgroup namespace (`/../x`): where it is mounted cannot be told.
        if own.components().any(climbs) {
            return Vec::new();
        }
        let point = self.point.strip_prefix("/").unwrap_or(&self.point);
        let mut folder = root.join(point);
        let below = match own.strip_prefix(&self.top) {
            Ok(below) => below,
            // The mount was made outside our namespace and starts above it: a level around us, though
            // the way down from it to us has no name here.
            Err(_) if self.top.components().skip(1).all(climbs) => Path::new(""),
            // A part of the tree that we are not in.
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

/// Space, tab, newline and backslash stand in mountinfo as a backslash and three octal digits.
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
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use tempfile::TempDir;

    /// A root folder with these files.
    fn tree(files: &[(&str, &str)]) -> TempDir {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn groups<'a>(root: &'a TempDir, own: &str, mounts: &str) -> Groups<'a> {
        Groups {
            root: root.path(),
            own: own.to_owned(),
            mounts: mounts.to_owned(),
        }
    }

    fn named(file: &str, root: &TempDir, folder: &str, max: u64, used: u64) -> Option<Level> {
        let limit = format!("{file} of {}", root.path().join(folder).display());
        Some(Level { limit, max, used })
    }

    const V2: &str = "24 1 0:22 / /proc rw - proc proc rw\n\
                      31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw,nsdelegate\n";

    const V1: &str = "31 23 0:28 / /sys/fs/cgroup ro - tmpfs tmpfs ro,mode=755\n\
                      35 31 0:32 / /sys/fs/cgroup/memory rw shared:3 - cgroup cgroup rw,memory\n\
                      36 31 0:33 / /sys/fs/cgroup/cpu,pids rw shared:4 - cgroup cgroup rw,cpu,pids\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw shared:5 - cgroup2 cgroup2 rw\n";

    #[test]
    fn version_2_takes_the_tightest_level() {
        let root = tree(&[
            ("sys/fs/cgroup/a.slice/pids.max", "500\n"),
            ("sys/fs/cgroup/a.slice/pids.current", "450\n"),
            ("sys/fs/cgroup/a.slice/b.service/pids.max", "100\n"),
            ("sys/fs/cgroup/a.slice/b.service/pids.current", "7\n"),
            ("sys/fs/cgroup/a.slice/memory.max", "1048576\n"),
            ("sys/fs/cgroup/a.slice/b.service/memory.max", "max\n"),
            ("sys/fs/cgroup/other/pids.max", "1\n"),
        ]);
        let groups = groups(&root, "0::/a.slice/b.service\n", V2);
        // 50 are left above, 93 below.
        let folder = "sys/fs/cgroup/a.slice";
        assert_eq!(groups.pids(), named("pids.max", &root, folder, 500, 450));
        assert_eq!(
            groups.memory(),
            named("memory.max", &root, folder, 1 << 20, 0)
        );
    }

    #[test]
    fn version_2_without_limits() {
        let root = tree(&[
            ("sys/fs/cgroup/a/pids.max", "max\n"),
            ("sys/fs/cgroup/a/pids.current", "7\n"),
            ("sys/fs/cgroup/a/memory.max", "max\n"),
        ]);
        let groups = groups(&root, "0::/a\n", V2);
        assert_eq!((groups.pids(), groups.memory()), (None, None));
    }

    #[test]
    fn version_1_keeps_its_controllers_apart() {
        let root = tree(&[
            ("sys/fs/cgroup/cpu,pids/docker/x:y/pids.max", "64\n"),
            ("sys/fs/cgroup/cpu,pids/docker/x:y/pids.current", "3\n"),
            ("sys/fs/cgroup/cpu,pids/docker/pids.max", "max\n"),
            ("sys/fs/cgroup/cpu,pids/mem/pids.max", "1\n"),
            ("sys/fs/cgroup/memory/docker/x:y/pids.max", "2\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/mem/memory.limit_in_bytes", "4096\n"),
        ]);
        let own = "8:cpu,pids:/docker/x:y\n4:memory:/mem\n1:name=systemd:/\n0::/\n";
        let groups = groups(&root, own, V1);
        let folder = "sys/fs/cgroup/cpu,pids/docker/x:y";
        assert_eq!(groups.pids(), named("pids.max", &root, folder, 64, 3));
        let folder = "sys/fs/cgroup/memory/mem";
        assert_eq!(
            groups.memory(),
            named("memory.limit_in_bytes", &root, folder, 4096, 0)
        );
    }

    #[test]
    fn version_1_without_limits() {
        let root = tree(&[
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/x/memory.limit_in_bytes",
                "9223372036854710272\n",
            ),
        ]);
        let groups = groups(&root, "8:cpu,pids:/\n4:memory:/x\n0::/\n", V1);
        assert_eq!((groups.pids(), groups.memory()), (None, None));
    }

    #[test]
    fn a_container_sees_its_group_at_the_mount_point() {
        let mounts =
            "36 31 0:33 /docker/abc /sys/fs/cgroup/pids ro master:4 - cgroup cgroup rw,pids\n";
        let root = tree(&[
            ("sys/fs/cgroup/pids/pids.max", "50\n"),
            ("sys/fs/cgroup/pids/inner/pids.max", "20\n"),
        ]);
        let folder = "sys/fs/cgroup/pids";
        let groups_of = |own: &str| groups(&root, own, mounts).pids();
        assert_eq!(
            groups_of("8:pids:/docker/abc\n"),
            named("pids.max", &root, folder, 50, 0)
        );
        assert_eq!(
            groups_of("8:pids:/docker/abc/inner\n"),
            named("pids.max", &root, "sys/fs/cgroup/pids/inner", 20, 0)
        );
        // A neighbour's limits are not ours, however alike the names.
        assert_eq!(groups_of("8:pids:/docker/abcd\n"), None);
        assert_eq!(groups_of("8:pids:/\n"), None);
    }

    #[test]
    fn a_cgroup_namespace() {
        let root = tree(&[("sys/fs/cgroup/pids.max", "50\n")]);
        let limit = named("pids.max", &root, "sys/fs/cgroup", 50, 0);
        // Mounted outside of it, from two levels above.
        let above = V2.replace("0:28 / ", "0:28 /../.. ");
        assert_eq!(groups(&root, "0::/\n", &above).pids(), limit);
        // Mounted from beside it.
        let beside = V2.replace("0:28 / ", "0:28 /../x ");
        assert_eq!(groups(&root, "0::/\n", &beside).pids(), None);
        // We were moved out of it.
        assert_eq!(groups(&root, "0::/../x\n", V2).pids(), None);
    }

    #[test]
    fn a_group_that_was_removed_is_still_inside_the_others() {
        let root = tree(&[("sys/fs/cgroup/a/pids.max", "50\n")]);
        let groups = groups(&root, "0::/a/b (deleted)\n", V2);
        assert_eq!(
            groups.pids(),
            named("pids.max", &root, "sys/fs/cgroup/a", 50, 0)
        );
    }

    #[test]
    fn mount_points_are_unescaped() {
        assert_eq!(unescape(r"/a\040b\134c"), Path::new(r"/a b\c"));
        assert_eq!(unescape(r"/plain"), Path::new("/plain"));
        for odd in [r"\", r"\04", r"\9zz", r"\777", "\\0é", r"\+11"] {
            let _ = unescape(odd);
        }
    }

    #[test]
    fn garbage_is_no_limit() {
        let root = tree(&[("sys/fs/cgroup/pids.max", "-1\n")]);
        for own in ["", "0", "0::", ":::", "8:pids", "8:pids:", "\0\n\n::/"] {
            for mounts in ["", " - ", "- - - -", "1 2 3 4 5 - cgroup", V1, V2] {
                let groups = groups(&root, own, mounts);
                assert_eq!((groups.pids(), groups.memory()), (None, None));
            }
        }
        assert_eq!(own_threads("Threads:\tmany\n"), 1);
        for loadavg in ["", "1 2 3", "1 2 3 4", "1 2 3 a/b 5"] {
            assert_eq!(all_threads(loadavg), 0);
        }
        assert_eq!(last_number("4096 16384 lots"), 0);
    }

    #[test]
    fn every_file_is_read() {
        let root = tree(&[
            ("proc/self/cgroup", "0::/a\n"),
            ("proc/self/mountinfo", V2),
            ("proc/self/status", "Name:\tx\nThreads:\t5\nSigQ:\t0/1\n"),
            ("proc/self/maps", "1\n2\n3\n"),
            ("proc/self/fd/0", ""),
            ("proc/self/fd/1", ""),
            ("proc/self/fd/3", ""),
            ("proc/loadavg", "0.19 0.13 0.04 2/96 4259\n"),
            ("proc/sys/kernel/threads-max", "192730\n"),
            ("proc/sys/kernel/pid_max", "32768\n"),
            ("proc/sys/vm/max_map_count", "65530\n"),
            ("proc/sys/net/ipv4/tcp_rmem", "4096\t131072\t6291456\n"),
            ("proc/sys/net/ipv4/tcp_wmem", "4096\t16384\t4194304\n"),
            ("sys/fs/cgroup/a/pids.max", "10\n"),
            ("sys/fs/cgroup/a/memory.max", "4096\n"),
        ]);
        let folder = "sys/fs/cgroup/a";
        assert_eq!(
            System::read_under(root.path()),
            System {
                descriptors_max: None,
                open_descriptors: 2,
                own_threads: 5,
                all_threads: 96,
                threads_max: Some(192_730),
                pid_max: Some(32_768),
                pids: named("pids.max", &root, folder, 10, 0),
                mappings_max: Some(65_530),
                mappings: 3,
                memory: named("memory.max", &root, folder, 4096, 0),
                receive_buffer_max: 6_291_456,
                send_buffer_max: 4_194_304,
            }
        );
    }

    #[test]
    fn without_proc_there_is_no_limit() {
        let expected = System {
            own_threads: 1,
            ..System::default()
        };
        assert_eq!(System::read_under(tree(&[]).path()), expected);
    }

    #[test]
    fn this_machine_has_a_limit_of_descriptors() {
        let system = System::read();
        assert!(system.descriptors_max.is_some_and(|max| max > 0));
        assert!(system.open_descriptors >= 3, "{system:?}");
        assert!(system.mappings > 0 && system.own_threads >= 1, "{system:?}");
    }
}
