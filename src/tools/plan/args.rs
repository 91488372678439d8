//! The flags of `drainline plan`, and the inputs that they mean.

use std::time::Duration;

use crate::cli::flag::{Field, Flag, Takes, field};
use crate::cli::help::Page;
use crate::cli::kinds::{Count, Rate, Required, choice, rate, size, time, unset};
use crate::cli::usage::UsageError;
use crate::cli::values;

use super::super::args::{JSON, Output, json};
use super::inputs::Inputs;

const MAX_CONNECTIONS: usize = 1_000_000;
const MAX_MESSAGE: usize = 64 << 20;
const MIN_MEMORY: usize = 16 << 20;
const MAX_MEMORY: usize = 1 << 40;
const MAX_STALL: Duration = Duration::from_secs(12 * 60 * 60);
const RATE: Rate = rate(1..=1_000_000_000, "1000/s");

/// What was typed.
#[derive(Debug)]
pub(super) struct Args {
    inputs: Inputs,
    /// Messages a second that a machine takes.
    pub(super) capacity: Option<u64>,
    pub(super) measure: bool,
    pub(super) simulate: bool,
    pub(super) output: Output,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            inputs: Inputs {
                rate: 0,
                size: 128,
                connections: 0,
                sink_rate: None,
                stall: Duration::from_secs(10),
                when_full: None,
                memory: None,
            },
            capacity: None,
            measure: false,
            simulate: false,
            output: Output::default(),
        }
    }
}

pub(super) fn flags() -> Vec<Flag<Args>> {
    vec![
        Flag {
            name: "rate",
            group: "Load",
            purpose: "messages a second, in all",
            help: "Plans for this many messages a second, over all connections. Give the most that \
                   arrives for longer than a stall lasts, not the average of a day.",
            takes: field!(Required(RATE), Args.inputs.rate),
        },
        Flag {
            name: "connections",
            group: "Load",
            purpose: "connections at once",
            help: "Plans for this many connections at once.",
            takes: field!(
                Required(Count(1..=MAX_CONNECTIONS)),
                Args.inputs.connections
            ),
        },
        Flag {
            name: "size",
            group: "Load",
            purpose: "length of messages",
            help: "Plans for messages this long in bytes, without their framing: the usual one. If some \
                   are longer than 64 KiB, give the longest.",
            takes: field!(size(1..=MAX_MESSAGE, "1KiB"), Args.inputs.size),
        },
        Flag {
            name: "sink-rate",
            group: "Sink",
            purpose: "messages a second that the sink takes",
            help: "How many messages a second the sink accepts when nothing is wrong. Without it the \
                   sink is assumed to keep up, and what happens beyond its rate is not known.",
            takes: field!(unset(RATE), Args.inputs.sink_rate),
        },
        Flag {
            name: "stall",
            group: "Sink",
            purpose: "longest stall of the sink",
            help: "Lets the sink take nothing for this long, now and then, without a loss: a restart, a \
                   failover, a full disk.",
            takes: field!(time(Duration::ZERO..=MAX_STALL, "5m"), Args.inputs.stall),
        },
        Flag {
            name: "when-full",
            group: "Server",
            purpose: "the server's --when-full",
            help: "The server's --when-full. Without it: abort where the sink catches up after a stall, \
                   so that nothing is lost; block where more arrives than the sink takes.",
            takes: field!(unset(choice(values::WHEN_FULL)), Args.inputs.when_full),
        },
        Flag {
            name: "memory",
            group: "Server",
            purpose: "most memory of the server",
            help: "The most memory that the server's limits may promise, on each machine. The buffer \
                   gets what connections leave; where the buffer does not hold a stall, senders wait for \
                   the rest. Without it a buffer has 1 GiB at most.",
            takes: Takes::Value(Box::new(Field {
                kind: unset(size(MIN_MEMORY..=MAX_MEMORY, "512MiB")),
                get: |args: &Args| args.inputs.memory.map(|bytes| bytes as usize),
                set: |args: &mut Args, memory| {
                    args.inputs.memory = memory.map(|bytes| bytes as u64);
                },
            })),
        },
        Flag {
            name: "capacity",
            group: "Machines",
            purpose: "messages a second of one machine",
            help: "How many messages a second one machine handles at full use. Machines are planned to \
                   be used to 70 %.",
            takes: field!(unset(RATE), Args.capacity),
        },
        Flag {
            name: "measure",
            group: "Machines",
            purpose: "measure --capacity here",
            help: "Measures --capacity on this machine: starts a server and sends messages to it for \
                   2 s, on up to 500 connections. The cost of sending is counted, too, so a machine that \
                   only receives handles more.",
            takes: Takes::Nothing(|args| args.measure = true),
        },
        Flag {
            name: "simulate",
            group: "Output",
            purpose: "draw the simulations",
            help: "Draws the timelines of the simulations: of this load and of what lies one step \
                   beyond.",
            takes: Takes::Nothing(|args| args.simulate = true),
        },
        json(field!(unset(JSON), Args.output.json)),
        Flag::help("Output"),
    ]
}

pub(super) const PAGE: Page = Page {
    name: "drainline plan",
    title: "finds the settings for a load and a sink that stalls",
    about: "Finds the settings for a server from what arrives, what the sink takes, and the longest \
            stall of the sink that has to be survived. Prints flags, the reason for each, the resource \
            limits, what the settings promise, and what happens one step beyond. All is checked in a \
            simulation that runs the server's own decisions; nothing is started.",
    usage: "drainline plan --rate RATE --connections N [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
};

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
    /// Two flags contradict each other.
    pub(super) fn inputs(&self) -> Result<Inputs, UsageError> {
        if self.measure && self.capacity.is_some() {
            let line = "--measure is given beside --capacity: expected one of the two";
            return Err(UsageError::contradiction(line));
        }
        Ok(self.inputs.clone())
    }
}
