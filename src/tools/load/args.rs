//! What was typed, and the plan that it means.

use std::time::Duration;

use clap::{ArgAction, Parser};
use drainline::ingest::OutputFraming;

use crate::cli::help::Page;
use crate::cli::units;
use crate::cli::usage::UsageError;
use crate::cli::values;

use super::super::args::{JSON, Output, within};
use super::limits;
use super::plan::{Plan, Sizes};

const DEFAULT_DURATION: Duration = Duration::from_secs(10);

const MAX_CONNECTIONS: usize = 1_000_000;
const MAX_RATE: u64 = 10_000_000;
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_DURATION: Duration = Duration::from_millis(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_MESSAGE: usize = 64 << 20;
const MAX_WRITE: usize = 16 << 20;
const MAX_THREADS: usize = 64;

/// Sends messages to a server over many connections at once, and reports what was sent and how long
/// it took. Costs the machine little: by default one or two threads serve all connections, and
/// messages are rendered once and sent again and again.
#[derive(Debug, Parser)]
#[command(
    name = "drainline load",
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// The server's address and port.
    #[arg(value_name = "ADDRESS")]
    address: Option<String>,

    /// connections open at once
    ///
    /// Keeps this many connections open at once. All are connected before the first message is
    /// sent; the report counts the connects that failed. Each costs a descriptor and a local port.
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = within(units::count::<usize>, 1..=MAX_CONNECTIONS), help_heading = "Load")]
    connections: usize,

    /// messages on each connection
    ///
    /// Sends this many messages on each connection, over all connections that take its place, and
    /// ends.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<u64>, 1..=u64::MAX), help_heading = "Load")]
    messages: Option<u64>,

    /// how long to send
    ///
    /// Sends for this long once all connections are open; with --messages, stops after this time at
    /// the latest. A message that was begun by then is finished, for at most 5 s. Without either
    /// flag the load lasts 10s.
    #[arg(long, value_name = "TIME")]
    #[arg(value_parser = within(units::duration, MIN_DURATION..=MAX_TIME), help_heading = "Load")]
    duration: Option<Duration>,

    /// messages a second on each connection
    ///
    /// Sends this many messages a second on each connection, evenly spread over time and
    /// connections, whether or not the server keeps up. What is due while a socket is full is sent
    /// as soon as the socket has room. Without a rate, messages are sent as fast as the server
    /// takes them. Sets TCP_NODELAY.
    #[arg(long, value_name = "RATE")]
    #[arg(value_parser = within(units::rate, 1..=MAX_RATE), help_heading = "Load")]
    rate: Option<u64>,

    /// how long to stay open when all is sent
    ///
    /// Keeps connections open and idle for this long after everything is sent; a line on stderr
    /// says when that begins.
    #[arg(long, value_name = "TIME", default_value = "0s")]
    #[arg(value_parser = within(units::duration, Duration::ZERO..=MAX_TIME), help_heading = "Load")]
    hold: Duration,

    /// longest time that the server takes nothing
    ///
    /// Ends the load with exit code 1 when the server has taken no byte and closed no connection
    /// for this long. Applies from the start until everything is sent. Without it, a load with
    /// --messages alone waits for ever for a server that takes nothing.
    #[arg(long, value_name = "TIME")]
    #[arg(value_parser = within(units::duration, MIN_TIMEOUT..=MAX_TIME), help_heading = "Load")]
    timeout: Option<Duration>,

    /// length of messages
    ///
    /// Makes messages this long in bytes, without their framing: one size, or two with a dash for
    /// any size from the first to the second.
    #[arg(long, value_name = "SIZE", default_value = "128")]
    #[arg(value_parser = sizes, help_heading = "Messages")]
    size: Sizes,

    /// seed of random sizes
    ///
    /// Draws the sizes of a range from this number: the same number, the same sizes.
    #[arg(long, value_name = "N", default_value = "1")]
    #[arg(value_parser = units::count::<u64>, help_heading = "Messages")]
    seed: u64,

    /// how messages are delimited
    ///
    /// How messages are delimited: ended by LF or NUL, or preceded by their length, in decimal and
    /// a space (RFC 6587) or in four bytes, big-endian.
    #[arg(long, value_name = "FRAMING", default_value = "lines")]
    #[arg(value_parser = values::choice(values::OUTPUT_FRAMING), help_heading = "Messages")]
    framing: OutputFraming,

    /// number messages, for drainline verify
    ///
    /// Numbers the connections, and the messages of each, from 0, and writes both numbers into each
    /// message, with a checksum by which drainline verify recognises a torn message. A connection
    /// made in place of another has a number of its own. Each message is rendered anew and has at
    /// least 32 bytes.
    #[arg(long, help_heading = "Messages")]
    numbered: bool,

    /// begin messages with the time
    ///
    /// Begins each message with the time in nanoseconds since 1970, as 19 digits and a space: when
    /// the message was handed to the kernel, or when it was due, if the server was holding the
    /// connection up then, so that no wait for the server is left out. The report tells apart how
    /// late the load itself was. Costs 20 bytes, and each message is rendered anew.
    #[arg(long, help_heading = "Messages")]
    timestamped: bool,

    /// most bytes of one write
    ///
    /// Hands at most this much to one write(2).
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    #[arg(value_parser = within(units::size, 1..=MAX_WRITE), help_heading = "Connections")]
    write_size: usize,

    /// messages before another connection
    ///
    /// Closes each connection after this many messages and opens another in its place, at once. A
    /// connection that is refused or reset is tried again after 10 ms to 1 s; the same goes for any
    /// load with --duration.
    #[arg(long, value_name = "N")]
    #[arg(value_parser = within(units::count::<u64>, 1..=u64::MAX), help_heading = "Connections")]
    reconnect_every: Option<u64>,

    /// wait until the server has closed
    ///
    /// Shuts down the sending half of a connection, and waits until the server has closed it before
    /// another takes its place.
    #[arg(long, help_heading = "Connections")]
    wait_close: bool,

    /// threads that send
    ///
    /// Sends from this many threads. auto is 1 with --rate, else 2.
    #[arg(long, value_name = "N", default_value = "auto")]
    #[arg(value_parser = within(units::or_auto(units::count::<usize>), 1..=MAX_THREADS))]
    #[arg(help_heading = "Running")]
    threads: units::OrAuto<usize>,

    #[command(flatten)]
    pub(super) output: Output,

    /// print help
    ///
    /// Prints help: a line for each flag with -h, every flag and its cost with --help.
    #[arg(short, long, action = ArgAction::Help, help_heading = "Running")]
    help: Option<bool>,
}

pub(super) const PAGE: Page = Page {
    title: "sends messages to a server",
    usage: "drainline load ADDRESS [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
    accepted: &[
        ("address", ADDRESS),
        ("connections", "1 to 1000000"),
        ("messages", "1 or more"),
        ("duration", "a duration such as 5s or 500ms, 1ms to 24h"),
        ("rate", "a rate such as 1000 or 1000/s, 1/s to 10000000/s"),
        ("hold", "a duration such as 30s, 0s to 24h"),
        ("timeout", "a duration such as 30s, 100ms to 24h"),
        (
            "size",
            "a size such as 128 or 1KiB, or two such as 64-1KiB, 1B to 64MiB",
        ),
        ("seed", "a whole number"),
        ("write_size", "a size such as 64KiB, 1B to 16MiB"),
        ("reconnect_every", "1 or more"),
        ("threads", "1 to 64, or auto"),
        JSON,
    ],
};

const ADDRESS: &str = "an address such as 127.0.0.1:5140, [::1]:5140 or localhost:5140";

const AFTER: &str = "\
The report: messages and bytes that the kernel took, and the time from when all connections were open until everything \
was taken or the load was over, stalls included; how long connects took; how long connections waited for room in their \
sockets. A line on stderr says when a server has taken nothing for 5 s, and when it goes on.

SIGINT and SIGTERM end it early, with its report; a second one at once.

Exit codes:
  0   everything was sent, or it was ended early
  1   the server could not be reached, something could not be sent, or --timeout ended it
  2   one value cannot be read or is out of range; nothing was sent
  78  values contradict each other, or the system cannot hold them; nothing was sent

Examples:
  drainline load 127.0.0.1:5140 --connections 8 --duration 10s
  drainline load 127.0.0.1:5140 --connections 500 --rate 100 --duration 10s --json -
  drainline load 127.0.0.1:5140 --connections 8 --messages 1000 --reconnect-every 1 --wait-close
  drainline load 127.0.0.1:5140 --numbered --messages 100000, and then: drainline verify FILE
";

impl Args {
    /// What the arguments mean, held against each other.
    ///
    /// # Errors
    /// They cannot be read, or are out of range.
    pub(super) fn plan(&self) -> Result<Plan, UsageError> {
        let typed = self.address.clone().unwrap_or_default();
        if typed.is_empty() {
            let line = format!("missing address for load: expected {ADDRESS}");
            return Err(UsageError::new(2, &line));
        }
        let address = values::address(&typed)
            .map_err(|why| UsageError::bad_value("load", &typed, &format!("{ADDRESS} ({why})")))?;
        let default_duration = || self.messages.is_none().then_some(DEFAULT_DURATION);
        let threads = self
            .threads
            .unwrap_or(if self.rate.is_some() { 1 } else { 2 });
        let plan = Plan {
            messages: self.messages,
            duration: self.duration.or_else(default_duration),
            rate: self.rate,
            sizes: Sizes {
                seed: self.seed,
                ..self.size
            },
            framing: self.framing,
            write_size: self.write_size,
            reconnect_every: self.reconnect_every,
            wait_close: self.wait_close,
            numbered: self.numbered,
            timestamped: self.timestamped,
            hold: self.hold,
            timeout: self.timeout,
            threads: threads.min(self.connections),
            ..Plan::new(address, self.connections)
        };
        limits::check(&plan).map(|()| plan)
    }
}

/// One size, or two with a dash.
fn sizes(text: &str) -> Result<Sizes, units::Unreadable> {
    let size = within(units::size, 1..=MAX_MESSAGE);
    let (shortest, longest) = text.split_once('-').unwrap_or((text, text));
    let (shortest, longest) = (size(shortest)?, size(longest)?);
    match shortest <= longest {
        true => Ok(Sizes::new(shortest, longest, 0)),
        false => Err("the first size is the larger one".to_owned()),
    }
}
