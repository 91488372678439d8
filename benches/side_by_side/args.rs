//! What was typed.

use std::path::PathBuf;

use clap::Parser;

use crate::Outcome;
use crate::scenario::{Scenario, Sink};

/// The same load against drainline and its peers, side by side.
#[derive(Debug, Parser)]
#[command(name = "side_by_side")]
pub(crate) struct Args {
    /// Runs this scenario alone; may be given several times. Without it all are run, which takes an
    /// hour.
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,

    /// Lets each entrant have so many turns; figures are medians over them.
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u16).range(1..1000))]
    rounds: u16,

    /// Has a turn taken again, at most so many times, when others took more than a tenth of the
    /// machine in it.
    #[arg(long, value_name = "N", default_value = "2")]
    pub(crate) retries: u8,

    /// Writes everything that was measured to this file, as JSON.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Lets only these take part, by their labels or how these begin; separated by commas.
    #[arg(long, value_name = "PEER", value_delimiter = ',')]
    only: Vec<String>,

    /// Another sink than the scenario's: null, fifo, tmpfs or disk.
    #[arg(long, value_name = "SINK", value_parser = sink)]
    pub(crate) sink: Option<Sink>,

    /// Another build of drainline, which takes part beside this one.
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) before: Option<PathBuf>,

    /// Names the scenarios.
    #[arg(long)]
    pub(crate) list: bool,

    /// What cargo passes to every bench.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Args {
    pub(crate) fn read() -> Args {
        Args::parse()
    }

    pub(crate) fn rounds(&self) -> usize {
        self.rounds.into()
    }

    pub(crate) fn chooses(&self, name: &str) -> bool {
        self.scenario.is_empty() || self.scenario.iter().any(|chosen| chosen == name)
    }

    pub(crate) fn lets_play(&self, label: &str) -> bool {
        self.only.is_empty()
            || self
                .only
                .iter()
                .any(|only| label.starts_with(only.as_str()))
    }

    /// What was typed and means nothing.
    pub(crate) fn check(&self, chosen: &[&Scenario]) -> Outcome<()> {
        for name in &self.scenario {
            if !chosen.iter().any(|scenario| scenario.name == name) {
                return Err(format!("there is no scenario {name}; --list names them").into());
            }
        }
        let labels = || chosen.iter().flat_map(|scenario| scenario.entrants);
        for only in &self.only {
            if !labels().any(|entrant| entrant.label.starts_with(only.as_str())) {
                return Err(format!("no {only} takes part there").into());
            }
        }
        Ok(())
    }
}

fn sink(typed: &str) -> Result<Sink, String> {
    match typed {
        "null" => Ok(Sink::Null),
        "fifo" => Ok(Sink::Fifo),
        "tmpfs" => Ok(Sink::Tmpfs),
        "disk" => Ok(Sink::Disk),
        _ => Err("null, fifo, tmpfs or disk".to_owned()),
    }
}
