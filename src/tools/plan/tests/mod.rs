//! What is planned holds; in `flags`, what is typed; in `outlooks`, what is told.

mod flags;
mod outlooks;

use std::ffi::OsString;
use std::time::Duration;

use drainline::WhenFull;
use drainline::ingest::Ingest;

use super::args::{Args, PAGE, flags};
use super::decision::{Promise, Settings};
use super::inputs::Inputs;
use super::outlook::Outlook;
use super::report::Plan;
use super::settings::settings;
use super::{machines, report, what_if};
use crate::cli::command::{Parsed, parse};
use crate::cli::usage::UsageError;
use crate::tools::simulation::tests::is_long;

fn typed(words: &[&str]) -> Result<(Inputs, Args), UsageError> {
    let words = ["plan"].iter().chain(words).map(OsString::from);
    match parse(&PAGE, &flags(), words)? {
        Parsed::Run(args) => Ok((args.inputs()?, *args)),
        Parsed::Print(text) => panic!("{text}"),
    }
}

#[track_caller]
fn plan(words: &[&str]) -> Plan {
    let (inputs, args) = typed(words).expect("inputs");
    Plan::new(inputs, &args).expect("a plan")
}

fn inputs(rate: u64, connections: usize, sink_rate: Option<u64>, stall: u64) -> Inputs {
    Inputs {
        rate,
        size: 128,
        connections,
        sink_rate,
        stall: Duration::from_secs(stall),
        when_full: None,
        memory: None,
    }
}

fn lost(outlook: &Outlook) -> u64 {
    outlook.simulated.metrics.lost() + outlook.simulated.unseen
}

fn check(settings: &Settings) {
    settings.config.check().expect("sound settings");
    Ingest::builder()
        .config(settings.config.clone())
        .max_message(settings.max_message)
        .listen(([127, 0, 0, 1], 5140).into())
        .check()
        .expect("a server that would start");
}

/// Without `DRAINLINE_LONG` every second case, by the places of its values in their lists: each
/// value still meets each other one.
fn is_due(places: [usize; 4]) -> bool {
    is_long() || places.iter().sum::<usize>().is_multiple_of(2)
}

/// Loads of many shapes.
fn grid() -> Vec<Inputs> {
    let loads = [
        (7, 20),
        (1_000, 10),
        (10_000, 1),
        (20_000, 300),
        (3_000, 700),
    ];
    let sizes = [
        (128, None),
        (20, Some(192 << 20)),
        (5_000, Some(256 << 20)),
        (100_000, None),
    ];
    let mut grid = Vec::new();
    for (load, (rate, connections)) in loads.into_iter().enumerate() {
        let sinks = [None, Some(rate + rate / 20 + 1), Some(rate * 3)];
        for (place, sink) in sinks.into_iter().enumerate() {
            for (nth, stall) in [0, 2, 15].into_iter().enumerate() {
                for (of_size, (size, memory)) in sizes.into_iter().enumerate() {
                    let is_small = rate * size as u64 <= 200_000_000;
                    if is_small && is_due([load, place, nth, of_size]) {
                        grid.push(Inputs {
                            size,
                            memory,
                            ..inputs(rate, connections, sink, stall)
                        });
                    }
                }
            }
        }
    }
    grid
}

#[test]
fn what_is_promised_holds_in_the_simulation() {
    let mut held = 0;
    for inputs in grid() {
        let machine = match machines::find(&inputs, None) {
            Ok(machine) => machine,
            // With so little memory there is no plan, and it says so.
            Err(error) => {
                assert!(
                    inputs.memory.is_some() && error.code == 78,
                    "{error}: {inputs:?}"
                );
                continue;
            }
        };
        check(&machine.settings);
        let expected = what_if::expected(&inputs, &machine.settings);
        assert_eq!(lost(&expected), 0, "{inputs:?}: {}", expected.text);
        let held_for = match machine.settings.promise {
            Promise::Lossless { held } => held,
            promise => panic!("{promise:?}: {inputs:?}"),
        };
        if held_for.is_zero() {
            let waits = expected.simulated.longest_wait();
            assert!(waits.is_zero(), "{inputs:?}: {}", expected.text);
        } else {
            held += 1;
        }
        if let Some(memory) = inputs.memory {
            let takes = machine.limits.memory_bytes;
            assert!(takes <= memory, "{inputs:?}: {}", machine.limits);
        }
    }
    assert!(held > 0, "nobody is ever held up");
}

#[test]
fn nobody_is_disconnected_for_a_stall_that_lasts_twice_as_long() {
    for inputs in grid() {
        let Ok(machine) = machines::find(&inputs, None) else {
            continue;
        };
        if let Some(longer) = what_if::longer_stall(&inputs, &machine.settings) {
            assert_eq!(lost(&longer), 0, "{inputs:?}: {}", longer.text);
        }
    }
}

#[test]
fn a_sink_that_is_too_slow_holds_its_senders_or_loses() {
    let slow = inputs(10_000, 100, Some(8_000), 5);
    let wait = settings(&slow, None);
    assert_eq!(wait.config.when_full, WhenFull::Block);
    assert_eq!(
        wait.promise,
        Promise::Held {
            rest_per_second: 2_000
        }
    );
    check(&wait);
    assert_eq!(lost(&what_if::expected(&slow, &wait)), 0);

    let abort = Inputs {
        when_full: Some(WhenFull::Abort),
        ..slow
    };
    let abort = settings(&abort, None);
    assert!(!abort.promise.loses_nothing());
    check(&abort);
}

#[test]
fn as_many_machines_as_rate_and_connections_need() {
    let one = machines::find(&inputs(10_000, 100, None, 1), Some(20_000)).expect("a plan");
    assert_eq!((one.count, one.by_rate), (1, Some(1)));
    let rate = machines::find(&inputs(100_000, 100, None, 1), Some(20_000)).expect("a plan");
    assert_eq!(
        (rate.count, rate.share.rate, rate.share.connections),
        (8, 12_500, 13)
    );
    assert!(rate.settings.flags().contains(&"refuse".to_owned()));
    check(&rate.settings);
    let many = machines::find(&inputs(100_000, 600_000, None, 1), None).expect("a plan");
    assert!(
        many.count > 1 && many.by_connections.is_some(),
        "{}",
        many.count
    );
    check(&many.settings);
    assert!(machines::find(&inputs(1_000_000_000, 1, None, 1), Some(1)).is_err());
}

/// The promise, the reasons and the simulation are about the same load.
#[test]
fn no_two_statements_contradict_each_other() {
    let sinks = [None, Some("10"), Some("999"), Some("1050"), Some("100000")];
    for (of_rate, rate) in ["100", "1000"].into_iter().enumerate() {
        for (of_connections, connections) in ["1", "50"].into_iter().enumerate() {
            for (of_stall, stall) in ["12h", "10s", "0s"].into_iter().enumerate() {
                for (of_sink, sink) in sinks.into_iter().enumerate() {
                    // A stall of hours takes long, and no other sink is of interest.
                    let is_seen = stall != "12h" || (sink.is_none() && rate == "100");
                    if !is_seen || !is_due([of_rate, of_connections, of_stall, of_sink]) {
                        continue;
                    }
                    let mut words = vec!["--rate", rate, "--connections", connections];
                    words.extend(["--stall", stall]);
                    words.extend(sink.into_iter().flat_map(|sink| ["--sink-rate", sink]));
                    let told = report::text(&plan(&words), false)
                        .split_whitespace()
                        .collect::<Vec<_>>()
                        .join(" ");
                    let (text, _) = told.split_once("One step beyond").expect("an outlook");
                    let says = |part: &str| text.contains(part);
                    let nobody_waits = says("nobody waits 100 ms");
                    assert!(
                        !(says("senders are held up for its last") && nobody_waits),
                        "{told}"
                    );
                    assert!(
                        !says("no sender is held up by a stall") || nobody_waits,
                        "{told}"
                    );
                    assert!(
                        !(says("stays full") && nobody_waits && !says("after 1h, when")),
                        "{told}"
                    );
                    let is_lost = text.contains(" messages are lost, ");
                    assert!(!(says("Promise: loses nothing") && is_lost), "{told}");
                    assert!(
                        says("when the simulated load ends")
                            || says("were simulated, and what comes later is not known"),
                        "{told}"
                    );
                }
            }
        }
    }
}

#[test]
fn the_report_says_what_to_type_and_what_it_is_good_for() {
    let words = [
        "--rate=5000",
        "--connections=100",
        "--sink-rate=9000",
        "--stall=10s",
    ];
    let plan_of_words = plan(&words);
    let text = report::text(&plan_of_words, false);
    assert!(
        text.starts_with("drainline --when-full abort --buffer-messages"),
        "{text}"
    );
    for part in [
        "Promise: loses nothing",
        "Simulated: nothing is lost; nobody waits",
        "Limits: at most 150 connections",
        "--send-timeout 30s: ",
        "a stall of 20s: nothing is lost",
        "11,250/s, a quarter more than the sink takes: ",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
    assert!(
        text.lines().skip(1).all(|line| line.chars().count() <= 100),
        "{text}"
    );
    let drawn = report::text(&plan_of_words, true);
    assert!(
        drawn.contains("buffered   |") && drawn.contains('█'),
        "{drawn}"
    );

    let json = report::json(&plan_of_words, true);
    assert_eq!(json["promise"]["loses_nothing"], true);
    assert_eq!(json["expected"]["sent"], json["expected"]["delivered"]);
    assert!(
        json["what_if"][1]["timeline"]
            .as_array()
            .is_some_and(|timeline| timeline.len() > 10)
    );

    let slow = plan(&["--rate=9000", "--connections=100", "--sink-rate=5000"]);
    let slow = report::text(&slow, false);
    for part in [
        "held to the rate of the sink",
        "Kafka",
        "--when-full abort instead: ",
    ] {
        assert!(slow.contains(part), "no {part:?} in {slow}");
    }
}
