//! What the outlooks tell, held against a tank: what flows in, what flows out, and how much it
//! holds.

use std::time::Duration;

use drainline::WhenFull;

use super::super::super::words::count;
use super::super::decision::Settings;
use super::super::inputs::Inputs;
use super::super::machines;
use super::super::outlook::Outlook;
use super::super::report::{self, Plan};
use super::super::what_if;
use super::{inputs, is_long};
use crate::tools::simulation::{self, Scenario};
use crate::tools::workload::{ClientPace, Workload};

/// What a tank comes to that is filled by all senders at once and emptied by the sink.
#[derive(Debug)]
struct Tank {
    offered: f64,
    /// That the sink can take while the load lasts.
    takes: f64,
    /// That would be in a buffer without an end, at most and at the end.
    highest: f64,
    left: f64,
    /// That the rate limit keeps out of it.
    kept_out: f64,
    /// From the end of the stall until it is empty, where it gets empty.
    empties: Option<f64>,
}

impl Tank {
    fn of(workload: &Workload, settings: &Settings) -> Tank {
        let lasts = workload.duration.as_secs_f64();
        let (mut offered, mut comes) = (0.0, 0.0);
        for crowd in &workload.crowds {
            let ClientPace::Rate(rate) = crowd.pace else {
                panic!("a client without a rate");
            };
            let limit = settings.config.rate_limit.unwrap_or(u64::MAX);
            offered += (rate * crowd.connections as u64) as f64;
            comes += (rate.min(limit) * crowd.connections as u64) as f64;
        }
        let stall = workload.sink.stalls.first();
        let at = stall.map_or(0.0, |stall| stall.at.as_secs_f64());
        let stalls = stall.map_or(0.0, |stall| stall.lasts.as_secs_f64());
        let sink = workload.sink.rate.map_or(f64::INFINITY, |rate| rate as f64);
        let grows = (comes - sink).max(0.0);
        let highest_in_stall = grows * at + comes * stalls;
        let after = lasts - at - stalls;
        let left = (highest_in_stall + (comes - sink) * after).max(0.0);
        let empties = (sink > comes && stalls > 0.0).then(|| comes * stalls / (sink - comes));
        Tank {
            offered: offered * lasts,
            takes: sink * (lasts - stalls),
            highest: highest_in_stall.max(left),
            left,
            kept_out: (offered - comes) * lasts,
            empties: empties.filter(|time| *time < after),
        }
    }
}

fn number(text: &str) -> f64 {
    text.replace(',', "").parse().expect("a number")
}

/// The number before this part of the text; 0 where it is not there.
fn before(text: &str, part: &str) -> f64 {
    text.split_once(part).map_or(0.0, |(before, _)| {
        let word = before.rsplit([' ', '(']).next().unwrap_or_default();
        number(word)
    })
}

fn told_time(text: &str) -> f64 {
    // `1h2m`, `20 s`, `1.5 s` and `900 ms`.
    match text.split_once(' ') {
        None => crate::cli::units::duration(text)
            .expect("a time")
            .as_secs_f64(),
        Some((millis, "ms")) => number(millis) / 1e3,
        Some((seconds, _)) => number(seconds),
    }
}

/// How much two ways to say the same may differ: a tenth, and what is on its way in a second.
fn is_about(told: f64, is: f64, rate: f64) -> bool {
    (told - is).abs() <= is.abs() * 0.1 + rate + 100.0
}

fn hold_against_a_tank(outlook: &Outlook, settings: &Settings) {
    let (tank, text) = (Tank::of(&outlook.workload, settings), outlook.text.as_str());
    let what = format!("{}: {text}; {tank:?}; {:?}", outlook.what, settings.flags());
    let rate = tank.offered / outlook.workload.duration.as_secs_f64();
    let capacity = settings.config.buffer_messages as f64;
    let says = |part: &str| text.contains(part);

    // Where every message is, and that all of them are somewhere.
    let end = &outlook.simulated.watched.at_end;
    assert!(end.closes(), "{what}");
    assert_eq!(
        says("what comes later is not known"),
        end.at < outlook.workload.duration,
        "{what}"
    );
    if end.at < outlook.workload.duration {
        return;
    }
    assert!(is_about(end.offered as f64, tank.offered, rate), "{what}");
    let (_, parts) = text
        .split_once("when the simulated load ends, ")
        .expect("the end");
    if parts.starts_with("all ") {
        assert!(
            before(parts, " messages are delivered") as u64 == end.offered,
            "{what}"
        );
        assert!(is_about(0.0, tank.left + tank.kept_out, rate), "{what}");
    } else {
        let offered = before(parts, " messages are delivered");
        let (parts, later) = parts.split_once(';').unwrap_or((parts, ""));
        let places = [
            before(parts, " of "),
            before(parts, " in the server"),
            before(parts, " unread in sockets"),
            before(parts, " still with their senders"),
            before(parts, " lost"),
        ];
        assert_eq!(offered, places.iter().sum::<f64>(), "{what}");
        assert!(places[0] <= tank.takes * 1.01 + 100.0, "{what}");
        // The loss of all is that at the end, and what is lost later.
        let lost = before(
            text,
            &format!(" of {} messages are lost", count(offered as u64)),
        );
        assert_eq!(lost, places[4] + before(later, " more are lost"), "{what}");
        if settings.config.when_full == WhenFull::Block || !says("messages are lost") {
            let out = places[1] + places[2] + places[3];
            assert!(is_about(out, tank.left + tank.kept_out, rate), "{what}");
        }
    }

    // Who waits.
    if says("nobody waits 100 ms") {
        assert!(tank.highest <= capacity * 1.02 + 100.0, "{what}");
        assert_eq!(says("are unread for up to"), tank.kept_out > rate, "{what}");
    } else {
        // A rate limit lets through what a second pays for and a tenth of one, of everybody at
        // once.
        let limit = settings.config.rate_limit.unwrap_or_default();
        let burst = limit as f64 * 1.1 * outlook.workload.connections() as f64;
        assert!(tank.highest + burst >= capacity * 0.5, "{what}");
        assert!(says("are unread for up to"), "{what}");
    }
    // Nobody is lost whom somebody waits for.
    if says("nothing is lost") && settings.config.when_full == WhenFull::Abort {
        let waits = outlook.simulated.longest_wait();
        assert!(waits <= settings.config.send_timeout, "{what}");
    }
    if settings.config.when_full == WhenFull::Block {
        assert!(says("nothing is lost"), "{what}");
    }

    // When it is over.
    if let Some((_, told)) = text.split_once("the backlog is gone ") {
        let (told, _) = told.split_once(" after the stall").expect("a time");
        let told = if told == "at once" {
            0.0
        } else {
            told_time(told)
        };
        let empties = tank.empties.unwrap_or(f64::INFINITY);
        assert!((told - empties).abs() <= empties * 0.1 + 2.0, "{what}");
    }
    if says("the backlog is not gone") {
        assert!(tank.empties.is_none(), "{what}");
    }
}

/// Holds what is told of a load against a tank. Says how many outlooks there are; with too little
/// memory, none.
fn hold_all(inputs: &Inputs) -> usize {
    let Ok(machine) = machines::find(inputs, None) else {
        return 0;
    };
    let mut outlooks = vec![what_if::expected(&machine.share, &machine.settings)];
    outlooks.extend(what_if::what_if(&machine.share, &machine.settings));
    for outlook in &outlooks {
        let mut settings = machine.settings.clone();
        if outlook.what.starts_with("--when-full abort") {
            settings.config.when_full = WhenFull::Abort;
        }
        hold_against_a_tank(outlook, &settings);
    }
    outlooks.len()
}

#[test]
fn every_claim_of_an_outlook_is_true_of_a_tank() {
    let mut seen = 0;
    let loads = [(100, 1), (1_000, 10), (10_000, 500), (3_000, 10_000)];
    let troubles = [
        (0, None),
        (0, Some(64 << 20)),
        (15, None),
        (15, Some(64 << 20)),
    ];
    for (load, (rate, connections)) in loads.into_iter().enumerate() {
        let sinks = [
            None,
            Some(rate / 2),
            Some(rate * 9 / 10),
            Some(rate),
            Some(rate * 11 / 10),
            Some(rate * 2),
        ];
        for (place, sink) in sinks.into_iter().enumerate() {
            for (nth, (stall, memory)) in troubles.into_iter().enumerate() {
                // One of the four, another for each load and each sink; or all.
                if is_long() || nth == (load + place) % 4 {
                    seen += hold_all(&Inputs {
                        memory,
                        ..inputs(rate, connections, sink, stall)
                    });
                }
            }
        }
    }
    assert!(seen > 30, "{seen} outlooks");
}

#[test]
fn every_claim_is_true_of_half_a_day_and_of_any_memory() {
    let mut seen = 0;
    for (sink, memory) in [
        (Some(200), Some(1 << 40)),
        (Some(200), None),
        (None, Some(1 << 40)),
        (None, None),
    ] {
        if is_long() || seen == 0 {
            seen += hold_all(&Inputs {
                memory,
                ..inputs(100, 10, sink, 12 * 60 * 60)
            });
        }
    }
    assert!(seen > 2, "{seen} outlooks");
}

#[test]
fn what_was_not_simulated_is_told_and_not_promised() {
    let words = ["--rate=100000", "--connections=10000", "--sink-rate=99999"];
    let (inputs, _) = super::typed(&[&words[..], &["--stall=1h"]].concat()).expect("inputs");
    let machine = machines::find(&inputs, None).expect("a machine");
    let config = &machine.settings.config;
    let workload = machine.share.workload();
    let simulated = simulation::run(&Scenario {
        config,
        max_message: machine.settings.max_message,
        workload: &workload,
        settle: Duration::ZERO,
        max_steps: 2_000_000,
    });
    let plan = Plan {
        expected: Outlook::new("this load".to_owned(), workload, simulated, config),
        what_if: Vec::new(),
        inputs,
        capacity: None,
        measured: None,
        machine,
    };
    let told = report::text(&plan, false);
    let told = told.split_whitespace().collect::<Vec<_>>().join(" ");
    let (promise, outlook) = told
        .split_once("Simulated: only the first ")
        .expect("a part");
    let (part, outlook) = outlook
        .split_once(
            " were simulated, and what comes later is not known; until then nothing is lost;",
        )
        .expect("a part");
    let computed =
        format!("This is computed: a simulation confirms it for the first {part} alone.");
    assert!(promise.contains(&computed), "{told}");
    assert!(outlook.contains("at its end "), "{told}");
}
