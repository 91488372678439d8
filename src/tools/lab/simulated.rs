//! What the simulation says of the same servers under the same load, beside what happened.

use std::time::Duration;

use crate::cli::settings::{self, Parsed};

use super::super::demand::Demand;
use super::super::simulation::{self, Scenario};
use super::outcome::{Figures, Outcome, Recovery};
use super::run::{self, settle_time};
use super::words;

/// One figure, from both.
struct Row {
    what: &'static str,
    of: fn(&Figures) -> f64,
    words: fn(&Figures) -> String,
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

fn recovery(of: &Figures) -> Option<Duration> {
    match of.recovery {
        Recovery::After(time) => Some(time),
        Recovery::NotAsked | Recovery::Never => None,
    }
}

/// A line for each figure of each strategy that was simulated, ended by LF; nothing if none was.
pub(super) fn table(outcomes: &[Outcome]) -> String {
    let mut text = String::new();
    for outcome in outcomes {
        let Some(simulated) = &outcome.simulated else {
            continue;
        };
        if text.is_empty() {
            text = format!(
                "\n{:<14} {:<14} {:>12} {:>12} {:>9}\n",
                "strategy", "figure", "lab", "simulation", "ratio"
            );
        }
        for row in &ROWS {
            if (row.words)(&outcome.figures) == words::NOTHING {
                continue;
            }
            let (real, said) = ((row.of)(&outcome.figures), (row.of)(simulated));
            text += &format!(
                "{:<14} {:<14} {:>12} {:>12} {:>9}\n",
                outcome.strategy,
                row.what,
                (row.words)(&outcome.figures),
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
pub(super) fn figures(demand: &Demand, outcome: &Outcome) -> Option<Figures> {
    let flags = outcome.flags.as_ref()?;
    let Ok(Parsed::Run(settings)) = settings::parse(run::server_arguments(flags)) else {
        return None;
    };
    let scenario = Scenario {
        config: &settings.config,
        max_message: settings.max_message,
        demand,
        settle: settle_time(demand),
    };
    Some(simulation::run(&scenario).figures)
}
