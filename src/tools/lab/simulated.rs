//! What the simulation says of the same servers under the same load, beside what happened.

use std::time::Duration;

use crate::cli::command::Parsed;
use crate::cli::settings;

use super::super::simulation::{self, Scenario};
use super::super::words;
use super::super::workload::Workload;
use super::outcome::{Metrics, Outcome, Recovery};
use super::run::{self, settle_time};

/// One metric, from both.
struct Row {
    what: &'static str,
    of: fn(&Metrics) -> f64,
    words: fn(&Metrics) -> String,
}

const ROWS: [Row; 4] = [
    Row {
        what: "peak buffered",
        of: |of| of.peak_buffered as f64,
        words: |of| words::count(of.peak_buffered),
    },
    Row {
        what: "delivered",
        of: |of| of.delivered as f64,
        words: |of| words::count(of.delivered),
    },
    Row {
        what: "lost, unseen",
        of: |of| (of.lost() + of.unseen()) as f64,
        words: |of| words::count(of.lost() + of.unseen()),
    },
    Row {
        what: "recovery",
        of: |of| recovery(of).map_or(f64::INFINITY, |time| time.as_secs_f64()),
        words: |of| words::recovery(of.recovery),
    },
];

fn recovery(of: &Metrics) -> Option<Duration> {
    match of.recovery {
        Recovery::After(time) => Some(time),
        Recovery::NotAsked | Recovery::Never => None,
    }
}

/// A line for each metric of each strategy that was simulated, ended by LF; nothing if none was.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let Some(simulated) = &outcome.simulated else {
            continue;
        };
        if text.is_empty() {
            text = format!(
                "\n{:<14} {:<14} {:>12} {:>12} {:>9}\n",
                "strategy", "metric", "lab", "simulation", "ratio"
            );
        }
        for row in &ROWS {
            if (row.words)(&outcome.metrics) == words::NOTHING {
                continue;
            }
            let (real, said) = ((row.of)(&outcome.metrics), (row.of)(simulated));
            text += &format!(
                "{:<14} {:<14} {:>12} {:>12} {:>9}\n",
                outcome.strategy,
                row.what,
                (row.words)(&outcome.metrics),
                (row.words)(simulated),
                ratio(real, said)
            );
        }
    }
    text
}

fn ratio(real: f64, said: f64) -> String {
    if real == said {
        "1.00".to_owned()
    } else if real == 0.0 || !real.is_finite() || !said.is_finite() {
        words::NOTHING.to_owned()
    } else {
        format!("{:.2}", said / real)
    }
}

/// `None`: the lab alone has such a server.
pub(super) fn metrics(workload: &Workload, outcome: &Outcome) -> Option<Metrics> {
    let flags = outcome.flags.as_ref()?;
    let Ok(Parsed::Run(settings)) = settings::parse(run::server_arguments(flags)) else {
        return None;
    };
    let scenario = Scenario {
        config: &settings.config,
        max_message: settings.max_message,
        workload,
        settle: settle_time(workload),
        max_steps: simulation::MAX_STEPS,
    };
    Some(simulation::run(&scenario).metrics)
}
