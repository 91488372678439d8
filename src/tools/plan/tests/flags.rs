//! What is typed.

use std::time::Duration;

use drainline::WhenFull;

use super::super::super::args::assert_refused;
use super::super::args::{PAGE, flags};
use super::super::inputs::Inputs;
use super::super::machines;
use super::{inputs, typed};
use crate::cli::tests::rows;

#[test]
fn every_row_is_read_and_told_and_reaches_the_inputs() {
    rows::assert_hold(&PAGE, &flags(), typed);
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
        2 LOAD --rate=0 => --rate is given more than once
        2 --rate 0 --connections=1 => for --rate: expected a rate from 1/s to 1000000000/s, such as 1000/s
        2 --rate=1 --connections 0 => for --connections: expected a number from 1 to 1000000
        2 LOAD --size 65MiB => for --size: expected a size from 1B to 64MiB
        2 LOAD --stall 13h => for --stall: expected a duration from 0s to 12h
        2 LOAD --memory 1MiB => for --memory: expected a size from 16MiB to 1TiB
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
