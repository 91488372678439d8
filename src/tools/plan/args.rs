//! What was typed.

use std::time::Duration;

use clap::{ArgAction, Parser};
use drainline::WhenFull;

use crate::cli::help::Page;
use crate::cli::units;
use crate::cli::usage::UsageError;
use crate::cli::values;

use super::super::args::{JSON, Output, within};
use super::inputs::Inputs;

const MAX_RATE: u64 = 1_000_000_000;
const MAX_CONNECTIONS: usize = 1_000_000;
const MAX_MESSAGE: usize = 64 << 20;
const MIN_MEMORY: usize = 16 << 20;
const MAX_MEMORY: usize = 1 << 40;
const MAX_STALL: Duration = Duration::from_secs(12 * 60 * 60);

/// Finds the settings for a server from what arrives, what the sink takes, and the longest stall of
/// the sink that has to be survived. Prints flags, the reason for each, the resource limits, what
/// the settings promise, and what happens one step beyond. All is checked in a simulation that runs
/// the server's own decisions; nothing is started.
#[derive(Debug, Parser)]
#[command(
    name = "drainline plan",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// messages a second, in all
    ///
    /// Plans for this many messages a second, over all connections. Give the most that arrives for
    /// longer than a stall lasts, not the average of a day.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::rate, 1..=MAX_RATE), help_heading = "Load")]
    rate: Option<u64>,

    /// connections at once
    ///
    /// Plans for this many connections at once.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<usize>, 1..=MAX_CONNECTIONS), help_heading = "Load")]
    connections: Option<usize>,

    /// length of messages
    ///
    /// Plans for messages this long in bytes, without their framing: the usual one. If some are
    /// longer than 64 KiB, give the longest.
    #[arg(long, value_name = "SIZE", default_value = "128")]
    #[arg(value_parser = within(units::size, 1..=MAX_MESSAGE), help_heading = "Load")]
    size: usize,

    /// messages a second that the sink takes
    ///
    /// How many messages a second the sink accepts when nothing is wrong. Without it the sink is
    /// assumed to keep up, and what happens beyond its rate is not known.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::rate, 1..=MAX_RATE), help_heading = "Sink")]
    sink_rate: Option<u64>,

    /// longest stall of the sink
    ///
    /// Lets the sink take nothing for this long, now and then, without a loss: a restart, a
    /// failover, a full disk.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    #[arg(value_parser = within(units::duration, Duration::ZERO..=MAX_STALL), help_heading = "Sink")]
    stall: Duration,

    /// the server's --when-full
    ///
    /// The server's --when-full. Without it: abort where the sink catches up after a stall, so that
    /// nothing is lost; block where more arrives than the sink takes.
    #[arg(long, value_name = "abort|drop|block")]
    #[arg(value_parser = values::choice(values::WHEN_FULL), help_heading = "Server")]
    when_full: Option<WhenFull>,

    /// most memory of the server
    ///
    /// The most memory that the server's limits may promise, on each machine. The buffer gets what
    /// connections leave; where the buffer does not hold a stall, senders wait for the rest.
    /// Without it a buffer has 1 GiB at most.
    #[arg(long, value_name = "SIZE")]
    #[arg(value_parser = within(units::size, MIN_MEMORY..=MAX_MEMORY), help_heading = "Server")]
    memory: Option<usize>,

    /// messages a second of one machine
    ///
    /// How many messages a second one machine handles at full use. Machines are planned to be used
    /// to 70 %.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::rate, 1..=MAX_RATE), help_heading = "Machines")]
    pub(super) capacity: Option<u64>,

    /// measure --capacity here
    ///
    /// Measures --capacity on this machine: starts a server and sends messages to it for 2 s, on up
    /// to 500 connections. The cost of sending is counted, too, so a machine that only receives
    /// handles more.
    #[arg(long, help_heading = "Machines")]
    pub(super) measure: bool,

    /// draw the simulations
    ///
    /// Draws the timelines of the simulations: of this load and of what lies one step beyond.
    #[arg(long, help_heading = "Output")]
    pub(super) simulate: bool,

    #[command(flatten)]
    pub(super) output: Output,

    /// print help
    ///
    /// Prints help: a line for each flag with -h, every flag and its cost with --help.
    #[arg(short, long, action = ArgAction::Help, help_heading = "Output")]
    help: Option<bool>,
}

pub(super) const PAGE: Page = Page {
    title: "finds the settings for a load and a sink that stalls",
    usage: "drainline plan --rate RATE --connections N [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
    accepted: &[
        ("rate", RATE),
        ("connections", CONNECTIONS),
        ("size", "a size such as 128 or 1KiB, 1B to 64MiB"),
        ("sink_rate", RATE),
        ("stall", "a duration such as 10s or 5m, 0s to 12h"),
        ("memory", "a size such as 512MiB, 16MiB to 1TiB"),
        ("capacity", RATE),
        JSON,
    ],
};

const RATE: &str = "a rate such as 1000 or 1000/s, 1/s to 1000000000/s";
const CONNECTIONS: &str = "1 to 1000000";

const AFTER: &str = "\
The plan's first line can be pasted: it starts the server. The limits of the system are those of this machine.
What is simulated takes seconds at most: of a load that would take longer, the report says how much was simulated.

Exit codes:
  0   there is a plan; that it cannot be lossless is said in it
  1   --measure failed
  2   one value cannot be read or is out of range
  78  values contradict each other, or no machine can hold them

Examples:
  drainline plan --rate 10000 --connections 500 --sink-rate 20000 --stall 10s
  drainline plan --rate 50000 --connections 5000 --sink-rate 30000 --simulate
  drainline plan --rate 2000000 --connections 20000 --measure
";

impl Args {
    /// What the plan is made for.
    ///
    /// # Errors
    /// A value is missing, or two contradict each other.
    pub(super) fn inputs(&self) -> Result<Inputs, UsageError> {
        let missing = |flag: &str, accepted: &str| UsageError::bad_value(flag, "", accepted);
        let rate = self.rate.ok_or_else(|| missing("--rate", RATE))?;
        let connections = self
            .connections
            .ok_or_else(|| missing("--connections", CONNECTIONS))?;
        if self.measure && self.capacity.is_some() {
            let line = "--measure is given beside --capacity: expected one of the two";
            return Err(UsageError::contradiction(line));
        }
        Ok(Inputs {
            rate,
            size: self.size,
            connections,
            sink_rate: self.sink_rate,
            stall: self.stall,
            when_full: self.when_full,
            memory: self.memory.map(|bytes| bytes as u64),
        })
    }
}
