//! What is typed.

use std::time::Duration;

use drainline::WhenFull;

use super::super::super::args::{assert_every_flag_is_in_both_helps, assert_refused, command};
use super::super::args::{Args, PAGE};
use super::super::inputs::Inputs;
use super::super::machines;
use super::{inputs, typed};

#[test]
fn every_flag_is_in_both_helps_and_reaches_the_inputs() {
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
    let table = "
        2 => missing value for --rate: expected a rate
        2 --rate=5 => missing value for --connections
        2 --rate 0 --connections=1 => invalid value '0' for --rate: expected a rate such as
        2 --rate fast => invalid value 'fast' for --rate: expected a rate
        2 --rate=1 --connections 0 => invalid value '0' for --connections: expected 1 to 1000000
        2 LOAD --size 0 => invalid value '0' for --size: expected a size
        2 LOAD --size 65MiB => invalid value '65MiB' for --size: expected a size
        2 LOAD --sink-rate 0 => invalid value '0' for --sink-rate: expected a rate
        2 LOAD --stall 13h => invalid value '13h' for --stall: expected a duration
        2 LOAD --stall 10 => invalid value '10' for --stall: expected a duration
        2 LOAD --memory 1MiB => invalid value '1MiB' for --memory: expected a size
        2 LOAD --capacity 0 => invalid value '0' for --capacity: expected a rate
        2 LOAD --when-full cry => invalid value 'cry' for --when-full: expected abort, drop or block
        78 LOAD --capacity=9 --measure => --measure is given beside --capacity: expected one of the two
        2 LOAD --speed => unknown flag --speed
        2 LOAD now => unexpected argument 'now': expected only flags
    ";
    assert_refused(&table.replace("LOAD", "--rate=100 --connections=10"), typed);
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
