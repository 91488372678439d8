//! What was typed: every flag, what it does and what it costs. Declarations only.
//!
//! A field's name is the name of the setting in [`drainline::Config`], where there is one: by
//! that name an error of the library finds its flag. Defaults and accepted values are added to each
//! help text by `help`, choices from their parsers.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser};
use drainline::ingest::{Framing, OutputFraming, Oversize};
use drainline::{FirstByteTimeout, Keepalive, OnOverload, PauseAfter, WhenFull};
use ipnet::IpNet;
use log::LevelFilter;

use super::help::Page;
use super::units::{self, OrAuto, OrOff};
use super::usage::Accepted;
use super::values::{self, ReportFormat, SinkSpec};

/// A TCP message server that cannot leak: a thread per connection, bounded in threads, memory and
/// descriptors, with a ledger that accounts for every message.
#[derive(Debug, Parser)]
#[command(
    name = "drainline",
    version,
    disable_help_flag = true,
    disable_version_flag = true
)]
pub(super) struct Args {
    /// Listens on this address; may be given several times. A name stands for its first IPv4 address.
    /// Plain TCP knows no authentication, so anything but a loopback address is open to whoever
    /// reaches it. [::] takes IPv4 clients, too, unless an IPv4 address is given with the same port. Each listener costs one thread and four descriptors.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5140")]
    #[arg(help_heading = "Listening")]
    pub(super) listen: Vec<String>,

    /// Lets the kernel queue this many connections that are not accepted yet; it cuts the number to
    /// its own net.core.somaxconn, which auto asks for. Waiting clients cost no thread and no
    /// descriptor, but to themselves they look connected and may already send. A short queue makes
    /// bursts of clients wait seconds for a retried SYN.
    #[arg(long, value_name = "N", default_value = "auto")]
    #[arg(value_parser = units::or_auto(units::count::<u32>), help_heading = "Listening")]
    pub(super) backlog: OrAuto<u32>,

    /// Cuts what comes in into messages: lines end at LF, and one CR before it is stripped; nul ends a
    /// message at a NUL byte; octet-counted and length-prefixed ones say how long they are, in decimal
    /// and a space (RFC 6587) or in four bytes, big-endian; syslog takes a message that begins with a
    /// count and a whole priority such as `<13>` as octet-counted, and any other as a line. No count
    /// where one has to be, or one above 16 times --max-message and 1 MiB, closes the connection. All but lines and nul cost one more copy of each message.
    #[arg(long, value_name = "FRAMING", default_value = "lines")]
    #[arg(value_parser = values::choice(values::FRAMING), help_heading = "Messages")]
    pub(super) framing: Framing,

    /// Frames messages so where they are written to. A message that may hold what ends one there costs
    /// the reader of the output: it would see two, and the log says so at start.
    #[arg(long, value_name = "FRAMING", default_value = "lines")]
    #[arg(value_parser = values::choice(values::OUTPUT_FRAMING), help_heading = "Messages")]
    pub(super) output_framing: OutputFraming,

    /// Takes messages up to this long, without the delimiter; --oversize decides about longer ones.
    /// Costs this much memory for each connection that is inside a long message, so it counts in the
    /// memory bound that is printed at start.
    #[arg(long, value_name = "SIZE", default_value = "64KiB")]
    #[arg(value_parser = units::size, help_heading = "Messages")]
    pub(super) max_message: usize,

    /// Decides about a message longer than --max-message. truncate delivers its beginning and
    /// discards the rest; drop discards all of it; close ends its connection. It costs what it
    /// discards, which is counted. After the first two, reading goes on at the next message.
    #[arg(long, value_name = "truncate|drop|close", default_value = "truncate")]
    #[arg(value_parser = values::choice(values::OVERSIZE), help_heading = "Messages")]
    pub(super) oversize: Oversize,

    /// Bounds the buffer between connections and sink in messages; whichever of this and
    /// --buffer-bytes is reached first counts. A larger buffer absorbs longer bursts and costs 16
    /// bytes for each message at start; what it holds is lost in a crash.
    #[arg(long, value_name = "N", default_value = "100000")]
    #[arg(value_parser = units::count::<usize>, help_heading = "Buffer")]
    pub(super) buffer_messages: usize,

    /// Bounds the buffer in bytes of memory that its messages hold. Costs up to that much memory
    /// while the sink is slower than the senders, and up to as much again, at most 72 MiB, in read buffers while many
    /// bytes flow.
    #[arg(long, value_name = "SIZE", default_value = "64MiB")]
    #[arg(value_parser = units::size, help_heading = "Buffer")]
    pub(super) buffer_bytes: usize,

    /// Stops accepting new clients once a sender has been held up this long by a full buffer, and
    /// accepts again when the sink moves. auto is a sixth of --send-timeout. Costs new clients their
    /// wait or their connection (--on-overload), and nothing to those that are served. Has to be less
    /// than --send-timeout, unless --when-full is block.
    #[arg(long, value_name = "TIME", default_value = "auto")]
    #[arg(value_parser = values::pause_after, help_heading = "Overload: pause")]
    pub(super) pause_after: PauseAfter,

    /// Decides what happens to new clients while drainline is not accepting: paused, at
    /// --max-connections, or out of descriptors. backlog leaves them in the kernel's queue, where they
    /// wait and look connected; close accepts and closes at once, so that a client or a balancer fails
    /// over; refuse rejects their connect, which also shows to health checks, and keeps the port, in
    /// IPv4 and IPv6, by two more descriptors for each listener. Connects that have begun when it stops
    /// accepting are given 200 ms, accepted, closed and counted; a new one meanwhile is answered after
    /// a second, when TCP repeats it. One descriptor is kept in reserve to turn clients away with when
    /// all others are taken; where even that is gone, new clients wait whatever is set here.
    #[arg(long, value_name = "backlog|close|refuse", default_value = "backlog")]
    #[arg(value_parser = values::choice(values::ON_PAUSE), help_heading = "Overload: pause")]
    pub(super) on_overload: OnOverload,

    /// Lets a connection wait this long for room in the full buffer before --when-full decides. While
    /// it waits it reads nothing, so TCP slows its sender. A sink's outage that is shorter costs
    /// nothing; a longer one costs the messages in hand, and a longer timeout keeps threads busy for
    /// as long.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = units::duration, help_heading = "Overload: cut off")]
    pub(super) send_timeout: Duration,

    /// Decides about a connection that waited --send-timeout. abort ends it and costs what it had in
    /// hand; drop costs messages, counted, until there is room again, and keeps the connection; wait
    /// loses nothing and costs the senders as much time as the sink needs.
    #[arg(long, value_name = "abort|drop|block", default_value = "abort")]
    #[arg(value_parser = values::choice(values::WHEN_FULL), help_heading = "Overload: cut off")]
    pub(super) when_full: WhenFull,

    /// Serves at most this many connections at once. Each costs a thread, a descriptor and about
    /// 10 KiB of memory while it is idle, beside the kernel's own. auto is 1024, or as many as the
    /// system's limits hold; a number that they do not hold is refused at start. Clients above it meet
    /// --on-overload.
    #[arg(long, value_name = "N", default_value = "auto")]
    #[arg(value_parser = units::or_auto(units::count::<usize>))]
    #[arg(help_heading = "Connection limits")]
    pub(super) max_connections: OrAuto<usize>,

    /// Serves at most this many connections of one peer at once: an IPv4 address, or the /64 of an
    /// IPv6 address. Further ones are accepted and closed. Costs clients behind one balancer or NAT
    /// their connections, unless --per-ip-exempt names it.
    #[arg(long, value_name = "N", default_value = "off")]
    #[arg(value_parser = units::or_off(units::count::<usize>))]
    #[arg(help_heading = "Connection limits")]
    pub(super) max_connections_per_ip: OrOff<usize>,

    /// Leaves these networks out of --max-connections-per-ip: balancers, NAT. May be given several
    /// times or separated by commas; a bare address is a network of one. A peer in them can take
    /// every connection there is.
    #[arg(
        long,
        value_name = "NETWORKS",
        default_value = "off",
        value_delimiter = ','
    )]
    #[arg(value_parser = units::or_off(values::network), help_heading = "Connection limits")]
    pub(super) per_ip_exempt: Vec<OrOff<IpNet>>,

    /// Gives each connection's thread this much stack. Untouched stack costs address space and no
    /// memory; an overflow aborts the whole process.
    #[arg(long, value_name = "SIZE", default_value = "256KiB")]
    #[arg(value_parser = units::size, help_heading = "Connection limits")]
    pub(super) stack_size: usize,

    /// Decides whether reads are delayed while the server is busy. auto delays them by at most
    /// --max-read-delay: a connection whose messages come close together is then read once for about
    /// four of them, and costs less than half the processor. Costs that much latency, under load
    /// only. off sets --max-read-delay aside.
    #[arg(long, value_name = "auto|off", default_value = "auto", action = ArgAction::Set)]
    #[arg(value_parser = values::choice(values::AUTO_OR_OFF), help_heading = "Wake-ups")]
    pub(super) coalesce: bool,

    /// Delays a read by at most this long, where --coalesce lets it. A longer delay helps connections
    /// that send more seldom; those whose messages come faster are delayed by a part of it.
    #[arg(long, value_name = "TIME", default_value = "50ms")]
    #[arg(value_parser = units::duration, help_heading = "Wake-ups")]
    pub(super) max_read_delay: Duration,

    /// Decides whether the sink's thread, while the server is busy, sleeps half a millisecond when it
    /// has written all there was, and then takes what came meanwhile in one go. Costs that much
    /// latency, under load only, and saves a wake-up for each read.
    #[arg(long, value_name = "auto|off", default_value = "auto", action = ArgAction::Set)]
    #[arg(value_parser = values::choice(values::AUTO_OR_OFF), help_heading = "Wake-ups")]
    pub(super) linger: bool,

    /// Counts the server as busy from this many small reads a second on, over all connections:
    /// --coalesce and --linger act only then. A lower rate saves more of the processor and costs
    /// latency sooner.
    #[arg(long, value_name = "RATE", default_value = "20000/s")]
    #[arg(value_parser = units::rate, help_heading = "Wake-ups")]
    pub(super) busy_reads: u64,

    /// Lets the thread of a connection that ended well wait this long for the next client, instead of
    /// ending. Short connections cost two to three times less so; idle threads cost their 10 KiB for
    /// that time. off gives each connection a thread of its own.
    #[arg(long, value_name = "TIME", default_value = "200ms")]
    #[arg(value_parser = units::or_off(units::duration))]
    #[arg(help_heading = "Wake-ups")]
    pub(super) reuse_threads: OrOff<Duration>,

    /// Reads at most this many messages a second from one connection. Faster senders are slowed by
    /// TCP and wait; nothing is dropped. What is left of a stream that its sender has ended or reset
    /// is read at once.
    #[arg(long, value_name = "RATE", default_value = "off")]
    #[arg(value_parser = units::or_off(units::rate), help_heading = "Rates")]
    pub(super) rate_limit: OrOff<u64>,

    /// Accepts at most this many connections a second, over all listeners. Further clients wait in
    /// the kernel's queue, and beyond --backlog for their SYN to be retried.
    #[arg(long, value_name = "RATE", default_value = "off")]
    #[arg(value_parser = units::or_off(units::rate), help_heading = "Rates")]
    pub(super) accept_rate: OrOff<u64>,

    /// Ends a connection that leaves a message unfinished for this long. Time in which the server
    /// itself holds it up does not count, and a sender that is quiet between messages is never cut.
    /// Costs a very slow sender its half message; off lets such senders hold threads for ever.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = units::or_off(units::duration), help_heading = "Deadlines")]
    pub(super) frame_timeout: OrOff<Duration>,

    /// Ends a connection that sends nothing for this long. Costs honest, quiet senders their next
    /// message, which many of them send into the closed connection without noticing.
    #[arg(long, value_name = "TIME", default_value = "off")]
    #[arg(value_parser = units::or_off(units::duration), help_heading = "Deadlines")]
    pub(super) idle_timeout: OrOff<Duration>,

    /// Ends a connection that never sends a byte. auto leaves it alone while there is room; while clients are kept
    /// out at --max-connections, those that have said nothing for 60 s are ended, the oldest first, and
    /// only as many as are needed (with --on-overload refuse, where nobody sees who is refused, one at least). A
    /// time acts always, and costs senders that connect early and are quiet their connection; off lets one host
    /// that connects and says nothing keep all others out.
    #[arg(long, value_name = "TIME", default_value = "auto")]
    #[arg(value_parser = values::first_byte_timeout, help_heading = "Deadlines")]
    pub(super) first_byte_timeout: FirstByteTimeout,

    /// Probes quiet peers by TCP keepalive and ends the connections of dead ones: after this much
    /// silence, then at this interval, this many times. The last two may be left out. Costs one small
    /// packet a probe; off keeps a dead peer's thread until something else ends it.
    #[arg(long, value_name = "IDLE,INTERVAL,PROBES", default_value = "60s,10s,6")]
    #[arg(value_parser = units::or_off(values::keepalive), help_heading = "Deadlines")]
    pub(super) keepalive: OrOff<Keepalive>,

    /// Writes the messages there, framed as --output-framing says. stdout may be a pipe, a file or a
    /// terminal; file:PATH appends, creates the file with mode 0640 before the umask, and SIGHUP reopens
    /// it; null discards them, which costs all of them and is meant for measuring. A sink that is slower
    /// than the senders slows them down.
    #[arg(long, value_name = "stdout|null|file:PATH", default_value = "stdout")]
    #[arg(value_parser = OsStringValueParser::new().try_map(|typed: OsString| values::sink(typed)))]
    #[arg(help_heading = "FdWriter")]
    pub(super) sink: SinkSpec,

    /// Decides what a terminal is shown, as stdout or by its name. auto shows control characters of messages as \x1b and
    /// the like, but for the tab: whoever sends messages could else set its title, fill the clipboard or clear the screen.
    /// off shows messages as they are. Costs nothing where the sink is no terminal.
    #[arg(long, value_name = "auto|off", default_value = "auto", action = ArgAction::Set)]
    #[arg(value_parser = values::choice(values::AUTO_OR_OFF), help_heading = "FdWriter")]
    pub(super) terminal_escape: bool,

    /// Writes the ledger in this form as the last line on stderr: text for people, json for programs.
    /// Costs nothing while messages flow.
    #[arg(long, value_name = "text|json", default_value = "text")]
    #[arg(value_parser = values::choice(values::REPORT), help_heading = "FdWriter")]
    pub(super) report: ReportFormat,

    /// Logs to stderr down to this level. Without it RUST_LOG decides, and without both it is info.
    /// Lines are limited in rate for each reason, so an overload costs few of them. debug adds each
    /// connection's begin and end, each client that is turned away and each pause, and counts what it
    /// has to leave out.
    #[arg(long, value_name = "LEVEL")]
    #[arg(value_parser = values::choice(values::LOG_LEVEL), help_heading = "FdWriter")]
    pub(super) log_level: Option<LevelFilter>,

    /// Lets a shutdown take this long to deliver what has arrived. Connections have three quarters of
    /// it, the sink the rest; what is left then is counted as dropped, and the exit code is 4. Last
    /// lines for a stderr that nobody reads hold up the end for a second and a half more at most. A
    /// longer time costs a slower restart.
    #[arg(long, value_name = "TIME", default_value = "30s")]
    #[arg(value_parser = units::duration, help_heading = "Running")]
    pub(super) drain_timeout: Duration,

    /// Writes the addresses that were bound, one a line, into this file, whole or not at all. With
    /// port 0 this is how another program learns the port. Costs one small file, which stays.
    #[arg(long, value_name = "PATH", help_heading = "Running")]
    pub(super) port_file: Option<PathBuf>,

    /// Checks the flags against each other and against the system, prints the effective values and
    /// the bound, and ends: 0 if a start would be sound, else with the line and the exit code of a
    /// start: 1, 2 or 78. Costs nothing; nothing is listened on, and no file is left behind.
    #[arg(long, help_heading = "Running")]
    pub(super) check: bool,

    /// Prints help: one screen for -h, every flag and its cost for --help.
    #[arg(short, long, action = ArgAction::Help, help_heading = "Running")]
    pub(super) help: Option<bool>,

    /// Prints the version.
    #[arg(short = 'V', long, action = ArgAction::Version, help_heading = "Running")]
    pub(super) version: Option<bool>,
}

/// What each flag accepts, in the words of its error and of its help. Choices tell it themselves.
pub(super) const ACCEPTED: Accepted = &[
    (
        "listen",
        "an address such as 127.0.0.1:5140, [::1]:5140 or localhost:5140",
    ),
    ("backlog", "1 to 65535, or auto"),
    ("max_message", "a size such as 64KiB, 1B to 1GiB"),
    ("buffer_messages", "1 to 16777216"),
    ("buffer_bytes", "a size such as 64MiB, 4KiB to 1TiB"),
    (
        "pause_after",
        "auto, off, or a duration such as 5s or 500ms, 100ms to 24h",
    ),
    ("send_timeout", "a duration such as 5s or 500ms, 1ms to 24h"),
    ("max_connections", "1 to 1000000, or auto"),
    ("max_connections_per_ip", "1 or more, or off"),
    (
        "per_ip_exempt",
        "a network such as 10.0.0.0/8 or fd00::/8, an address, or off",
    ),
    ("stack_size", "a size such as 256KiB, 64KiB to 1GiB"),
    (
        "busy_reads",
        "a rate such as 20000 or 20000/s, 1/s to 1000000000/s",
    ),
    ("max_read_delay", "a duration such as 50ms, 1ms to 1m"),
    (
        "reuse_threads",
        "a duration such as 200ms or 5s, 1ms to 1h, or off",
    ),
    (
        "rate_limit",
        "a rate such as 1000 or 1000/s, 1/s or more, or off",
    ),
    (
        "accept_rate",
        "a rate such as 1000 or 1000/s, 1/s or more, or off",
    ),
    (
        "frame_timeout",
        "a duration such as 30s or 500ms, 100ms to 365d, or off",
    ),
    (
        "idle_timeout",
        "a duration such as 10m or 1h, 100ms to 365d, or off",
    ),
    (
        "first_byte_timeout",
        "auto, off, or a duration such as 10s or 1m, 100ms to 365d",
    ),
    (
        "keepalive",
        "60s or 60s,10s,6 (idle, interval: 1s to 32767s, whole seconds; probes: 1 to 127), or off",
    ),
    ("sink", "stdout, null or file:PATH"),
    ("drain_timeout", "a duration such as 30s, 0s to 24h"),
    ("port_file", "a path"),
];

const AFTER: &str = "\
Durations are written as 500ms, 30s or 1m30s, sizes as 64KiB (1,024 bytes each) or 64KB (1,000).

Signals:
  SIGTERM, SIGINT  deliver what has arrived, print the ledger and end; a second one ends at once
                   (within a second of the first it is the same request)
  SIGHUP           reopens the file of --sink file:PATH
                   the end of the terminal it was started on stops it, unless there is a file or nohup
  SIGUSR1          lists every connection with its state on stderr

Exit codes:
  0      drainline lost nothing. What a peer framed wrongly, left unfinished, reset, or lost by a deadline
         of its own is in the ledger, by reason, and is no loss of drainline's
  1      an address or a file could not be opened, or the sink failed for good
  2      one value cannot be read or is out of range; nothing was started
  3      a clean end, but drainline lost or cut something: dropped or truncated, cut off by
         --send-timeout or the stop, or turned away with unread bytes. The ledger says what
  4      the drain did not end within --drain-timeout
  78     values contradict each other, or the system cannot hold them; nothing was started
  128+N  ended by a second signal N

Commands, each with a --help of its own:
  drainline load ADDRESS  sends messages to a server, as many and as fast as asked for
  drainline verify FILE   says what is missing or damaged in what a sink wrote of them
  drainline lab           shows the leak, and compares the cures under one load
  drainline plan          finds the settings for your rate, your sink and its longest stall

A first try, in two terminals:
  drainline
  echo hello | ncat --send-only 127.0.0.1 5140
  logger --server 127.0.0.1 --port 5140 --tcp hello
";

/// What the helps say beside the flags.
pub(super) const PAGE: Page = Page {
    title: "a TCP message server that cannot leak",
    usage: "drainline [FLAG VALUE]...",
    after: AFTER,
    short_after: "Commands: drainline load, verify, lab, plan (each has a -h)\n",
    accepted: ACCEPTED,
};
