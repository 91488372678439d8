//! The program gives its malloc one arena, by executing itself once more, unless somebody has set how many there are to be.
//! Where that cannot be done it serves all the same, and its bound says what malloc may keep.
#![cfg(all(feature = "cli", target_env = "gnu"))]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod common;

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Command;

use common::child::{BINARY, Drainline};

/// What a bound says of arenas beside the first.
const KEEPS: &str = "that malloc keeps unless MALLOC_ARENA_MAX is 1";

fn environment(pid: u32) -> Vec<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/environ")).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn settings_of_malloc(pid: u32) -> Vec<String> {
    let mut entries = environment(pid);
    entries.retain(|entry| entry.starts_with("MALLOC_") || entry.starts_with("GLIBC_"));
    entries
}

fn copy(folder: &Path) -> PathBuf {
    let path = folder.join("drainline");
    fs::copy(BINARY, &path).unwrap();
    path
}

#[test]
fn a_server_has_one_arena_and_is_otherwise_as_it_was_started() {
    let child = Drainline::with(&["--sink", "null"])
        .env("BESIDE", "it")
        .start();
    child.bound();
    assert!(
        !child.stderr_text().contains(KEEPS),
        "{}",
        child.stderr_text()
    );
    let pid = child.pid();
    assert_eq!(settings_of_malloc(pid), ["MALLOC_ARENA_MAX=1"]);
    assert!(environment(pid).contains(&"BESIDE=it".to_owned()));
    let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
    assert_eq!(comm, "drainline\n");
    let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
    let begins = format!("{BINARY}\0--sink\0null\0--listen\0");
    assert!(words.starts_with(&begins), "{words:?}");
}

#[test]
fn a_number_that_somebody_set_stays_and_the_bound_counts_it() {
    for (name, value, keeps) in [
        ("MALLOC_ARENA_MAX", "4", Some("up to 192.0 MiB ")),
        ("MALLOC_ARENA_MAX", "1", None),
        ("MALLOC_ARENA_MAX", "0", Some(KEEPS)),
        (
            "GLIBC_TUNABLES",
            "glibc.malloc.arena_max=3",
            Some("up to 128.0 MiB "),
        ),
    ] {
        let child = Drainline::with(&["--sink", "null"])
            .env(name, value)
            .start();
        child.bound();
        let told = child.stderr_text();
        assert_eq!(settings_of_malloc(child.pid()), [format!("{name}={value}")]);
        assert_eq!(told.contains(KEEPS), keeps.is_some(), "{told}");
        assert!(told.contains(keeps.unwrap_or_default()), "{told}");
    }
}

/// Other tunables are not about arenas, and stay beside.
#[test]
fn a_tunable_of_another_kind_sets_no_number() {
    let tunable = "glibc.malloc.check=0";
    let child = Drainline::with(&["--sink", "null"])
        .env("GLIBC_TUNABLES", tunable)
        .start();
    let mut found = settings_of_malloc(child.pid());
    found.sort();
    assert_eq!(
        found,
        [&format!("GLIBC_TUNABLES={tunable}"), "MALLOC_ARENA_MAX=1"]
    );
}

#[test]
fn a_check_prints_the_bound_of_a_start() {
    let output = Command::new(BINARY).arg("--check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains(" of memory") && !text.contains(KEEPS),
        "{text}"
    );
}

/// As after an update, while it is started: there is no file left to execute.
#[test]
fn a_program_whose_file_is_gone_serves_with_its_arenas_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = copy(folder.path()).display().to_string();
    let child = Drainline::with(&["--sink", "null"])
        // The shell's next command finds it by a descriptor that was opened before.
        .shell(format!(
            "exec 9<{path}; rm {path}; exec /proc/self/fd/9 \"$@\""
        ))
        .start();
    child.bound();
    let told = child.stderr_text();
    assert!(told.contains(KEEPS), "{told}");
    assert_eq!(settings_of_malloc(child.pid()), [""; 0]);
    let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = u64::from_str_radix(ignored.unwrap().trim(), 16).unwrap();
    // SIGPIPE is 13: a peer that went away must not end the server.
    assert_eq!(ignored >> 12 & 1, 1, "{status}");
}

/// ld.so takes no setting of malloc for a privileged process, and newer ones remove it from the environment: who looks for
/// it there would execute the program for ever.
#[test]
fn a_privileged_program_keeps_its_arenas_and_says_so() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: it takes root to make a set-user-ID program");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = copy(folder.path());
    chown(&path, Some(1), None).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
    let output = Command::new(path).arg("--check").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains(KEEPS), "{text}");
}
