//! The flags of `drainline load`, and the plan that they mean.

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use crate::cli::flag::{Field, Flag, Takes, field, setting};
use crate::cli::help::Page;
use crate::cli::kinds::{
    Count, Kind, NotAccepted, Required, Size, auto, choice, rate, size, time, unset,
};
use crate::cli::usage::UsageError;
use crate::cli::values::{self, Address};

use super::super::args::{JSON, Output, json};
use super::plan::{Plan, Sizes, Target};

const DEFAULT_DURATION: Duration = Duration::from_secs(10);

const MAX_CONNECTIONS: usize = 1_000_000;
const MAX_RATE: u64 = 10_000_000;
const MAX_TIME: Duration = Duration::from_secs(24 * 60 * 60);
const MIN_DURATION: Duration = Duration::from_millis(1);
const MIN_TIMEOUT: Duration = Duration::from_millis(100);
const MAX_MESSAGE: usize = 64 << 20;
const MAX_WRITE: usize = 16 << 20;
const MAX_THREADS: usize = 64;

/// An address, or `unix:` and a path, which need not be UTF-8.
struct Server;

impl Kind for Server {
    type Value = Target;

    fn read(&self, typed: &str) -> Result<Target, NotAccepted> {
        self.read_os(typed.as_ref())
    }

    fn read_os(&self, typed: &OsStr) -> Result<Target, NotAccepted> {
        match typed.as_bytes().strip_prefix(b"unix:") {
            None => Address.read_os(typed).map(Target::Tcp),
            Some(b"") => Err(NotAccepted::default()),
            Some(path) => Ok(Target::Unix(OsStr::from_bytes(path).into())),
        }
    }

    fn print(&self, value: &Target) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        format!("{}, or unix:PATH", Address.expected())
    }

    fn placeholder(&self) -> String {
        Address.placeholder()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, mut bad) = Address.cases();
        good.push("unix:/run/drainline.sock".to_owned());
        bad.push("unix:".to_owned());
        (good, bad)
    }
}

/// What was typed.
#[derive(Debug)]
pub(super) struct Args {
    /// As typed: without the duration and the threads that follow from other flags.
    plan: Plan,
    threads: Option<usize>,
    pub(super) output: Output,
}

impl Default for Args {
    fn default() -> Self {
        Args {
            plan: Plan::new((Ipv4Addr::UNSPECIFIED, 0).into(), 1),
            threads: None,
            output: Output::default(),
        }
    }
}

pub(super) fn flags() -> Vec<Flag<Args>> {
    [load(), messages(), connections(), running()]
        .into_iter()
        .flatten()
        .collect()
}

fn load() -> Vec<Flag<Args>> {
    const GROUP: &str = "Load";
    vec![
        Flag {
            name: "address",
            group: "",
            purpose: "the server",
            help: "The server's address and port, or unix: and the path of its socket.",
            takes: Takes::Argument(setting!(Required(Server), Args.plan.address)),
        },
        Flag {
            name: "connections",
            group: GROUP,
            purpose: "connections open at once",
            help: "Keeps this many connections open at once. All are connected before the first message \
                   is sent; the report counts the connects that failed. Each costs a descriptor and a \
                   local port.",
            takes: field!(Count(1..=MAX_CONNECTIONS), Args.plan.connections),
        },
        Flag {
            name: "messages",
            group: GROUP,
            purpose: "messages on each connection",
            help: "Sends this many messages on each connection, over all connections that take its \
                   place, and ends.",
            takes: field!(unset(Count(1..=u64::MAX)), Args.plan.messages),
        },
        Flag {
            name: "duration",
            group: GROUP,
            purpose: "how long to send",
            help: "Sends for this long once all connections are open; with --messages, stops after this \
                   time at the latest. A message that was begun by then is finished, for at most 5 s. \
                   Without either flag the load lasts 10s.",
            takes: field!(
                unset(time(MIN_DURATION..=MAX_TIME, "5s")),
                Args.plan.duration
            ),
        },
        Flag {
            name: "rate",
            group: GROUP,
            purpose: "messages a second on each connection",
            help: "Sends this many messages a second on each connection, evenly spread over time and \
                   connections, whether or not the server keeps up. What is due while a socket is full \
                   is sent as soon as the socket takes it. Without a rate, messages are sent as fast as \
                   the server takes them. Sets TCP_NODELAY, over TCP.",
            takes: field!(unset(rate(1..=MAX_RATE, "1000/s")), Args.plan.rate),
        },
        Flag {
            name: "hold",
            group: GROUP,
            purpose: "how long to stay open when all is sent",
            help: "Keeps connections open and idle for this long after everything is sent; a line on \
                   stderr says when that begins.",
            takes: field!(time(Duration::ZERO..=MAX_TIME, "30s"), Args.plan.hold),
        },
        Flag {
            name: "timeout",
            group: GROUP,
            purpose: "longest time that the server takes nothing",
            help: "Ends the load with exit code 1 when the server has taken no byte and closed no \
                   connection for this long. Applies from the start until everything is sent. Without \
                   it, a load with --messages alone waits for ever for a server that takes nothing.",
            takes: field!(
                unset(time(MIN_TIMEOUT..=MAX_TIME, "30s")),
                Args.plan.timeout
            ),
        },
    ]
}

fn messages() -> Vec<Flag<Args>> {
    const GROUP: &str = "Messages";
    vec![
        Flag {
            name: "size",
            group: GROUP,
            purpose: "length of messages",
            help: "Makes messages this long in bytes, without their framing: one size, or two with a \
                   dash for any size from the first to the second.",
            takes: Takes::Value(Box::new(Field {
                kind: SizeRange,
                get: |args: &Args| args.plan.sizes,
                set: |args: &mut Args, sizes| {
                    args.plan.sizes = Sizes {
                        seed: args.plan.sizes.seed,
                        ..sizes
                    };
                },
            })),
        },
        Flag {
            name: "seed",
            group: GROUP,
            purpose: "seed of random sizes",
            help: "Draws the sizes of a range from this number: the same number, the same sizes.",
            takes: field!(Count(0..=u64::MAX), Args.plan.sizes.seed),
        },
        Flag {
            name: "framing",
            group: GROUP,
            purpose: "how messages are delimited",
            help: "How messages are delimited: ended by LF or NUL, or preceded by their length, in \
                   decimal and a space (RFC 6587) or in four bytes, big-endian.",
            takes: field!(
                choice(values::OUTPUT_FRAMING).shown_as("FRAMING"),
                Args.plan.framing
            ),
        },
        Flag {
            name: "numbered",
            group: GROUP,
            purpose: "number messages, for drainline verify",
            help: "Numbers the connections, and the messages of each, from 0, and writes both numbers \
                   into each message, with a checksum by which drainline verify recognises a torn \
                   message. A connection made in place of another has a number of its own. Each message \
                   is rendered anew and has at least 32 bytes.",
            takes: Takes::Nothing(|args| args.plan.numbered = true),
        },
        Flag {
            name: "timestamped",
            group: GROUP,
            purpose: "begin messages with the time",
            help: "Begins each message with the time in nanoseconds since 1970, as 19 digits and a \
                   space: when the message was handed to the kernel, or when it was due, if the server \
                   was holding the connection up then, so that no wait for the server is left out. The \
                   report tells apart how late the load itself was. Costs 20 bytes, and each message is \
                   rendered anew.",
            takes: Takes::Nothing(|args| args.plan.timestamped = true),
        },
    ]
}

fn connections() -> Vec<Flag<Args>> {
    const GROUP: &str = "Connections";
    vec![
        Flag {
            name: "write-size",
            group: GROUP,
            purpose: "most bytes of one write",
            help: "Hands at most this much to one write(2).",
            takes: field!(size(1..=MAX_WRITE, "64KiB"), Args.plan.write_size),
        },
        Flag {
            name: "reconnect-every",
            group: GROUP,
            purpose: "messages before another connection",
            help: "Closes each connection after this many messages and opens another in its place, at \
                   once. A connection that is refused or reset is tried again after 10 ms to 1 s; the \
                   same goes for any load with --duration.",
            takes: field!(unset(Count(1..=u64::MAX)), Args.plan.reconnect_every),
        },
        Flag {
            name: "wait-close",
            group: GROUP,
            purpose: "wait until the server has closed",
            help: "Shuts down the sending half of a connection, and waits until the server has closed it \
                   before another takes its place.",
            takes: Takes::Nothing(|args| args.plan.wait_close = true),
        },
    ]
}

fn running() -> Vec<Flag<Args>> {
    const GROUP: &str = "Running";
    vec![
        json(field!(unset(JSON), Args.output.json)),
        Flag {
            name: "threads",
            group: GROUP,
            purpose: "threads that send",
            help: "Sends from this many threads. auto is 1 with --rate, else 2.",
            takes: field!(auto(Count(1..=MAX_THREADS)), Args.threads),
        },
        Flag::help(GROUP),
    ]
}

pub(super) const PAGE: Page = Page {
    name: "drainline load",
    title: "sends messages to a server",
    about: "Sends messages to a server over many connections at once, and reports what was sent and \
            how long it took. Costs the machine little: by default one or two threads serve all \
            connections, and messages are rendered once and sent again and again.",
    usage: "drainline load ADDRESS [FLAG VALUE]...",
    after: AFTER,
    short_after: "",
};

const AFTER: &str = "\
The report: messages and bytes that the kernel took, and the time from when all connections were open until everything \
was taken or the load was over, stalls included; how long connects took; how long connections waited for space in their \
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
    /// The messages are too short for what is to be in them.
    pub(super) fn plan(&self) -> Result<Plan, UsageError> {
        let typed = self.plan.clone();
        let default_duration = || typed.messages.is_none().then_some(DEFAULT_DURATION);
        let default_threads = if typed.rate.is_some() { 1 } else { 2 };
        let threads = self.threads.unwrap_or(default_threads);
        let plan = Plan {
            duration: typed.duration.or_else(default_duration),
            threads: threads.min(typed.connections),
            ..typed
        };
        plan.check().map(|()| plan)
    }
}

/// One size, or two with a dash.
struct SizeRange;

impl SizeRange {
    const ONE: Size = size(1..=MAX_MESSAGE, "128");
}

impl Kind for SizeRange {
    type Value = Sizes;

    fn read(&self, typed: &str) -> Result<Sizes, NotAccepted> {
        let (shortest, longest) = typed.split_once('-').unwrap_or((typed, typed));
        let (shortest, longest) = (Self::ONE.read(shortest)?, Self::ONE.read(longest)?);
        match shortest <= longest {
            true => Ok(Sizes::new(shortest, longest, 0)),
            false => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &Sizes) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        format!("{}, or two such as 64-1KiB", Self::ONE.expected())
    }

    fn placeholder(&self) -> String {
        "SIZE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (mut good, mut bad) = Self::ONE.cases();
        good.push("64-1KiB".to_owned());
        bad.extend(["9-5", "1-x", "0-5", "5-"].map(str::to_owned));
        (good, bad)
    }
}
