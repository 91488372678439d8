//! How far the simulation can be trusted, and the plans that are made with it: the lab's presets,
//! measured and simulated, and a grid of loads under the settings that `drainline plan` finds for
//! them. Takes some four minutes.
#![allow(clippy::print_stdout)]

use std::process::Command;

use serde_json::Value;

type Failure = Box<dyn std::error::Error>;

const PRESETS: [&str; 6] = [
    "burst",
    "slow-sink",
    "dead-sink",
    "reconnect-storm",
    "slow-loris",
    "one-greedy-client",
];

/// One of each kind: what waits, what cuts off, what holds back, and all together.
const STRATEGIES: &str = "--strategies=backpressure,abort,big-buffer,layered";

/// A figure's name, and how it is found in a report.
type Figure = (&'static str, fn(&Value) -> f64);

const FIGURES: [Figure; 3] = [
    ("peak buffered", |of| number(of, "peak_buffered_messages")),
    ("lost, unseen", |of| {
        number(of, "lost_messages") + number(of, "unseen_messages")
    }),
    ("recovery, s", |of| number(of, "recovery_seconds")),
];

fn main() -> Result<(), Failure> {
    println!(
        "{:<18} {:<13} {:<14} {:>10} {:>10} {:>6}",
        "preset", "strategy", "figure", "lab", "simulated", "ratio"
    );
    for preset in PRESETS {
        let flags = ["--simulate", STRATEGIES, "--preset", preset];
        for strategy in strategies(&flags)? {
            for (what, of) in FIGURES {
                let (real, said) = (of(&strategy["metrics"]), of(&strategy["simulated"]));
                println!(
                    "{preset:<18} {:<13} {what:<14} {real:>10.2} {said:>10.2} {:>6}",
                    strategy["strategy"].as_str().unwrap_or_default(),
                    ratio(real, said)
                );
            }
        }
    }
    println!(
        "\n{:<44} {:<9} {:>9} {:>9} {:>6} {:>6}",
        "load", "promise", "sent", "delivered", "lost", "unseen"
    );
    let mut broken = 0;
    for connections in [10, 100, 300] {
        for rate in [1000, 5000, 12000] {
            for (sink, stall) in [(20_000, "2s"), (4_000, "500ms")] {
                broken += u32::from(!keeps_its_promise(connections, rate, sink, stall)?);
            }
        }
    }
    match broken {
        0 => Ok(()),
        broken => Err(format!("{broken} plans lost what they had promised to keep").into()),
    }
}

/// Plans for a load, and puts the plan to it. `false`: it promised to lose nothing, and lost
/// something.
fn keeps_its_promise(connections: u64, rate: u64, sink: u64, stall: &str) -> Result<bool, Failure> {
    let each = rate / connections;
    let same = [
        format!("--connections={connections}"),
        format!("--sink-rate={sink}"),
        "--size=1000".to_owned(),
    ];
    let of_plan = [
        format!("--rate={}", each * connections),
        format!("--stall={stall}"),
        "--json=-".to_owned(),
    ];
    let plan = drainline("plan", &[&same[..], &of_plan].concat())?;
    let command = plan["command"].as_str().unwrap_or_default();
    let flags = command.split(' ').skip(1).map(str::to_owned);
    let of_lab = [
        "--preset=slow-sink",
        "--duration=4s",
        "--reconnect=off",
        "--strategies=custom",
    ];
    let mut of_lab: Vec<String> = of_lab.map(str::to_owned).into();
    of_lab.extend(same);
    of_lab.extend([
        format!("--rate={each}"),
        format!("--stall={stall}@1s"),
        "--json=-".to_owned(),
        "--".to_owned(),
    ]);
    of_lab.extend(flags);
    let lab = drainline("lab", &of_lab)?;
    let figures = &lab["strategies"][0]["metrics"];
    let promised = plan["promise"]["loses_nothing"] == true;
    let [sent, delivered, lost, unseen] = [
        "sent_messages",
        "delivered_messages",
        "lost_messages",
        "unseen_messages",
    ]
    .map(|name| number(figures, name));
    let load = format!("{connections} x {each}/s, sink {sink}/s, stall {stall}");
    let promise = if promised { "all" } else { "-" };
    println!("{load:<44} {promise:<9} {sent:>9} {delivered:>9} {lost:>6} {unseen:>6}");
    Ok(!promised || lost + unseen == 0.0)
}

fn strategies(flags: &[&str]) -> Result<Vec<Value>, Failure> {
    let flags: Vec<String> = ["--json=-"]
        .iter()
        .chain(flags)
        .map(|flag| (*flag).to_owned())
        .collect();
    let report = drainline("lab", &flags)?;
    Ok(report["strategies"].as_array().cloned().unwrap_or_default())
}

fn drainline(command: &str, flags: &[String]) -> Result<Value, Failure> {
    let output = Command::new(env!("CARGO_BIN_EXE_drainline"))
        .arg(command)
        .args(flags)
        .output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into());
    }
    Ok(serde_json::from_slice(&output.stdout)?)
}

fn number(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or(0.0)
}

fn ratio(real: f64, said: f64) -> String {
    match real {
        _ if real == said => "1.00".to_owned(),
        0.0 => "-".to_owned(),
        _ => format!("{:.2}", said / real),
    }
}
