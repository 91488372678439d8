//! The program gives its malloc one arena and no caches of threads, by executing itself once more,
//! unless somebody has set something else. Where that cannot be done it serves all the same, and
//! its bound says what malloc may keep.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::common::child::{BINARY, Drainline};
use crate::common::executable;
use crate::common::proc;
use crate::common::root::is_root;

/// What a bound says of arenas beside the first.
const ARENAS: &str = "in malloc's arenas unless MALLOC_ARENA_MAX is 1";
const CACHES: &str =
    "in malloc's caches of threads unless GLIBC_TUNABLES has glibc.malloc.tcache_count=0";

const ONE_ARENA: &str = "MALLOC_ARENA_MAX=1";
const NO_CACHES: &str = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0";

fn environment(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Where ld.so cuts the tunables behind each that it takes, they are whole again here.
fn settings_of_malloc(pid: u32) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    for entry in environment(pid) {
        match found.last_mut() {
            Some(tunables) if entry.starts_with("glibc.") => *tunables += &format!(":{entry}"),
            _ => found.push(entry),
        }
    }
    found.retain(|entry| entry.starts_with("MALLOC_") || entry.starts_with("GLIBC_"));
    found.sort();
    found
}

fn copy(folder: &Path) -> PathBuf {
    let path = folder.join("drainline");
    executable::copy(BINARY, &path);
    path
}

/// That the bound says exactly what malloc keeps.
#[track_caller]
fn tells(text: &str, arenas: bool, caches: bool) {
    assert!(text.contains(" of memory"), "{text}");
    assert_eq!(text.contains(ARENAS), arenas, "{text}");
    assert_eq!(text.contains(CACHES), caches, "{text}");
}

#[test]
fn a_server_has_one_arena_and_no_caches_and_is_otherwise_as_it_was_started() {
    let child = Drainline::with(&["--sink", "null"])
        .env("BESIDE", "it")
        .start();
    child.limits();
    tells(&child.stderr_text(), false, false);
    let pid = child.pid();
    assert_eq!(settings_of_malloc(pid), [NO_CACHES, ONE_ARENA]);
    assert!(environment(pid).contains(&"BESIDE=it".to_owned()));
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(comm, "drainline\n");
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let begins = format!("{BINARY}\0--sink\0null\0--listen\0");
    assert!(words.starts_with(&begins), "{words:?}");
}

/// Whatever of it somebody set stays and is counted, and the rest is set beside.
#[test]
fn what_somebody_set_stays_and_the_bound_counts_it() {
    let tunables = |text: &str| format!("GLIBC_TUNABLES={text}");
    let arenas = |text: &str| format!("MALLOC_ARENA_MAX={text}");
    let beside = |text: &str| format!("{}:glibc.malloc.tcache_count=0", tunables(text));
    // What is set, what is found in the process, and what the bound says of it.
    for (set, found, says) in [
        (
            arenas("4"),
            [NO_CACHES.to_owned(), arenas("4")],
            "up to 192.0 MiB in malloc's arenas",
        ),
        (
            arenas("1"),
            [NO_CACHES.to_owned(), arenas("1")],
            " of memory",
        ),
        (arenas("0"), [NO_CACHES.to_owned(), arenas("0")], ARENAS),
        (
            tunables("glibc.malloc.tcache_count=1"),
            [
                tunables("glibc.malloc.tcache_count=1"),
                ONE_ARENA.to_owned(),
            ],
            CACHES,
        ),
        (
            tunables("glibc.malloc.check=0"),
            [beside("glibc.malloc.check=0"), ONE_ARENA.to_owned()],
            " of memory",
        ),
        (
            tunables("glibc.malloc.check=0:glibc.malloc.perturb=0"),
            [
                beside("glibc.malloc.check=0:glibc.malloc.perturb=0"),
                ONE_ARENA.to_owned(),
            ],
            " of memory",
        ),
    ] {
        let (name, value) = set.split_once('=').unwrap();
        let child = Drainline::with(&["--sink", "null"])
            .env(name, value)
            .start();
        child.limits();
        assert_eq!(settings_of_malloc(child.pid()), found);
        let told = child.stderr_text();
        assert!(told.contains(says), "{told}");
        tells(&told, says.contains("arenas"), says == CACHES);
    }
}

#[test]
fn both_can_be_set_by_tunables() {
    let text = "glibc.malloc.arena_max=3:glibc.malloc.tcache_count=0";
    let child = Drainline::with(&["--sink", "null"])
        .env("GLIBC_TUNABLES", text)
        .start();
    child.limits();
    assert_eq!(
        settings_of_malloc(child.pid()),
        [format!("GLIBC_TUNABLES={text}")]
    );
    let told = child.stderr_text();
    assert!(
        told.contains("up to 128.0 MiB in malloc's arenas"),
        "{told}"
    );
    tells(&told, true, false);
}

/// A newer ld.so ignores all of them then. Who looks for its own setting would execute the program
/// for ever.
#[test]
fn ill_formed_tunables_are_kept_and_take_no_effect() {
    let child = Drainline::with(&["--sink", "null"])
        .env("GLIBC_TUNABLES", "a=b=c")
        .start();
    child.limits();
    let found = settings_of_malloc(child.pid());
    let kept = "GLIBC_TUNABLES=a=b=c:glibc.malloc.tcache_count=0";
    assert_eq!(found, [kept, ONE_ARENA]);
    tells(&child.stderr_text(), false, true);
}

#[test]
fn a_check_prints_the_bound_of_a_start() {
    let output = Command::new(BINARY).arg("--check").output().unwrap();
    tells(&String::from_utf8(output.stdout).unwrap(), false, false);
}

/// As after an update, while it is started: there is no file left to execute.
#[test]
fn a_program_whose_file_is_gone_serves_with_what_it_has_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(folder.path()).display().to_string();
    let child = Drainline::with(&["--sink", "null"])
        // The shell's next command finds it by a descriptor that was opened before.
        .shell(format!(
            "exec 9<{path}; rm {path}; exec /proc/self/fd/9 \"$@\""
        ))
        .start();
    child.limits();
    tells(&child.stderr_text(), true, true);
    assert_eq!(settings_of_malloc(child.pid()), [""; 0]);
    // A peer that went away must not end the server.
    assert!(proc::is_ignored(child.pid(), Signal::PIPE));
}

/// ld.so takes no setting of malloc for a privileged process, and newer ones remove it from the
/// environment: who looks for it there would execute the program for ever.
#[test]
fn a_privileged_program_keeps_what_it_has_and_says_so() {
    if !is_root("make a set-user-ID program") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = copy(folder.path());
    chown(&path, Some(1), None).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
    let output = Command::new(path).arg("--check").output().unwrap();
    tells(&String::from_utf8(output.stdout).unwrap(), true, true);
}
