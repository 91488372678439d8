//! Findings as a run could bring them, for tests of how they are told.

use std::time::Duration;

use drainline::policy::OverloadLevel;

use super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};
use super::outcome::{Findings, Ledger, Metrics, Outcome, Point, Recovery};

pub(super) const STRATEGIES: [&str; 7] = [
    "naive",
    "tight-loop",
    "big-buffer",
    "limit",
    "abort+buffer",
    "backpressure",
    "layered",
];

/// The timeline has a point every 50 ms for so long: the load, and 2 s for the server to settle.
const POINTS: u64 = 161;

/// 200 clients that come back every 1.5 s, and a sink that stalls from second 1 to 3.
pub(super) fn workload() -> Workload {
    Workload {
        crowds: vec![Crowd {
            connections: 200,
            size: 120,
            pace: ClientPace::Rate(100),
            from: Duration::ZERO,
            until: Duration::from_secs(6),
            reconnect: Some(Duration::from_millis(1_500)),
        }],
        sink: SinkPace {
            rate: Some(30_000),
            stalls: vec![Stall {
                at: Duration::from_secs(1),
                lasts: Duration::from_secs(2),
            }],
            catches_up: true,
        },
        duration: Duration::from_secs(6),
        seed: 7,
    }
}

pub(super) fn findings() -> Findings {
    Findings {
        load: "slow-sink".to_owned(),
        workload: workload(),
        command: "drainline lab --preset slow-sink --seed 7".to_owned(),
        outcomes: STRATEGIES.map(outcome).into(),
    }
}

/// What a strategy does with the load, roughly.
struct Shape {
    /// Threads in the load, after it, and at the start.
    threads: fn(f64) -> f64,
    memory_mib: fn(f64) -> f64,
    buffered: fn(f64) -> f64,
    wait_seconds: fn(f64) -> f64,
    /// A second.
    delivered: fn(f64) -> f64,
    lost: fn(f64) -> f64,
    level: fn(f64) -> Option<OverloadLevel>,
}

fn stalled(at: f64) -> bool {
    (1.0..3.0).contains(&at)
}

fn during_load(at: f64, value: f64) -> f64 {
    if at < 6.0 { value } else { 0.0 }
}

/// Drains what 2 s without a sink have left, at 10,000 a second.
fn backlog(at: f64, most: f64) -> f64 {
    match at {
        ..1.0 => 40.0,
        1.0..3.0 => ((at - 1.0) * 20_000.0).min(most),
        _ => (most.min(40_000.0) - (at - 3.0) * 10_000.0).max(25.0),
    }
}

fn shape(strategy: &str) -> Shape {
    let cured = Shape {
        threads: |at| 7.0 + during_load(at, 200.0),
        memory_mib: |at| 9.0 + backlog(at, 20_000.0) * 2e-4,
        buffered: |at| backlog(at, 20_000.0),
        wait_seconds: |at| {
            if (2.0..3.0).contains(&at) {
                at - 2.0
            } else {
                0.0004
            }
        },
        delivered: |at| {
            if stalled(at) {
                0.0
            } else {
                during_load(at, 21_000.0)
            }
        },
        lost: |at| {
            if (2.5..3.0).contains(&at) {
                2_960.0
            } else {
                0.0
            }
        },
        level: |at| {
            Some(match at {
                2.1..2.3 => OverloadLevel::Backpressure,
                2.3..2.5 => OverloadLevel::Paused,
                2.5..3.25 => OverloadLevel::Shedding,
                3.25..4.55 => OverloadLevel::Paused,
                4.55..5.45 => OverloadLevel::Backpressure,
                _ => OverloadLevel::Normal,
            })
        },
    };
    match strategy {
        "naive" => Shape {
            threads: |at| 3.0 + (200.0 + at * 150.0).min(897.0),
            memory_mib: |at| 4.0 + (at * 10.0).min(58.0),
            buffered: |at| (at * 20_000.0).min(200.0 + at * 150.0),
            wait_seconds: |at| at,
            delivered: |_| 0.0,
            lost: |_| 0.0,
            level: |_| None,
        },
        "tight-loop" => Shape {
            threads: |at| {
                3.0 + if at < 5.0 {
                    200.0 + at * 60.0
                } else {
                    500.0 - (at - 5.0) * 100.0
                }
            },
            level: |_| None,
            lost: |_| 0.0,
            ..cured
        },
        "big-buffer" => Shape {
            memory_mib: |at| 9.0 + backlog(at, 40_000.0) * 4e-3,
            buffered: |at| backlog(at, 40_000.0),
            wait_seconds: |_| 0.0002,
            lost: |_| 0.0,
            level: |_| Some(OverloadLevel::Normal),
            ..cured
        },
        "limit" => Shape {
            threads: |at| 7.0 + during_load(at, 20.0),
            buffered: |at| backlog(at, 4_000.0),
            delivered: |at| {
                if stalled(at) {
                    0.0
                } else {
                    during_load(at, 2_000.0)
                }
            },
            lost: |_| 0.0,
            ..cured
        },
        "backpressure" => Shape {
            wait_seconds: |at| {
                if (2.0..3.3).contains(&at) {
                    at - 2.0
                } else {
                    0.0004
                }
            },
            lost: |_| 0.0,
            level: |at| {
                Some(if (2.1..4.3).contains(&at) {
                    OverloadLevel::Backpressure
                } else {
                    OverloadLevel::Normal
                })
            },
            ..cured
        },
        _ => cured,
    }
}

pub(super) fn outcome(strategy: &str) -> Outcome {
    let shape = shape(strategy);
    let mut timeline: Vec<Point> = Vec::new();
    let (mut delivered, mut lost) = (0.0, 0.0);
    for tick in 0..POINTS {
        let at = Duration::from_millis(tick * 50);
        let seconds = at.as_secs_f64();
        if tick > 0 {
            delivered += (shape.delivered)(seconds - 0.05) * 0.05;
            lost += (shape.lost)(seconds - 0.05) * 0.05;
        }
        // As a process that starts and a scheduler that has other things to do would have it.
        let ragged = ((tick * 7919) % 13) as f64 / 13.0;
        timeline.push(Point {
            at,
            threads: (shape.threads)(seconds) as u64,
            memory_bytes: (((shape.memory_mib)(seconds) + ragged * 0.3) * f64::from(1 << 20))
                as u64,
            descriptors: (shape.threads)(seconds) as u64 + 9,
            buffered: ((shape.buffered)(seconds) * (1.0 + ragged * 0.02)) as u64,
            longest_wait: Duration::from_secs_f64((shape.wait_seconds)(seconds)),
            delivered: delivered as u64,
            lost: f64::round(lost) as u64,
            rejected: 0,
            level: (shape.level)(seconds),
        });
    }
    let metrics = metrics(strategy, &timeline);
    Outcome {
        strategy: strategy.to_owned(),
        flags: flags(strategy).map(|flags| flags.split(' ').map(str::to_owned).collect()),
        timeline,
        metrics,
        sentence: sentence(strategy).to_owned(),
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
    let is_counted = last.level.is_some();
    Metrics {
        peak_threads: most(|point| point.threads),
        threads_before: if is_counted { 7 } else { 3 },
        threads_after: last.threads,
        peak_memory_bytes: most(|point| point.memory_bytes),
        peak_descriptors: most(|point| point.descriptors),
        peak_buffered: most(|point| point.buffered),
        sent: 118_400,
        delivered: last.delivered,
        lost: counted("connection_closed", last.lost),
        rejected: counted("paused", if strategy == "layered" { 31 } else { 0 }),
        held_up_p99: most_wait(timeline).mul_f64(0.97),
        recovery: match strategy {
            "naive" => Recovery::Never,
            "limit" => Recovery::After(Duration::from_millis(62)),
            _ => Recovery::After(Duration::from_millis(2_050)),
        },
        ledger: if is_counted {
            Ledger::Closes
        } else {
            Ledger::None
        },
        stopped_at: (strategy == "naive").then(|| "900 threads".to_owned()),
        died: None,
    }
}

fn most_wait(timeline: &[Point]) -> Duration {
    let waits = timeline.iter().map(|point| point.longest_wait);
    waits.max().unwrap_or_default()
}

fn flags(strategy: &str) -> Option<&'static str> {
    Some(match strategy {
        "big-buffer" => {
            "--when-full block --buffer-messages 1000000 --buffer-bytes 512MiB --pause-after off"
        }
        "limit" => "--max-connections 20 --when-full block --pause-after off",
        "abort+buffer" => "--send-timeout 500ms --buffer-messages 20000 --pause-after off",
        "backpressure" => "--when-full block --pause-after off --buffer-messages 20000",
        "layered" => {
            "--send-timeout 500ms --pause-after 300ms --buffer-messages 20000 --max-connections 1024"
        }
        _ => return None,
    })
}

fn sentence(strategy: &str) -> &'static str {
    match strategy {
        "naive" => {
            "It leaked: each client that came back added a thread, and 897 were left when all clients had gone."
        }
        "tight-loop" => {
            "It leaked while the sink was slow, and had shed only part of it 2 s after the load."
        }
        "big-buffer" => "Nothing was lost and nobody waited, for 168 MiB of memory.",
        "limit" => "It stayed small, and served one client in ten.",
        "abort+buffer" => "It held 20,000 messages, then disconnected who had waited 500 ms.",
        "backpressure" => "Nothing was lost: the clients waited instead, for up to 1.30 s.",
        _ => {
            "Clients were slowed, then kept out, then disconnected; it recovered 2.05 s after the stall."
        }
    }
}
