//! The flags of `drainline lab`, and the load and the strategies that they mean.

use std::path::PathBuf;
use std::time::Duration;

use drainline::ingest::{Framing, OutputFraming};

use crate::cli::command::Parsed;
use crate::cli::flag::{Flag, Takes, field};
use crate::cli::help::Page;
use crate::cli::kinds::{
    Count, Kind, NotAccepted, Time, Words, choice, list, off, rate, size, time, unset,
};
use crate::cli::usage::UsageError;
use crate::cli::{serve, settings, units, values};

use super::super::args::{JSON, Output, json};
use super::super::workload::{ClientPace, Stall, Workload};
use super::limits;
use super::presets::{PRESETS, Preset};
use super::run;
use super::strategy::{STRATEGIES, Strategy, TELLING, named};

/// What was typed. `None`: as the preset has it.
#[derive(Debug)]
pub(super) struct Args {
    preset: Preset,
    duration: Duration,
    connections: Option<usize>,
    rate: Option<u64>,
    size: Option<usize>,
    reconnect: Option<Option<Duration>>,
    seed: u64,
    sink_rate: Option<Option<u64>>,
    stall: Option<Vec<Stall>>,
    /// `None`: those that show the most.
    strategies: Option<Vec<Strategy>>,
    pub(super) charts: bool,
    pub(super) simulate: bool,
    pub(super) html: Option<PathBuf>,
    pub(super) output: Output,
    /// Flags of the server, after `--`: it runs as `custom`, after the others.
    custom: Vec<String>,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            preset: Preset::ReconnectStorm,
            duration: Duration::from_secs(5),
            connections: None,
            rate: None,
            size: None,
            reconnect: None,
            seed: 1,
            sink_rate: None,
            stall: None,
            strategies: None,
            charts: false,
            simulate: false,
            html: None,
            output: Output::default(),
            custom: Vec::new(),
        }
    }
}

pub(super) fn flags() -> Vec<Flag<Args>> {
    [load(), sink(), output()].into_iter().flatten().collect()
}

fn load() -> Vec<Flag<Args>> {
    const GROUP: &str = "Load";
    vec![
        Flag {
            name: "preset",
            group: GROUP,
            purpose: "load to begin with",
            help: "Begins with this load: burst sends almost four times what the sink takes for a fifth \
                   of the time; slow-sink sends three times as much all the time; dead-sink has one that \
                   stops and does not come back; reconnect-storm has impatient clients and a sink that \
                   stops for a while; slow-loris has clients that never finish a message; \
                   one-greedy-client has one that sends all it can.",
            takes: field!(choice(PRESETS).shown_as("NAME"), Args.preset),
        },
        Flag {
            name: "duration",
            group: GROUP,
            purpose: "how long to send",
            help: "Sends for this long; a preset is stretched to it. Timeouts of the servers are in \
                   proportion.",
            takes: field!(time(limits::DURATIONS, "5s"), Args.duration),
        },
        Flag {
            name: "connections",
            group: GROUP,
            purpose: "connections instead of the preset's",
            help: "Opens this many connections instead of the preset's, in its first crowd of clients \
                   that send at a rate. The lab holds at most 2000 at once.",
            takes: field!(unset(Count(1..=usize::MAX)), Args.connections),
        },
        Flag {
            name: "rate",
            group: GROUP,
            purpose: "messages a second of each of those",
            help: "Sends this many messages a second on each of those connections.",
            takes: field!(unset(rate(limits::RATES, "100/s")), Args.rate),
        },
        Flag {
            name: "size",
            group: GROUP,
            purpose: "length of messages",
            help: "Makes every message this long.",
            takes: field!(unset(size(limits::SIZES, "1KiB")), Args.size),
        },
        Flag {
            name: "reconnect",
            group: GROUP,
            purpose: "how long clients stay connected",
            help: "Makes a client of those hang up after about this long on one connection, whatever \
                   became of what it sent, and come back, as clients with a timeout do. off: they stay.",
            takes: field!(unset(off(time(limits::STAYS, "500ms"))), Args.reconnect),
        },
        Flag {
            name: "seed",
            group: GROUP,
            purpose: "seed of everything random",
            help: "Seeds everything random: the same number gives the same load.",
            takes: field!(Count(0..=u64::MAX), Args.seed),
        },
    ]
}

fn sink() -> Vec<Flag<Args>> {
    const GROUP: &str = "Sink";
    vec![
        Flag {
            name: "sink-rate",
            group: GROUP,
            purpose: "messages a second that the sink takes",
            help: "Lets the sink take this many messages a second. off: as many as come. A sink that \
                   takes nothing is a --stall.",
            takes: field!(unset(off(rate(limits::RATES, "10000/s"))), Args.sink_rate),
        },
        Flag {
            name: "stall",
            group: GROUP,
            purpose: "for how long the sink stops, and when",
            help: "Stops the sink for the first time, at the second: 2s@1s. May be given several times, \
                   and takes the place of the preset's. One that lasts as long as the load is not over \
                   until the server has ended.",
            takes: field!(unset(list(StallTime)), Args.stall),
        },
        Flag {
            name: "strategies",
            group: "Strategies",
            purpose: "servers to run",
            help: "Runs these, separated by commas; all for every one of them; custom for none but the \
                   flags after `--`. Without it, those that show the most.",
            takes: field!(
                unset(Words {
                    words: [("all", named())],
                    kind: list(choice(STRATEGIES).shown_as("NAMES")),
                    wrap: |strategies| strategies,
                    unwrap: |strategies| Some(strategies.clone()),
                }),
                Args.strategies
            ),
        },
    ]
}

fn output() -> Vec<Flag<Args>> {
    const GROUP: &str = "Output";
    vec![
        Flag {
            name: "charts",
            group: GROUP,
            purpose: "draw the timelines",
            help: "Draws the timeline of each strategy in characters, beneath its sentence.",
            takes: Takes::Nothing(|args| args.charts = true),
        },
        Flag {
            name: "simulate",
            group: GROUP,
            purpose: "predict each run, too",
            help: "Simulates each server that is this program, too, and prints the prediction beside \
                   what happened: how far drainline plan can be trusted.",
            takes: Takes::Nothing(|args| args.simulate = true),
        },
        Flag {
            name: "html",
            group: GROUP,
            purpose: "file for the report as a page",
            help: "Writes the report with its charts into this file, as one page that needs nothing \
                   else.",
            takes: field!(unset(values::PATH), Args.html),
        },
        json(field!(unset(JSON), Args.output.json)),
        Flag::help(GROUP),
        Flag {
            name: "flags",
            group: "",
            purpose: "flags of the server, after --",
            help: "Flags of the server, after `--`: it runs as `custom`, after the others.",
            takes: Takes::Rest(|args, words| args.custom = words),
        },
    ]
}

pub(super) const PAGE: Page = Page {
    name: "drainline lab",
    title: "shows the leak, and compares the cures",
    about: "Runs the same load against several servers in turn, each in a process of its own, and \
            reports what each used, lost and delayed: the servers that people write first, each cure \
            alone, and all of them together.",
    usage: "drainline lab [FLAG VALUE]... [-- SERVER FLAGS]",
    after: AFTER,
    short_after: "",
};

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
    /// They contradict each other, or the system.
    pub(super) fn experiment(&self) -> Result<Experiment, UsageError> {
        let mut workload = self.preset.workload(self.duration);
        workload.seed = self.seed;
        let crowds = &mut workload.crowds;
        for crowd in &mut *crowds {
            crowd.size = self.size.unwrap_or(crowd.size);
        }
        let is_paced = |pace: &ClientPace| matches!(pace, ClientPace::Rate(_));
        if let Some(crowd) = crowds.iter_mut().find(|crowd| is_paced(&crowd.pace)) {
            crowd.connections = self.connections.unwrap_or(crowd.connections);
            crowd.pace = self.rate.map_or(crowd.pace, ClientPace::Rate);
            crowd.reconnect = self.reconnect.unwrap_or(crowd.reconnect);
        }
        workload.sink.rate = self.sink_rate.unwrap_or(workload.sink.rate);
        if let Some(stalls) = &self.stall {
            workload.sink.stalls.clone_from(stalls);
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
            load: values::print_choice(PRESETS, &self.preset),
            workload,
            strategies,
        })
    }

    fn strategies(&self) -> Result<Vec<Strategy>, UsageError> {
        let is_custom = |strategy: &Strategy| matches!(strategy, Strategy::Custom(_));
        let mut strategies = self.strategies.clone().unwrap_or_else(|| TELLING.to_vec());
        if self.custom.is_empty() && strategies.iter().any(is_custom) {
            let line =
                "missing flags for --strategies custom: expected those of the server, after --";
            return Err(UsageError::contradiction(line));
        }
        strategies.retain(|strategy| !is_custom(strategy));
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

/// `2s@1s`.
struct StallTime;

impl StallTime {
    const LASTS: Time = time(limits::STALLS, "2s");
}

impl Kind for StallTime {
    type Value = Stall;

    fn read(&self, typed: &str) -> Result<Stall, NotAccepted> {
        let (lasts, at) = typed.split_once('@').ok_or_else(NotAccepted::default)?;
        Ok(Stall {
            at: units::duration(at).map_err(|_| NotAccepted::default())?,
            lasts: Self::LASTS.read(lasts)?,
        })
    }

    fn print(&self, value: &Stall) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        "a duration of at most 10m, @ and a time, such as 2s@1s".to_owned()
    }

    fn placeholder(&self) -> String {
        "TIME@TIME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let good = ["2s@1s", "500ms@4s"].map(str::to_owned);
        let bad = ["2s", "0s@1s", "2s@", "11m@1s", "2s@soon"].map(str::to_owned);
        (good.to_vec(), bad.to_vec())
    }
}
