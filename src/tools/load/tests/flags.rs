//! What is typed.

use std::time::Duration;

use drainline::ingest::OutputFraming;

use super::super::super::args::{assert_every_flag_is_in_both_helps, command};
use super::super::args::{Args, PAGE};
use super::super::plan::Sizes;
use super::{plan, typed};

#[test]
fn every_flag_is_in_both_helps_and_reaches_the_plan() {
    assert_every_flag_is_in_both_helps::<Args>("load", &PAGE);
    let full = plan(&[
        "--connections=7",
        "--messages=5",
        "--duration=3s",
        "--rate=10/s",
        "--hold=1s",
        "--size=100-2KiB",
        "--seed=9",
        "--framing=nul",
        "--numbered",
        "--timestamped",
        "--write-size=1KiB",
        "--reconnect-every=2",
        "--wait-close",
        "--threads=3",
    ]);
    let sizes = Sizes {
        shortest: 100,
        longest: 2048,
        seed: 9,
    };
    assert_eq!((full.connections, full.messages), (7, Some(5)));
    assert_eq!(full.duration, Some(Duration::from_secs(3)));
    assert_eq!((full.rate, full.sizes), (Some(10), sizes));
    assert_eq!(full.hold, Duration::from_secs(1));
    assert_eq!((full.framing, full.write_size), (OutputFraming::Nul, 1024));
    assert_eq!((full.reconnect_every, full.threads), (Some(2), 3));
    assert!(full.numbered && full.timestamped && full.wait_close);
    let bare = plan(&[]);
    assert_eq!(bare.duration, Some(Duration::from_secs(10)));
    assert_eq!(plan(&["--messages=5"]).duration, None);
    let threads = |words| plan(words).threads;
    assert_eq!(threads(&["--connections=9"]), 2);
    assert_eq!(threads(&["--connections=9", "--rate=1"]), 1);
    assert_eq!(threads(&["--connections=1", "--threads=64"]), 1);
}

#[test]
fn what_is_no_load_is_one_line() {
    let address = "127.0.0.1:1";
    for (words, part) in [
        (&[][..], "an address is missing"),
        (&["nowhere"], "load nowhere: accepted is an address"),
        (
            &[address, "again"],
            "again: accepted are one ADDRESS and flags",
        ),
        (
            &[address, "--rate", "0"],
            "--rate 0: accepted is a rate such as 1000",
        ),
        (
            &[address, "--rate", "10000001"],
            "--rate 10000001: accepted",
        ),
        (
            &[address, "--rate", "fast"],
            "--rate fast: accepted is a rate",
        ),
        (&[address, "--size", "0"], "--size 0: accepted is a size"),
        (
            &[address, "--size", "9-5"],
            "--size 9-5: accepted is a size",
        ),
        (
            &[address, "--size", "65MiB"],
            "--size 65MiB: accepted is a size",
        ),
        (
            &[address, "--size", "1-x"],
            "--size 1-x: accepted is a size",
        ),
        (
            &[address, "--size", "31", "--numbered"],
            "--size 31B: accepted is 32 bytes or more (--numbered",
        ),
        (
            &[address, "--size", "19-90", "--timestamped"],
            "--size 19B-90B: accepted is 20 bytes or more",
        ),
        (
            &[address, "--size", "51", "--timestamped", "--numbered"],
            "--size 51B: accepted is 52 bytes or more",
        ),
        (
            &[address, "--connections", "0"],
            "--connections 0: accepted is 1 to 1000000",
        ),
        (
            &[address, "--connections", "-1"],
            "--connections -1: accepted is 1 to 1000000",
        ),
        (
            &[address, "--messages", "0"],
            "--messages 0: accepted is 1 or more",
        ),
        (
            &[address, "--duration", "0s"],
            "--duration 0s: accepted is a duration",
        ),
        (
            &[address, "--duration", "25h"],
            "--duration 25h: accepted is a duration",
        ),
        (
            &[address, "--hold", "25h"],
            "--hold 25h: accepted is a duration",
        ),
        (
            &[address, "--write-size", "0"],
            "--write-size 0: accepted is a size",
        ),
        (
            &[address, "--write-size", "17MiB"],
            "--write-size 17MiB: accepted is a size",
        ),
        (
            &[address, "--reconnect-every", "0"],
            "--reconnect-every 0: accepted is 1 or more",
        ),
        (
            &[address, "--threads", "65"],
            "--threads 65: accepted is 1 to 64, or auto",
        ),
        (
            &[address, "--seed", "x"],
            "--seed x: accepted is a whole number",
        ),
        (
            &[address, "--framing", "syslog"],
            "--framing syslog: accepted is lines, nul,",
        ),
        (
            &[address, "--json", ""],
            "--json: a value is missing: accepted is a path, or - for stdout",
        ),
        (&[address, "--tag"], "--tag: no such flag"),
    ] {
        let error = typed(words).expect_err(&format!("{words:?}"));
        assert_eq!(error.code, 2, "{error}");
        assert!(error.line.starts_with("drainline: "), "{error}");
        assert!(!error.line.contains('\n'), "{error}");
        assert!(error.line.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn clap_finds_no_fault_in_the_declarations() {
    command::<Args>(&PAGE).debug_assert();
}
