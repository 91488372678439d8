//! The lab shows the leak, and that it is gone with each cure; and it leaves nothing behind.

use std::fs;
use std::path::Path;

use crate::common::child::Drainline;
use crate::common::tool::{refused, run};
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// Clients come back every 0.2 s on average, and the sink stands still for half of the time.
const STORM: [&str; 7] = [
    "lab",
    "--duration=2s",
    "--connections=60",
    "--rate=100",
    "--reconnect=200ms",
    "--stall=1s@400ms",
    "--json=-",
];
const CLIENTS: u64 = 60;

fn outcomes(flags: &[&str]) -> Vec<Value> {
    let (exit, stdout) = run(&[&STORM, flags].concat());
    exit.assert_code(0);
    assert_eq!(exit.stderr, "");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    report["strategies"].as_array().unwrap().clone()
}

/// Without the timeline, which nobody reads in a failure.
fn brief(outcome: &Value) -> String {
    format!("{}: {}", outcome["strategy"], outcome["metrics"])
}

fn metric(outcome: &Value, name: &str) -> u64 {
    let metric = &outcome["metrics"][name];
    metric
        .as_u64()
        .unwrap_or_else(|| panic!("{name}: {metric}"))
}

#[test]
fn what_is_naive_leaks_and_the_cures_do_not() {
    let cures = [
        "limit",
        "abort",
        "abort+buffer",
        "pause",
        "backpressure",
        "rate-limit",
        "layered",
    ];
    let names = format!("--strategies=naive,{}", cures.join(","));
    let outcomes = outcomes(&[&names]);
    let named: Vec<&str> = outcomes
        .iter()
        .filter_map(|it| it["strategy"].as_str())
        .collect();
    assert_eq!(named, [&["naive"][..], &cures].concat());
    let (naive, cured) = outcomes.split_first().unwrap();

    // More threads than there ever were clients, and they stay.
    let left = metric(naive, "threads_left");
    assert!(
        left > 2 * CLIENTS,
        "naive no longer leaks: {}",
        brief(naive)
    );
    assert_eq!(metric(naive, "delivered_messages"), 0);
    assert!(naive["flags"].is_null());

    for outcome in cured {
        assert!(
            metric(outcome, "threads_left") <= 5,
            "it leaks: {}",
            brief(outcome)
        );
        assert_eq!(
            outcome["metrics"]["ledger_closes"],
            true,
            "{}",
            brief(outcome)
        );
        assert!(
            metric(outcome, "delivered_messages") > 0,
            "{}",
            brief(outcome)
        );
    }
    let of = |name: &str| cured.iter().find(|it| it["strategy"] == name).unwrap();
    for lossless in ["backpressure", "layered"] {
        let outcome = of(lossless);
        assert_eq!(metric(outcome, "unseen_messages"), 0, "{}", brief(outcome));
        assert_eq!(
            metric(outcome, "delivered_messages"),
            metric(outcome, "sent_messages"),
            "{}",
            brief(outcome)
        );
    }
}

#[test]
fn the_flags_in_a_row_start_the_same_server() {
    let outcomes = outcomes(&["--strategies=limit"]);
    let flags: Vec<&str> = outcomes[0]["flags"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it.as_str().unwrap())
        .collect();
    let mut server = Drainline::start(&[&["--sink", "null"], &flags[..]].concat());
    server.terminate().assert_code(0);
}

#[test]
fn a_server_that_takes_too_much_is_stopped_and_the_report_says_so() {
    let flags = [
        "lab",
        "--preset=dead-sink",
        "--strategies=naive",
        "--duration=10s",
        "--connections=1500",
        "--reconnect=500ms",
        "--rate=10",
        "--json=-",
    ];
    let (exit, stdout) = run(&flags);
    exit.assert_code(0);
    let report: Value = serde_json::from_str(&stdout).unwrap();
    let outcome = &report["strategies"][0];
    assert_eq!(
        outcome["metrics"]["stopped_at"],
        "3,000 threads",
        "{}",
        brief(outcome)
    );
    assert!(
        outcome["sentence"]
            .as_str()
            .unwrap()
            .contains("3,000 threads"),
        "{}",
        brief(outcome)
    );
}

/// The processes that a process has started.
fn children(pid: u32) -> Vec<u32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("children")).ok())
        .flat_map(|text| {
            text.split_whitespace()
                .map(|pid| pid.parse().unwrap())
                .collect::<Vec<_>>()
        })
        .collect()
}

#[test]
fn whatever_ends_it_no_server_is_left() {
    for (signal, code) in [
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(143)),
        (Signal::KILL, None),
    ] {
        for strategy in ["naive", "layered"] {
            let strategies = format!("--strategies={strategy}");
            let lab =
                Drainline::with(&["lab", "--duration=10m", "--preset=dead-sink", &strategies]);
            let mut lab = lab.bare().spawn();
            let mut servers = Vec::new();
            wait_until("a server", DEADLINE, || {
                servers = children(lab.pid());
                !servers.is_empty()
            });
            // Clients are connected, and under way.
            let descriptors = format!("/proc/{}/fd", servers[0]);
            wait_until("clients", DEADLINE, || {
                fs::read_dir(&descriptors).is_ok_and(|entries| entries.count() > 100)
            });
            lab.signal(signal);
            assert_eq!(lab.wait().code, code);
            wait_until("the server's end", DEADLINE, || {
                servers
                    .iter()
                    .all(|pid| !Path::new(&format!("/proc/{pid}/exe")).exists())
            });
        }
    }
}

#[test]
fn what_is_wrong_is_said_before_anything_starts() {
    let bad: [(&[&str], i32, &[&str]); 6] = [
        (&["--stall=1s@9s"], 78, &["--stall 1s@9s", "--duration 5s"]),
        (
            &["--sink-rate=0"],
            2,
            &["invalid value '0' for --sink-rate"],
        ),
        (&["--connections=100000"], 78, &["--connections 100000"]),
        (
            &["--strategies=hope"],
            2,
            &["invalid value 'hope' for --strategies", "layered"],
        ),
        (
            &["--html=/nonexistent/page.html"],
            1,
            &["--html /nonexistent/page.html"],
        ),
        (
            &["--", "--sink", "file:x"],
            2,
            &["--sink", "the lab sets it itself"],
        ),
    ];
    for (flags, code, parts) in bad {
        refused(Drainline::with(&[&["lab"], flags].concat()), code, parts);
    }
}

#[test]
fn a_short_lab_is_told_as_a_table() {
    let flags: Vec<&str> = STORM
        .iter()
        .copied()
        .filter(|flag| *flag != "--json=-")
        .collect();
    let (exit, stdout) = run(&[&flags[..], &["--strategies=layered"]].concat());
    exit.assert_code(0);
    assert!(
        stdout.contains("layered") && stdout.contains("drainline --send-timeout"),
        "{stdout}"
    );
}

/// The simulation need not be right to the message, but in what is lost and in what is worse.
#[test]
fn the_simulation_says_who_loses_and_who_loses_most() {
    let strategies = "--strategies=abort,big-buffer,backpressure,layered";
    let outcomes = outcomes(&["--simulate", strategies]);
    let lost = |of: &Value| {
        let count = |name: &str| of[name].as_u64().unwrap();
        count("lost_messages") + count("unseen_messages")
    };
    for outcome in &outcomes {
        let (real, said) = (lost(&outcome["metrics"]), lost(&outcome["simulated"]));
        assert_eq!(real > 0, said > 0, "{}: {real} and {said}", brief(outcome));
        assert_eq!(
            real > 0,
            outcome["strategy"] == "abort",
            "{}",
            brief(outcome)
        );
    }
}
