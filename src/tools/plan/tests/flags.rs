//! What is typed.

use std::time::Duration;

use drainline::WhenFull;

use super::super::super::args::{assert_every_flag_is_in_both_helps, command};
use super::super::args::{Args, PAGE};
use super::super::inputs::Inputs;
use super::super::machines;
use super::{inputs, typed};

#[test]
fn every_flag_is_in_both_helps_and_reaches_the_situation() {
    assert_every_flag_is_in_both_helps::<Args>("plan", &PAGE);
    let (full, args) = typed(&[
        "--rate=5000/s",
        "--connections=7",
        "--size=1KiB",
        "--sink-rate=9000",
        "--stall=1m30s",
        "--when-full=drop",
        "--memory=1GiB",
        "--capacity=70000",
        "--simulate",
        "--json=-",
    ])
    .expect("inputs");
    assert_eq!(
        full,
        Inputs {
            rate: 5000,
            size: 1024,
            connections: 7,
            sink_rate: Some(9000),
            stall: Duration::from_secs(90),
            when_full: Some(WhenFull::Drop),
            memory: Some(1 << 30),
        }
    );
    assert_eq!(args.capacity, Some(70_000));
    assert!(args.simulate && !args.measure);
    let (bare, _) = typed(&["--rate=1", "--connections=1"]).expect("inputs");
    assert_eq!(bare, inputs(1, 1, None, 10));
}

#[test]
fn what_cannot_be_planned_is_one_line() {
    let load = ["--rate=100", "--connections=10"];
    for (words, code, part) in [
        (&[][..], 2, "--rate: a value is missing: accepted is a rate"),
        (&["--rate=5"], 2, "--connections: a value is missing"),
        (
            &["--rate", "0", "--connections=1"],
            2,
            "--rate 0: accepted is a rate such as",
        ),
        (&["--rate", "fast"], 2, "--rate fast: accepted is a rate"),
        (
            &["--rate=1", "--connections", "0"],
            2,
            "--connections 0: accepted is 1 to 1000000",
        ),
        (&["--size", "0"], 2, "--size 0: accepted is a size"),
        (&["--size", "65MiB"], 2, "--size 65MiB: accepted is a size"),
        (
            &["--sink-rate", "0"],
            2,
            "--sink-rate 0: accepted is a rate",
        ),
        (
            &["--stall", "13h"],
            2,
            "--stall 13h: accepted is a duration",
        ),
        (&["--stall", "10"], 2, "--stall 10: accepted is a duration"),
        (
            &["--memory", "1MiB"],
            2,
            "--memory 1MiB: accepted is a size",
        ),
        (&["--capacity", "0"], 2, "--capacity 0: accepted is a rate"),
        (
            &["--when-full", "cry"],
            2,
            "--when-full cry: accepted is abort, drop or block",
        ),
        (
            &["--capacity=9", "--measure"],
            78,
            "--capacity or --measure, not both",
        ),
        (&["--speed"], 2, "--speed: no such flag"),
        (&["now"], 2, "now: accepted are flags alone"),
    ] {
        let is_whole = words.iter().any(|word| word.starts_with("--rate")) || words.is_empty();
        let words = if is_whole {
            words.to_vec()
        } else {
            [&load[..], words].concat()
        };
        let error = typed(&words).expect_err(&format!("{words:?}"));
        assert_eq!(error.code, code, "{error}");
        assert!(error.line.starts_with("drainline: "), "{error}");
        assert!(!error.line.contains('\n'), "{error}");
        assert!(error.line.contains(part), "no {part:?} in {error}");
    }
    let tight = Inputs {
        memory: Some(16 << 20),
        ..inputs(100, 500, None, 1)
    };
    let error = machines::find(&tight, None).expect_err("no room for a buffer");
    assert_eq!(error.code, 78, "{error}");
    assert!(
        error.line.contains("--memory 16MiB: 500 connections"),
        "{error}"
    );
}

#[test]
fn clap_finds_no_fault_in_the_declarations() {
    command::<Args>(&PAGE).debug_assert();
}
