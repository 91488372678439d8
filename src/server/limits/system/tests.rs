//! Limits are read from texts as the kernel writes them.

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
    let mounts = "36 31 0:33 /docker/abc /sys/fs/cgroup/pids ro master:4 - cgroup cgroup rw,pids\n";
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
        (
            "proc/self/status",
            "Name:\tx\nVmSize:\t    2048 kB\nVmData:\t    1024 kB\nThreads:\t5\n",
        ),
        ("proc/self/maps", "1\n2\n3\n"),
        ("proc/self/fd/0", ""),
        ("proc/self/fd/1", ""),
        ("proc/self/fd/3", ""),
        ("proc/stat", "cpu  1 2\ncpu0 1 1\ncpu1 0 1\nintr 7\n"),
        ("proc/meminfo", "MemTotal:  8 kB\nMemFree:  2 kB\n"),
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
            is_without_proc: false,
            descriptors_max: None,
            open_descriptors: 2,
            own_threads: 5,
            all_threads: 96,
            threads_max: Some(192_730),
            pid_max: Some(32_768),
            pids: named("pids.max", &root, folder, 10, 0),
            mappings_max: Some(65_530),
            mappings: 3,
            is_without_signal_stacks: false,
            memory: named("memory.max", &root, folder, 4096, 0),
            address_space_max: None,
            address_space: 2 << 20,
            data_max: None,
            data: 1 << 20,
            arenas_max: 0,
            thread_cache_bytes: 0,
            thread_local_bytes: 0,
            receive_buffer_max: 6_291_456,
            send_buffer_max: 4_194_304,
        }
    );
}

/// With SIGSEGV (11) and SIGBUS (7) both ignored, and in no other case: std maps signal stacks
/// where it found one of the two at its default action, and its handler is caught as anybody's.
#[test]
fn signal_stacks_are_left_out_where_both_signals_are_ignored() {
    for (ignored, caught, expected) in [
        ("0000000000000440", "0000000000000000", true),
        ("fffffffffffffbff", "0000000000000400", false),
        ("0000000000000400", "0000000000000040", false),
        ("0000000000000040", "0000000000000400", false),
        ("0000000000001000", "0000000000000440", false),
        ("0000000000001000", "0000000000000000", false),
        ("", "0000000000000440", false),
    ] {
        let status = format!("SigBlk:\t0000000000000440\nSigIgn:\t{ignored}\nSigCgt:\t{caught}\n");
        let root = tree(&[("proc/self/status", &status)]);
        let system = System::read_under(root.path());
        assert_eq!(system.is_without_signal_stacks, expected, "{status}");
    }
}

#[test]
fn the_machine_is_a_limit_of_memory_where_no_group_has_less() {
    let root = tree(&[("proc/meminfo", "MemFree:  2 kB\nMemTotal:  8 kB\n")]);
    let memory = System::read_under(root.path()).memory.unwrap();
    assert_eq!(memory.limit, "MemTotal of /proc/meminfo");
    assert_eq!(memory.max, 8 << 10);
}

#[test]
fn without_proc_there_is_no_limit() {
    let expected = System {
        is_without_proc: true,
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
