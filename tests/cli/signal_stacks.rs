//! The program leaves out the signal stacks of its threads, by executing itself through a shell
//! that ignores SIGSEGV and SIGBUS. It is otherwise as it was started; where that cannot be done it
//! serves all the same.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use rustix::process::{Signal, getuid};

use crate::common::child::{BINARY, Drainline};
use crate::common::executable;
use crate::common::guard::Guarded;
use crate::common::launch::Launch;
use crate::common::mount::attempt;
use crate::common::programs::{find, is_installed};
use crate::common::root::is_root;
use crate::common::wait::{DEADLINE, wait_until};
use crate::common::{client, proc};

const VARIABLE: &str = "DRAINLINE_SIGNAL_STACKS";

fn are_ignored(pid: u32) -> [bool; 2] {
    [Signal::SEGV, Signal::BUS].map(|signal| proc::is_ignored(pid, signal))
}

/// The mappings that 50 connections take.
fn mappings_of_50(launch: Launch) -> u64 {
    let mut child = launch.start();
    // A thread of the server's own that has not run yet has no signal stack yet.
    wait_until("all threads in their first wait", DEADLINE, || {
        proc::is_asleep(child.pid())
    });
    let (mappings, threads) = (proc::mappings(child.pid()), proc::threads(child.pid()));
    let clients = client::connect_many(child.addr(), 50);
    wait_until("the threads of all connections", DEADLINE, || {
        proc::threads(child.pid()) == threads + 50
    });
    // A thread maps its signal stack before it reads from its connection.
    child.wait_for_status("all connections read", |status| {
        let connections = status["connections"].as_array().unwrap();
        connections.len() == 50 && connections.iter().all(|one| one["state"] == "reading")
    });
    let taken = proc::mappings(child.pid()) - mappings;
    drop(clients);
    child.terminate().assert_code(0);
    taken
}

#[test]
fn a_connection_takes_two_mappings_and_four_with_signal_stacks() {
    let server = || Drainline::with(&["--sink", "null"]);
    // A mapping more or less is malloc's. glibc 2.42 needs none for the guard of a stack.
    let without = mappings_of_50(server());
    assert!(without <= 110, "{without}");
    let with = mappings_of_50(server().env(VARIABLE, "on"));
    assert!((without + 90..=210).contains(&with), "{with}, {without}");
}

#[test]
fn both_signals_are_ignored_unless_signal_stacks_are_asked_for() {
    for (value, expected) in [("", true), ("off", true), ("on", false)] {
        let child = Drainline::with(&["--sink", "null"])
            .env(VARIABLE, value)
            .start();
        assert_eq!(are_ignored(child.pid()), [expected; 2], "{value}");
    }
}

/// Names with a dot, which some shells drop, variables that others change or obey, a first argument
/// that is no path, bytes that are no text.
#[test]
fn arguments_and_environment_are_those_of_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a=b c");
    executable::copy(BINARY, &path);
    let ports = directory.path().join("ports");
    let any_bytes = OsStr::from_bytes(b"\x81\x88\xff \n$x `y`");
    let mut sink = OsString::from("file:");
    sink.push(directory.path().join(any_bytes));
    let environment = [
        ("a.b-c", any_bytes),
        ("SHLVL", "7".as_ref()),
        ("PWD", "/no/such".as_ref()),
        ("EMPTY", "".as_ref()),
        ("SHELLOPTS", "noexec".as_ref()),
        ("BASH_FUNC_x%%", "() { :; }".as_ref()),
        (
            "GLIBC_TUNABLES",
            "glibc.malloc.tcache_count=0:glibc.malloc.perturb=0".as_ref(),
        ),
        ("MALLOC_ARENA_MAX", "1".as_ref()),
    ];
    let mut command = Command::new(&path);
    command.arg0("-any name").env_clear().envs(environment);
    // By fork(2): posix_spawn(3) would leave signals of glibc's own ignored from the first, which
    // the program's child has ignored.
    command.uid(getuid().as_raw());
    command
        .args(["--listen", "127.0.0.1:0", "--port-file"])
        .arg(&ports);
    command.arg("--sink").arg(&sink);
    command.stdin(Stdio::null()).stderr(Stdio::null());
    let child = Guarded(command.spawn().unwrap());
    wait_until("the server's start", DEADLINE, || ports.exists());
    assert_eq!(are_ignored(child.pid()), [true; 2]);
    let of = |name: &str| fs::read(format!("/proc/{}/{name}", child.pid())).unwrap();
    assert_eq!(of("comm"), b"a=b c\n");
    let words = of("cmdline");
    let end = [b"--sink\0", sink.as_bytes(), b"\0"].concat();
    assert!(words.starts_with(b"-any name\0--listen\0"), "{words:?}");
    assert!(words.ends_with(&end), "{words:?}");
    // Where ld.so cuts the tunables behind each that it takes, they are whole again here.
    let mut found = of("environ");
    for at in memchr::memmem::find_iter(&found.clone(), b"\0glibc.") {
        found[at] = b':';
    }
    let mut found: Vec<&[u8]> = found.split(|byte| *byte == 0).collect();
    let entries =
        environment.map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat());
    let mut expected: Vec<&[u8]> = entries
        .iter()
        .map(Vec::as_slice)
        .chain([&b""[..]])
        .collect();
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
    child.terminate();
}

#[test]
fn signals_descriptors_and_umask_are_those_of_the_start() {
    let start = |value: &str| {
        Drainline::with(&["--sink", "null"])
            .env(VARIABLE, value)
            .shell("trap '' QUIT; umask 027; exec 8<&0 9>&1")
            .start()
    };
    let (without, with) = (start("off"), start("on"));
    assert_eq!(are_ignored(without.pid()), [true; 2]);
    assert_eq!(are_ignored(with.pid()), [false; 2]);
    let numbers = |child: &Drainline| proc::descriptor_numbers(child.pid());
    assert_eq!(numbers(&without), numbers(&with));
    for child in [&without, &with] {
        assert!(proc::is_ignored(child.pid(), Signal::QUIT));
        assert!(proc::is_ignored(child.pid(), Signal::PIPE));
        assert!(!proc::is_ignored(child.pid(), Signal::CHILD));
        let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
        assert!(status.contains("\nUmask:\t0027\n"), "{status}");
    }
}

/// Starts a server for which `/bin/sh` is this file. `by` is a command that executes the program.
fn start_with_shell(shell: &str, by: &str) -> Drainline {
    let line = format!(
        "exec unshare --mount sh -c 'mount --bind {shell} /bin/sh && exec {by} \"$0\" \"$@\"' \"$0\" \"$@\""
    );
    Drainline::with(&["--sink", "null"]).shell(line).start()
}

fn can_replace_the_shell() -> bool {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "mount", "--bind", "/dev/null", "/bin/sh"]);
    is_root("replace /bin/sh") && attempt(&mut unshare)
}

#[test]
fn each_shell_does() {
    if !can_replace_the_shell() {
        return;
    }
    for shell in ["dash", "bash", "busybox", "mksh", "ksh93", "zsh", "yash"] {
        let Some(path) = find(shell) else { continue };
        let mut child = start_with_shell(&path.display().to_string(), "");
        assert_eq!(are_ignored(child.pid()), [true; 2], "{shell}");
        child.terminate().assert_code(0);
    }
}

/// bash unblocks SIGCHLD. A shell that unblocks all signals would be ended by a stop that waits.
#[test]
fn a_shell_that_would_unblock_a_signal_is_left_out() {
    if !can_replace_the_shell() || !is_installed("bash") {
        return;
    }
    for (shell, expected) in [("/bin/bash", [false; 2]), ("/bin/dash", [true; 2])] {
        if !Path::new(shell).exists() {
            continue;
        }
        let mut child = start_with_shell(shell, "env --block-signal=CHLD");
        assert_eq!(are_ignored(child.pid()), expected, "{shell}");
        let status = fs::read_to_string(format!("/proc/{}/status", child.pid())).unwrap();
        assert!(status.contains("\nSigBlk:\t0000000000010000\n"), "{status}");
        child.terminate().assert_code(0);
    }
}

/// A shell would give up its privileges.
#[test]
fn a_set_user_id_program_keeps_its_signal_stacks() {
    if !is_root("make a set-user-ID program") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drainline");
    executable::copy(BINARY, &path);
    chown(&path, Some(1), None).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o4755)).unwrap();
    let child = Drainline::with(&["--sink", "null", "--listen", "127.0.0.1:0"])
        .bare()
        .shell(format!("exec {} \"$@\"", path.display()))
        .spawn();
    wait_until("the bound on stderr", DEADLINE, || {
        child.stderr_text().contains("limits: ")
    });
    assert_eq!(are_ignored(child.pid()), [false; 2]);
}

/// No shell at all, one that only ends, one that ignores nothing, one that ignores another signal,
/// too, one that does what it should only when it is tried, and one that never ends. Each is tried
/// once.
#[test]
fn where_the_shell_is_of_no_use_the_program_serves_with_signal_stacks() {
    if !can_replace_the_shell() || !is_installed("bash") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let calls = directory.path().join("calls");
    let note = format!("echo \"$2 $$\" >>'{}'", calls.display());
    let script = |name: &str, body: &str| {
        let path = directory.path().join(name);
        executable::script(&path, &format!("#!/bin/bash\nshift 2\n{note}\n{body}\n"));
        path.display().to_string()
    };
    let lies = script("lies", "[[ $2 = try-* ]] && trap '' SEGV BUS; exec \"$@\"");
    let is_tried = &["try-to-execute-again"][..];
    let is_believed = &["try-to-execute-again", "execute-again"][..];
    for (shell, by, expected) in [
        ("/dev/null".to_owned(), "", &[][..]),
        ("/bin/false".to_owned(), "", &[]),
        ("/bin/true".to_owned(), "", &[]),
        (script("ignores_nothing", "exec \"$@\""), "", is_tried),
        (
            script("ignores_more", "trap '' SEGV BUS USR2; exec \"$@\""),
            "",
            is_tried,
        ),
        (lies.clone(), "", is_believed),
        (lies, "env DRAINLINE_SIGNAL_STACKS=off", is_believed),
        (script("sleeps", "exec sleep 600"), "", is_tried),
    ] {
        let mut child = start_with_shell(&shell, by);
        assert_eq!(are_ignored(child.pid()), [false; 2], "{shell}");
        let called = fs::read_to_string(&calls).unwrap_or_default();
        let words = called.lines().filter_map(|line| line.split_once(' '));
        let (commands, processes): (Vec<&str>, Vec<&str>) = words.unzip();
        assert_eq!(commands, expected, "{shell}");
        // The last of those that were believed is the server's own process.
        let tried = processes.first().map(|process| format!("/proc/{process}"));
        assert!(!tried.is_some_and(|path| Path::new(&path).exists()));
        child.terminate().assert_code(0);
        let _ = fs::remove_file(&calls);
    }
}
