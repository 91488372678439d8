//! What was typed.

use std::path::PathBuf;

use clap::{Arg, ArgAction, Command, value_parser};

use crate::Outcome;
use crate::scenario::{Scenario, Sink};

/// The same load against drainline and its peers, side by side.
#[derive(Debug)]
pub(crate) struct Args {
    scenario: Vec<String>,
    rounds: u16,
    pub(crate) retries: u8,
    pub(crate) json: Option<PathBuf>,
    only: Vec<String>,
    pub(crate) sink: Option<Sink>,
    pub(crate) before: Option<PathBuf>,
    pub(crate) before_bench: Option<PathBuf>,
    pub(crate) busy: bool,
    pub(crate) list: bool,
}

fn command() -> Command {
    let flag = |name, help| Arg::new(name).long(name).help(help);
    let value = |name, value_name, help| flag(name, help).value_name(value_name);
    Command::new("side_by_side")
        .about("The same load against drainline and its peers, side by side")
        .args([
            value(
                "scenario",
                "NAME",
                "Runs this scenario alone; may be given several times. Without it all are run, which \
                 takes an hour",
            )
            .action(ArgAction::Append),
            value(
                "rounds",
                "N",
                "Lets each entrant have so many turns; figures are medians over them",
            )
            .default_value("5")
            .value_parser(value_parser!(u16).range(1..1000)),
            value(
                "retries",
                "N",
                "Has a turn taken again, at most so many times, when others took more than a tenth of \
                 the machine in it",
            )
            .default_value("2")
            .value_parser(value_parser!(u8)),
            value(
                "json",
                "FILE",
                "Writes everything that was measured to this file, as JSON",
            )
            .value_parser(value_parser!(PathBuf)),
            value(
                "only",
                "PEER",
                "Lets only these take part, by their labels or how these begin; separated by commas",
            )
            .action(ArgAction::Append)
            .value_delimiter(','),
            value(
                "sink",
                "SINK",
                "Another sink than the scenario's: null, fifo, tmpfs, disk, drainline, redis, http or kafka",
            )
            .value_parser(sink),
            value(
                "before",
                "PROGRAM",
                "Another build of drainline, which takes part beside this one",
            )
            .value_parser(value_parser!(PathBuf)),
            value(
                "before-bench",
                "PROGRAM",
                "Another build of this bench, whose server that replies takes part beside this one's",
            )
            .value_parser(value_parser!(PathBuf)),
            flag(
                "busy",
                "Keeps every processor busy with a process that does nothing else, all the time",
            )
            .action(ArgAction::SetTrue),
            flag("list", "Names the scenarios").action(ArgAction::SetTrue),
            flag("bench", "What cargo passes to every bench")
                .action(ArgAction::SetTrue)
                .hide(true),
        ])
}

impl Args {
    pub(crate) fn read() -> Args {
        let mut typed = command().get_matches();
        Args {
            scenario: typed
                .remove_many("scenario")
                .into_iter()
                .flatten()
                .collect(),
            rounds: typed.remove_one("rounds").unwrap_or(1),
            retries: typed.remove_one("retries").unwrap_or(0),
            json: typed.remove_one("json"),
            only: typed.remove_many("only").into_iter().flatten().collect(),
            sink: typed.remove_one("sink"),
            before: typed.remove_one("before"),
            before_bench: typed.remove_one("before-bench"),
            busy: typed.get_flag("busy"),
            list: typed.get_flag("list"),
        }
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
        "drainline" => Ok(Sink::Drainline),
        "redis" => Ok(Sink::Redis),
        "http" => Ok(Sink::Http),
        "kafka" => Ok(Sink::Kafka),
        _ => Err("null, fifo, tmpfs, disk, drainline, redis, http or kafka".to_owned()),
    }
}
