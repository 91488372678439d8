//! Findings as a run could bring them, for tests of how they are told.

use std::time::Duration;

use drainline::policy::OverloadLevel;

use super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};
use super::outcome::{Findings, Ledger, Metrics, Outcome, Point, Recovery};

pub(super) const STRATEGIES: [&str; 5] = ["naive", "tight-loop", "big-buffer", "limit", "layered"];

/// The timeline has a point every 50 ms: 6 s of load, and 2 s for the server to settle.
const POINTS: u64 = 161;

/// 200 clients that come back every 1.5 s, and a sink that stalls from second 1 to 3.
pub(super) fn findings() -> Findings {
    let seconds = Duration::from_secs;
    let crowd = Crowd {
        reconnect: Some(Duration::from_millis(1_500)),
        ..Crowd::new(200, 120, ClientPace::Rate(100), seconds(6))
    };
    let stall = Stall::new(seconds(1), seconds(2));
    Findings {
        load: "slow-sink".to_owned(),
        workload: Workload {
            seed: 7,
            ..Workload::new(vec![crowd], SinkPace::new(Some(30_000), &[stall]))
        },
        command: "drainline lab --preset slow-sink --seed 7".to_owned(),
        outcomes: STRATEGIES.map(outcome).into(),
    }
}

/// What a strategy does with the load at one moment, roughly.
#[derive(Clone, Copy)]
struct Moment {
    threads: f64,
    memory_mib: f64,
    buffered: f64,
    wait_seconds: f64,
    /// A second.
    delivered: f64,
    lost: f64,
    level: Option<OverloadLevel>,
}

fn moment(strategy: &str, at: f64) -> Moment {
    let when = |is: bool, value: f64| if is { value } else { 0.0 };
    let (is_loaded, is_stalled) = (at < 6.0, (1.0..3.0).contains(&at));
    // What 2 s without a sink leave is drained at 10,000 a second.
    let backlog = |most: f64| match at {
        ..1.0 => 40.0,
        1.0..3.0 => ((at - 1.0) * 20_000.0).min(most),
        _ => (most - (at - 3.0) * 10_000.0).max(25.0),
    };
    let layered = Moment {
        threads: 7.0 + when(is_loaded, 200.0),
        memory_mib: 9.0 + backlog(20_000.0) * 2e-4,
        buffered: backlog(20_000.0),
        wait_seconds: when((2.0..3.0).contains(&at), at - 2.0).max(0.0004),
        delivered: when(is_loaded && !is_stalled, 21_000.0),
        lost: when((2.5..3.0).contains(&at), 2_960.0),
        level: Some(match at {
            2.1..2.3 | 4.55..5.45 => OverloadLevel::Backpressure,
            2.3..2.5 | 3.25..4.55 => OverloadLevel::Paused,
            2.5..3.25 => OverloadLevel::Shedding,
            _ => OverloadLevel::Normal,
        }),
    };
    let without_loss = Moment {
        lost: 0.0,
        ..layered
    };
    match strategy {
        "naive" => Moment {
            threads: 3.0 + (200.0 + at * 150.0).min(897.0),
            memory_mib: 4.0 + (at * 10.0).min(58.0),
            buffered: (at * 20_000.0).min(200.0 + at * 150.0),
            wait_seconds: at,
            delivered: 0.0,
            level: None,
            ..without_loss
        },
        "tight-loop" => Moment {
            threads: 203.0 + (at * 60.0).min(300.0 - (at - 5.0) * 100.0),
            level: None,
            ..without_loss
        },
        "big-buffer" => Moment {
            memory_mib: 9.0 + backlog(40_000.0) * 4e-3,
            buffered: backlog(40_000.0),
            wait_seconds: 0.0002,
            level: Some(OverloadLevel::Normal),
            ..without_loss
        },
        "limit" => Moment {
            threads: 7.0 + when(is_loaded, 20.0),
            buffered: backlog(4_000.0),
            delivered: when(is_loaded && !is_stalled, 2_000.0),
            ..without_loss
        },
        _ => layered,
    }
}

pub(super) fn outcome(strategy: &str) -> Outcome {
    let mut timeline: Vec<Point> = Vec::new();
    let (mut delivered, mut lost) = (0.0, 0.0);
    for tick in 0..POINTS {
        let at = Duration::from_millis(tick * 50);
        let now = moment(strategy, at.as_secs_f64());
        if tick > 0 {
            let before = moment(strategy, at.as_secs_f64() - 0.05);
            delivered += before.delivered * 0.05;
            lost += before.lost * 0.05;
        }
        // As a process that starts and a scheduler that has other things to do would have it.
        let ragged = ((tick * 7919) % 13) as f64 / 13.0;
        timeline.push(Point {
            at,
            threads: now.threads as u64,
            memory_bytes: ((now.memory_mib + ragged * 0.3) * f64::from(1 << 20)) as u64,
            descriptors: now.threads as u64 + 9,
            buffered: (now.buffered * (1.0 + ragged * 0.02)) as u64,
            longest_wait: Duration::from_secs_f64(now.wait_seconds),
            delivered: delivered as u64,
            lost: f64::round(lost) as u64,
            rejected: 0,
            level: now.level,
        });
    }
    let flags = match strategy {
        "big-buffer" => Some("--when-full block --buffer-messages 1000000 --buffer-bytes 512MiB"),
        "limit" => Some("--max-connections 20 --when-full block --pause-after off"),
        "layered" => Some("--send-timeout 500ms --pause-after 300ms"),
        _ => None,
    };
    Outcome {
        strategy: strategy.to_owned(),
        flags: flags.map(|flags| flags.split(' ').map(str::to_owned).collect()),
        metrics: metrics(strategy, &timeline),
        timeline,
        sentence: format!("What became of {strategy}."),
        simulated: None,
    }
}

fn metrics(strategy: &str, timeline: &[Point]) -> Metrics {
    let last = timeline.last().copied().unwrap_or_default();
    let most = |value: fn(&Point) -> u64| timeline.iter().map(value).max().unwrap_or(0);
    let counted = |reason: &str, count| match count {
        0 => Vec::new(),
        _ => vec![(reason.to_owned(), count)],
    };
    let has_ledger = last.level.is_some();
    let waits = timeline.iter().map(|point| point.longest_wait).max();
    Metrics {
        peak_threads: most(|point| point.threads),
        threads_before: if has_ledger { 7 } else { 3 },
        threads_after: last.threads,
        peak_memory_bytes: most(|point| point.memory_bytes),
        peak_descriptors: most(|point| point.descriptors),
        peak_buffered: most(|point| point.buffered),
        sent: 118_400,
        delivered: last.delivered,
        lost: counted("connection_closed", last.lost),
        rejected: counted("paused", if strategy == "layered" { 31 } else { 0 }),
        held_up_p99: waits.unwrap_or_default().mul_f64(0.97),
        recovery: match strategy {
            "naive" => Recovery::Never,
            _ => Recovery::After(Duration::from_millis(2_050)),
        },
        ledger: match has_ledger {
            true => Ledger::Closes,
            false => Ledger::None,
        },
        stopped_at: (strategy == "naive").then(|| "900 threads".to_owned()),
        died: None,
    }
}
