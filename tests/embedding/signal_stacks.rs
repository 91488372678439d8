//! A program that was started with SIGSEGV and SIGBUS ignored: std maps no signal stacks for its
//! threads, the limits count that, and a fault ends it all the same.

use std::fs;
use std::hint::black_box;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output};
use std::thread;

use drainline::{Builder, StartError};

use super::builder;
use super::common::client;
use super::common::embedded;
use super::common::wait::{DEADLINE, wait_until};

/// Runs a part of this file in a process that ignores these signals.
fn ignoring(signals: &str, entry: &str, role: &str) -> Output {
    let entry = embedded::reexec(&format!("signal_stacks::{entry}"), role, &[]);
    let mut shell = Command::new("sh");
    let script = format!("trap '' {signals}; exec \"$0\" \"$@\"");
    shell.args(["-c", &script]).arg(entry.get_program());
    shell.args(entry.get_args());
    shell.envs(
        entry
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    shell.output().unwrap()
}

fn mappings_max() -> u64 {
    let text = fs::read_to_string("/proc/sys/vm/max_map_count").unwrap();
    text.trim().parse().unwrap()
}

/// A free server with more threads reserved than the system's mappings hold at four for each.
fn crowded(mappings_max: u64) -> Builder<Vec<u8>> {
    builder(|config| config.max_connections = Some(1_000)).reserve(mappings_max / 4, 0)
}

#[test]
fn limits_entry() {
    let Some(role) = embedded::role() else { return };
    let server = crowded(mappings_max());
    let server = match &*role {
        "spawner" => server.spawner(thread::Builder::spawn),
        _ => server,
    };
    let found = match server.check() {
        Ok(_) => "two each".to_owned(),
        Err(StartError::Limit(error)) => error.unit.to_owned(),
        Err(error) => panic!("{error}"),
    };
    embedded::tell(&format!("\nfound {found}"));
}

/// Two mappings for a thread where both signals are ignored, else four; four for one that the
/// embedder's code makes.
#[test]
fn the_limits_count_the_mappings_that_a_thread_takes() {
    if mappings_max() > 100_000 {
        eprintln!("left out: this system has fewer threads than mappings for them");
        return;
    }
    for (signals, role, expected) in [
        ("SEGV BUS", "own", "two each"),
        ("SEGV BUS", "spawner", "memory mappings"),
        ("SEGV", "own", "memory mappings"),
        ("BUS", "own", "memory mappings"),
        ("QUIT", "own", "memory mappings"),
    ] {
        let told = ignoring(signals, "limits_entry", role).stderr;
        let told = String::from_utf8(told).unwrap();
        assert!(
            told.contains(&format!("\nfound {expected}\n")),
            "{signals} {role}: {told}"
        );
    }
}

fn overflow(depth: u64) -> u64 {
    let frame = black_box([depth; 100]);
    match depth {
        u64::MAX => 0,
        _ => black_box(overflow(depth + 1)) + frame[99],
    }
}

#[test]
fn overflow_entry() {
    if embedded::role().is_none() {
        return;
    }
    let server = builder(|_| {})
        .serve(|_| {
            black_box(overflow(0));
            Ok(())
        })
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    wait_until("the end of this process", DEADLINE, || false);
}

/// By the signal itself: the kernel does not ignore a signal that it forces on a thread. With its
/// signal stacks, std says so and aborts.
#[test]
fn a_stack_overflow_ends_the_process() {
    for (signals, expected) in [("SEGV BUS", 11), ("QUIT", 6)] {
        let output = ignoring(signals, "overflow_entry", "any");
        assert_eq!(output.status.signal(), Some(expected), "{output:?}");
    }
}
