//! What the flags mean: every value read, in its range, and none against another.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, CommandFactory, FromArgMatches};
use drainline::ingest::{Framing, OutputFraming, Oversize, message_overhead_bytes};
use drainline::{Config, ConfigError};
use log::LevelFilter;

use super::args::{self, ACCEPTED, Args};
use super::files;
use super::help;
use super::units;
use super::usage::{self, UsageError};
use super::values::{self, ReportFormat, SinkSpec};

const MAX_MESSAGE: usize = 1 << 30;

/// What the command line asks for.
#[derive(Debug)]
pub(crate) enum Parsed {
    /// Serve, or check, with these settings.
    Run(Box<Settings>),
    /// Print this to stdout and end with 0.
    Print(String),
}

/// Everything that the command line sets.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The server's own settings. They passed [`Config::check`].
    pub(crate) config: Config,
    /// The longest message in bytes, without its framing.
    pub(crate) max_message: usize,
    /// How streams are cut into messages.
    pub(crate) framing: Framing,
    /// How messages are framed where they are written to.
    pub(crate) output_framing: OutputFraming,
    /// What becomes of a longer one.
    pub(crate) oversize: Oversize,
    /// Where to listen: at least one address.
    pub(crate) listen: Vec<SocketAddr>,
    /// Where the messages go.
    pub(crate) sink: SinkSpec,
    /// Whether a terminal is shown control characters of messages escaped.
    pub(crate) terminal_escape: bool,
    /// How the ledger is written at the end.
    pub(crate) report: ReportFormat,
    /// Where the bound addresses are written.
    pub(crate) port_file: Option<PathBuf>,
    /// Whether to check and print only.
    pub(crate) check: bool,
    /// `None`: RUST_LOG decides, else info.
    pub(crate) log_level: Option<LevelFilter>,
}

/// Reads a command line, the program's name first, as [`std::env::args_os`] gives it.
///
/// A name in `--listen` is resolved here, which may take as long as the system's resolver does.
///
/// # Errors
/// The first thing that is wrong, in one line, with its exit code. Nothing has been started.
pub(crate) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Parsed, UsageError> {
    let mut command = command();
    let matches = match command.try_get_matches_from_mut(args) {
        Ok(matches) => matches,
        Err(error) => {
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
                    Ok(Parsed::Print(error.to_string()))
                }
                _ => Err(UsageError::from_clap(&error, &command, ACCEPTED)),
            };
        }
    };
    let args = Args::from_arg_matches(&matches)
        .map_err(|error| UsageError::from_clap(&error, &command, ACCEPTED))?;
    let settings = Settings::from_args(args, &command, &matches)?;
    Ok(Parsed::Run(Box::new(settings)))
}

/// Every flag as clap sees it, for completions and manual pages too.
pub(super) fn command() -> Command {
    // `-5s` after a flag is a bad value of that flag, not a flag of its own. A path is left out: no
    // value of it is bad, so a flag whose value was forgotten would become a file.
    let command = Args::command().mut_args(|arg| {
        let takes_anything = usage::takes_value(&arg) && arg.get_id() != "port_file";
        arg.allow_hyphen_values(takes_anything)
    });
    help::install(command, &args::PAGE)
}

impl Settings {
    fn from_args(
        args: Args,
        command: &Command,
        matches: &ArgMatches,
    ) -> Result<Settings, UsageError> {
        let listen = args
            .listen
            .iter()
            .map(|text| {
                values::address(text)
                    .map_err(|why| UsageError::unreadable(command, ACCEPTED, "listen", text, &why))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let exempt_is_off = args.per_ip_exempt.contains(&None);
        let mut config = Config::default();
        config.max_connections = args.max_connections;
        config.max_connections_per_ip = args.max_connections_per_ip;
        config.per_ip_exempt = args.per_ip_exempt.into_iter().flatten().collect();
        config.buffer_messages = args.buffer_messages;
        config.buffer_bytes = args.buffer_bytes;
        config.send_timeout = args.send_timeout;
        config.when_full = args.when_full;
        config.pause_after = args.pause_after;
        config.on_overload = args.on_overload;
        config.rate_limit = args.rate_limit;
        config.accept_rate = args.accept_rate;
        config.frame_timeout = args.frame_timeout;
        config.idle_timeout = args.idle_timeout;
        config.first_byte_timeout = args.first_byte_timeout;
        config.keepalive = args.keepalive;
        config.backlog = args.backlog;
        config.stack_size = Some(args.stack_size);
        config.reuse_threads = args.reuse_threads;
        config.busy_reads = args.busy_reads;
        config.max_read_delay = args.coalesce.then_some(args.max_read_delay);
        config.linger = args.linger;
        config.drain_timeout = args.drain_timeout;
        let settings = Settings {
            config,
            max_message: args.max_message,
            framing: args.framing,
            output_framing: args.output_framing,
            oversize: args.oversize,
            listen,
            sink: args.sink,
            terminal_escape: args.terminal_escape,
            report: args.report,
            port_file: args.port_file,
            check: args.check,
            log_level: args.log_level,
        };
        settings
            .check_ranges()
            .and_then(|()| settings.check_together(exempt_is_off))
            .map_err(|error| UsageError::from_setting(&error, command, ACCEPTED, matches))?;
        Ok(settings)
    }

    /// The library checks its own settings and its own contradictions.
    fn check_ranges(&self) -> Result<(), ConfigError> {
        if !(1..=MAX_MESSAGE).contains(&self.max_message) {
            return Err(ConfigError::out_of_range(
                "max_message",
                units::print_size(self.max_message),
                String::new(),
            ));
        }
        self.config.check()
    }

    fn check_together(&self, exempt_is_off: bool) -> Result<(), ConfigError> {
        let overhead = message_overhead_bytes(self.max_message);
        if self.max_message + overhead > self.config.buffer_bytes {
            let buffer = units::print_size(self.config.buffer_bytes);
            return Err(ConfigError::contradiction(
                "max_message",
                units::print_size(self.max_message),
                format!(
                    "at least {overhead} bytes less than buffer_bytes ({buffer}), or such a message could never be buffered"
                ),
            ));
        }
        if let Some(twice) = self.listens_twice() {
            return Err(ConfigError::contradiction(
                "listen",
                twice.to_string(),
                "each address once, and none beside the wildcard of its kind and port".to_owned(),
            ));
        }
        if exempt_is_off && !self.config.per_ip_exempt.is_empty() {
            return Err(ConfigError::contradiction(
                "per_ip_exempt",
                format!("{},off", self.exempt()),
                "networks or off, not both".to_owned(),
            ));
        }
        if let (SinkSpec::File(sink), Some(port_file)) = (&self.sink, &self.port_file)
            && files::replaces(port_file, sink)
        {
            return Err(ConfigError::contradiction(
                "port_file",
                port_file.display().to_string(),
                "a file other than that of --sink, whose place it would take".to_owned(),
            ));
        }
        Ok(())
    }

    /// Port 0 is another port each time.
    fn listens_twice(&self) -> Option<SocketAddr> {
        let fixed = |address: &&SocketAddr| address.port() != 0;
        self.listen
            .iter()
            .enumerate()
            .filter(|(_, address)| fixed(address))
            .find(|(place, address)| {
                let mut before = self.listen[..*place].iter();
                before.any(|other| overlap(other, address))
            })
            .map(|(_, address)| *address)
    }

    /// Every flag that decides how the server works, with its value as it can be typed: names
    /// resolved, units in full. Left out are `--log-level` and `--port-file` where they were not given.
    pub(crate) fn effective(&self) -> Vec<(String, String)> {
        let config = &self.config;
        let time = units::print_duration;
        let size = units::print_size;
        let mut flags: Vec<(&str, String)> = Vec::new();
        for address in &self.listen {
            flags.push(("--listen", address.to_string()));
        }
        flags.extend([
            ("--backlog", auto(config.backlog)),
            (
                "--framing",
                values::print_choice(values::FRAMING, self.framing),
            ),
            (
                "--output-framing",
                values::print_choice(values::OUTPUT_FRAMING, self.output_framing),
            ),
            ("--max-message", size(self.max_message)),
            (
                "--oversize",
                values::print_choice(values::OVERSIZE, self.oversize),
            ),
            ("--buffer-messages", config.buffer_messages.to_string()),
            ("--buffer-bytes", size(config.buffer_bytes)),
            (
                "--pause-after",
                values::print_pause_after(config.pause_after),
            ),
            (
                "--on-overload",
                values::print_choice(values::ON_PAUSE, config.on_overload),
            ),
            ("--send-timeout", time(config.send_timeout)),
            (
                "--when-full",
                values::print_choice(values::WHEN_FULL, config.when_full),
            ),
            ("--max-connections", auto(config.max_connections)),
            (
                "--max-connections-per-ip",
                off(config.max_connections_per_ip, |count| count.to_string()),
            ),
            ("--per-ip-exempt", self.exempt()),
        ]);
        if let Some(stack) = config.stack_size {
            flags.push(("--stack-size", size(stack)));
        }
        flags.push(("--reuse-threads", off(config.reuse_threads, time)));
        flags.push(("--busy-reads", units::print_rate(config.busy_reads)));
        let is_coalescing = config.max_read_delay.is_some();
        flags.push((
            "--coalesce",
            values::print_choice(values::AUTO_OR_OFF, is_coalescing),
        ));
        if let Some(delay) = config.max_read_delay {
            flags.push(("--max-read-delay", time(delay)));
        }
        flags.extend([
            (
                "--linger",
                values::print_choice(values::AUTO_OR_OFF, config.linger),
            ),
            ("--rate-limit", off(config.rate_limit, units::print_rate)),
            ("--accept-rate", off(config.accept_rate, units::print_rate)),
            ("--frame-timeout", off(config.frame_timeout, time)),
            ("--idle-timeout", off(config.idle_timeout, time)),
            (
                "--first-byte-timeout",
                values::print_first_byte_timeout(config.first_byte_timeout),
            ),
            (
                "--keepalive",
                off(config.keepalive, values::print_keepalive),
            ),
            ("--sink", values::print_sink(&self.sink)),
            (
                "--terminal-escape",
                values::print_choice(values::AUTO_OR_OFF, self.terminal_escape),
            ),
            (
                "--report",
                values::print_choice(values::REPORT, self.report),
            ),
            ("--drain-timeout", time(config.drain_timeout)),
        ]);
        if let Some(level) = self.log_level {
            flags.push((
                "--log-level",
                values::print_choice(values::LOG_LEVEL, level),
            ));
        }
        if let Some(path) = &self.port_file {
            flags.push(("--port-file", path.display().to_string()));
        }
        flags
            .into_iter()
            .map(|(flag, value)| (flag.to_owned(), value))
            .collect()
    }

    fn exempt(&self) -> String {
        let networks = &self.config.per_ip_exempt;
        if networks.is_empty() {
            return "off".to_owned();
        }
        let texts: Vec<String> = networks.iter().map(ToString::to_string).collect();
        texts.join(",")
    }
}

/// Whether the system would refuse one of them. IPv4 and IPv6 do not meet: `[::]` leaves IPv4 to whoever has it.
fn overlap(one: &SocketAddr, other: &SocketAddr) -> bool {
    let (a, b) = (one.ip().to_canonical(), other.ip().to_canonical());
    one.port() == other.port()
        && a.is_ipv4() == b.is_ipv4()
        && (one == other || a.is_unspecified() || b.is_unspecified() || a.is_ipv4() && a == b)
}

fn off<T>(value: Option<T>, print: impl FnOnce(T) -> String) -> String {
    units::print_or("off", value, print)
}

fn auto<T: ToString>(value: Option<T>) -> String {
    units::print_or("auto", value, |value| value.to_string())
}
