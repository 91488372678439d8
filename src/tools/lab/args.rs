//! What was typed, and the load and the strategies that it means.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Parser, ValueEnum};
use drainline::ingest::{Framing, OutputFraming};

use crate::cli::help::Page;
use crate::cli::serve;
use crate::cli::settings::{self, Parsed};
use crate::cli::units;
use crate::cli::usage::UsageError;

use super::super::args::{JSON, Output, within};
use super::super::workload::{ClientPace, Stall, Workload};
use super::limits;
use super::presets::Preset;
use super::run;
use super::strategy::{Strategy, TELLING};

/// Runs the same load against several servers in turn, each in a process of its own, and reports
/// what each used, lost and delayed: the servers that people write first, each cure alone, and all
/// of them together.
#[derive(Debug, Parser)]
#[command(
    name = "drainline lab",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// load to begin with
    ///
    /// Begins with this load: burst sends almost four times what the sink takes for a fifth of the
    /// time; slow-sink sends three times as much all the time; dead-sink has one that stops and
    /// does not come back; reconnect-storm has impatient clients and a sink that stops for a while;
    /// slow-loris has clients that never finish a message; one-greedy-client has one that sends all
    /// it can.
    #[arg(long, value_name = "NAME", default_value = "reconnect-storm")]
    #[arg(value_parser = preset, help_heading = "Load")]
    preset: Preset,

    /// how long to send
    ///
    /// Sends for this long; a preset is stretched to it. Timeouts of the servers are in proportion.
    #[arg(long, value_name = "TIME", default_value = "5s")]
    #[arg(value_parser = within(units::duration, limits::DURATIONS), help_heading = "Load")]
    duration: Duration,

    /// connections instead of the preset's
    ///
    /// Opens this many connections instead of the preset's, in its first crowd of clients that send
    /// at a rate.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<usize>, 1..=usize::MAX), help_heading = "Load")]
    connections: Option<usize>,

    /// messages a second of each of those
    ///
    /// Sends this many messages a second on each of those connections.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::rate, limits::RATES), help_heading = "Load")]
    rate: Option<u64>,

    /// length of messages
    ///
    /// Makes every message this long.
    #[arg(long, value_name = "SIZE")]
    #[arg(value_parser = within(units::size, limits::SIZES), help_heading = "Load")]
    size: Option<usize>,

    /// how long clients stay connected
    ///
    /// Makes a client of those hang up after about this long on one connection, whatever became of
    /// what it sent, and come back, as clients with a timeout do. off: they stay.
    #[arg(long, value_name = "TIME")]
    #[arg(value_parser = within(units::or_off(units::duration), limits::STAYS))]
    #[arg(help_heading = "Load")]
    reconnect: Option<units::OrOff<Duration>>,

    /// seed of everything random
    ///
    /// Seeds everything random: the same number gives the same load.
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = units::count::<u64>, help_heading = "Load")]
    seed: u64,

    /// messages a second that the sink takes
    ///
    /// Lets the sink take this many messages a second. off: as many as come.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::or_off(units::rate), limits::RATES))]
    #[arg(help_heading = "Sink")]
    sink_rate: Option<units::OrOff<u64>>,

    /// for how long the sink stops, and when
    ///
    /// Stops the sink for the first time, at the second: 2s@1s. May be given several times, and
    /// takes the place of the preset's. One that lasts as long as the load is not over until the
    /// server has ended.
    #[arg(long, value_name = "TIME@TIME")]
    #[arg(value_parser = stall, help_heading = "Sink")]
    stall: Vec<Stall>,

    /// servers to run
    ///
    /// Runs these, separated by commas; all for every one of them; custom for none but the flags
    /// after `--`. Without it, those that show the most.
    #[arg(long, value_name = "NAMES")]
    #[arg(help_heading = "Strategies")]
    strategies: Option<String>,

    /// draw the timelines
    ///
    /// Draws the timeline of each strategy in characters, beneath its sentence.
    #[arg(long, help_heading = "Output")]
    pub(super) charts: bool,

    /// predict each run, too
    ///
    /// Simulates each server that is this program, too, and prints the prediction beside what
    /// happened: how far drainline plan can be trusted.
    #[arg(long, help_heading = "Output")]
    pub(super) simulate: bool,

    /// file for the report as a page
    ///
    /// Writes the report with its charts into this file, as one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    #[arg(help_heading = "Output")]
    pub(super) html: Option<PathBuf>,

    #[command(flatten)]
    pub(super) output: Output,

    /// print help
    ///
    /// Prints help: a line for each flag with -h, every flag and its cost with --help.
    #[arg(short, long, action = ArgAction::Help, help_heading = "Running")]
    help: Option<bool>,

    /// Flags of the server, after `--`: it runs as `custom`, after the others.
    #[arg(last = true, value_name = "FLAGS")]
    custom: Vec<String>,
}

pub(super) const PAGE: Page = Page {
    title: "shows the leak, and compares the cures",
    usage: "drainline lab [FLAG VALUE]... [-- SERVER FLAGS]",
    after: AFTER,
    short_after: "",
    accepted: &[
        (
            "preset",
            "burst, slow-sink, dead-sink, reconnect-storm, slow-loris or one-greedy-client",
        ),
        ("duration", limits::DURATION),
        ("connections", limits::CONNECTIONS),
        ("rate", limits::RATE),
        ("size", limits::SIZE),
        ("reconnect", limits::RECONNECT),
        ("seed", "a whole number"),
        ("sink_rate", limits::SINK_RATE),
        ("stall", limits::STALL),
        ("strategies", STRATEGIES),
        ("html", "a path"),
        JSON,
    ],
};

const STRATEGIES: &str = "naive, tight-loop, small-buffer, big-buffer, limit, abort, abort+buffer, pause, rate-limit, \
                          single-sender, backpressure, layered or custom, several with commas, or all";

const CUSTOM: &str = "custom";

const AFTER: &str = "\
Strategies that fail: naive (handlers block on a channel that nobody receives from), tight-loop (one thread receives \
and writes), small-buffer (the same, with ten messages of buffer). Cures alone: big-buffer, limit, abort, \
abort+buffer, pause, rate-limit, single-sender, backpressure. All together: layered. Each cure is this program with the \
other layers off; its line in the report says with which flags.

A server that takes more than 3000 threads, 6000 descriptors or 2 GiB is stopped, and the report says so. Clients \
and servers are on loopback.

Exit codes:
  0   the report is written
  1   a server could not be started, or the report not be written
  2   one value cannot be read or is out of range; nothing was started
  78  values contradict each other, or the system cannot hold them; nothing was started
  130 SIGINT ended it, 143 SIGTERM; nothing of it is left running

Examples:
  drainline lab
  drainline lab --preset dead-sink --strategies all --html dead-sink.html
  drainline lab --connections 100 --rate 200 --sink-rate 15000 --stall 2s@1s -- --when-full drop --send-timeout 100ms
";

/// A load, and who is put to it.
#[derive(Debug)]
pub(super) struct Experiment {
    /// The preset's name.
    pub(super) load: String,
    pub(super) workload: Workload,
    pub(super) strategies: Vec<Strategy>,
}

impl Args {
    /// What the arguments mean, held against each other and against the machine.
    ///
    /// # Errors
    /// They cannot be read, are out of range, or contradict each other.
    pub(super) fn experiment(&self) -> Result<Experiment, UsageError> {
        let mut workload = self.preset.workload(self.duration);
        workload.seed = self.seed;
        if let Some(size) = self.size {
            workload
                .crowds
                .iter_mut()
                .for_each(|crowd| crowd.size = size);
        }
        let is_paced = |pace: &ClientPace| matches!(pace, ClientPace::Rate(_));
        if let Some(crowd) = workload
            .crowds
            .iter_mut()
            .find(|crowd| is_paced(&crowd.pace))
        {
            crowd.connections = self.connections.unwrap_or(crowd.connections);
            crowd.pace = self.rate.map_or(crowd.pace, ClientPace::Rate);
            crowd.reconnect = self.reconnect.unwrap_or(crowd.reconnect);
        }
        workload.sink.rate = self.sink_rate.unwrap_or(workload.sink.rate);
        if !self.stall.is_empty() {
            workload.sink.stalls.clone_from(&self.stall);
            workload.sink.stalls.sort_by_key(|stall| stall.at);
        }
        limits::check(&workload)?;
        let strategies = self.strategies()?;
        // What cannot run is said before anything does.
        for flags in strategies
            .iter()
            .filter_map(|strategy| strategy.flags(&workload))
        {
            check_server(&flags)?;
        }
        Ok(Experiment {
            load: self.preset.name(),
            workload,
            strategies,
        })
    }

    fn strategies(&self) -> Result<Vec<Strategy>, UsageError> {
        let mut strategies = match self.strategies.as_deref() {
            None => TELLING.to_vec(),
            Some("all") => Strategy::value_variants().to_vec(),
            Some(names) => names
                .split(',')
                .filter(|name| *name != CUSTOM)
                .map(|name| {
                    Strategy::named(name)
                        .ok_or_else(|| UsageError::bad_value("--strategies", name, STRATEGIES))
                })
                .collect::<Result<_, _>>()?,
        };
        let is_asked = self
            .strategies
            .iter()
            .any(|names| names.split(',').any(|name| name == CUSTOM));
        if is_asked && self.custom.is_empty() {
            let line =
                "missing flags for --strategies custom: expected those of the server, after --";
            return Err(UsageError::contradiction(line));
        }
        if !self.custom.is_empty() {
            check_custom(&self.custom)?;
            strategies.push(Strategy::Custom(self.custom.clone()));
        }
        Ok(strategies)
    }
}

/// Whether the lab is left what it sets itself.
fn check_custom(words: &[String]) -> Result<(), UsageError> {
    let name = |word: &String| word.split('=').next().unwrap_or_default().to_owned();
    let given = words.iter().map(name).collect::<Vec<_>>();
    match run::OWN_FLAGS
        .iter()
        .find(|(own, _)| given.iter().any(|flag| flag == own))
    {
        None => Ok(()),
        Some((flag, value)) => Err(UsageError::new(
            2,
            &format!(
                "{flag}: the lab sets it itself, to {value}: accepted after -- are other flags of a server"
            ),
        )),
    }
}

/// Whether a server with these flags can be started on this machine, and be read by the lab.
fn check_server(flags: &[String]) -> Result<(), UsageError> {
    let Parsed::Run(settings) = settings::parse(run::server_arguments(flags))? else {
        let line = "lab: --help and --version start no server: accepted after -- are flags of one";
        return Err(UsageError::contradiction(line));
    };
    let are_lines =
        settings.framing == Framing::Lines && settings.output_framing == OutputFraming::Lines;
    if settings.check || !are_lines {
        let line = "lab: accepted after -- are flags of a server that takes and gives lines, without --check";
        return Err(UsageError::contradiction(line));
    }
    serve::check_start(&settings)
}

fn preset(name: &str) -> Result<Preset, units::Unreadable> {
    Preset::named(name).ok_or_else(|| "there is no such preset".to_owned())
}

/// `2s@1s`.
fn stall(text: &str) -> Result<Stall, units::Unreadable> {
    let (lasts, at) = text.split_once('@').ok_or("no @")?;
    Ok(Stall {
        at: units::duration(at)?,
        lasts: within(units::duration, limits::STALLS)(lasts)?,
    })
}
