//! The values that are more than a number: choices, sinks, keepalive, networks, addresses.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValuesParser, TypedValueParser};
use drainline::ingest::{Framing, OutputFraming, Oversize};
use drainline::{FirstByteTimeout, Keepalive, OnOverload, PauseAfter, WhenFull};
use ipnet::IpNet;
use log::LevelFilter;

use super::units::{self, Unreadable};

/// The words of a flag and what each stands for.
pub(crate) type Choices<T> = &'static [(&'static str, T)];

pub(super) const FRAMING: Choices<Framing> = &[
    ("lines", Framing::Lines),
    ("nul", Framing::Nul),
    ("octet-counted", Framing::OctetCounted),
    ("syslog", Framing::Syslog),
    ("length-prefixed", Framing::LengthPrefixed),
];

pub(crate) const OUTPUT_FRAMING: Choices<OutputFraming> = &[
    ("lines", OutputFraming::Lines),
    ("nul", OutputFraming::Nul),
    ("octet-counted", OutputFraming::OctetCounted),
    ("length-prefixed", OutputFraming::LengthPrefixed),
];

pub(super) const OVERSIZE: Choices<Oversize> = &[
    ("truncate", Oversize::Truncate),
    ("drop", Oversize::Drop),
    ("close", Oversize::Close),
];

pub(crate) const WHEN_FULL: Choices<WhenFull> = &[
    ("abort", WhenFull::Abort),
    ("drop", WhenFull::Drop),
    ("block", WhenFull::Block),
];

pub(crate) const ON_PAUSE: Choices<OnOverload> = &[
    ("backlog", OnOverload::Backlog),
    ("close", OnOverload::Close),
    ("refuse", OnOverload::Refuse),
];

/// Whether something is done where it pays.
pub(super) const AUTO_OR_OFF: Choices<bool> = &[("auto", true), ("off", false)];

pub(crate) const REPORT: Choices<ReportFormat> =
    &[("text", ReportFormat::Text), ("json", ReportFormat::Json)];

pub(super) const LOG_LEVEL: Choices<LevelFilter> = &[
    ("error", LevelFilter::Error),
    ("warn", LevelFilter::Warn),
    ("info", LevelFilter::Info),
    ("debug", LevelFilter::Debug),
    ("trace", LevelFilter::Trace),
    ("off", LevelFilter::Off),
];

/// How the ledger is written at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReportFormat {
    /// One line for people.
    Text,
    /// One JSON object.
    Json,
}

/// Where the messages go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SinkSpec {
    /// Standard output.
    Stdout,
    /// Nowhere; they count as delivered.
    Null,
    /// The end of this file.
    File(PathBuf),
}

/// Reads one of the words of `choices`.
pub(crate) fn choice<T>(choices: Choices<T>) -> impl TypedValueParser<Value = T>
where
    T: Copy + Send + Sync + 'static,
{
    PossibleValuesParser::new(choices.iter().map(|(word, _)| *word)).try_map(move |typed| {
        choices
            .iter()
            .find(|(word, _)| *word == typed)
            .map(|(_, value)| *value)
            .ok_or("no such choice")
    })
}

pub(crate) fn print_choice<T: PartialEq>(choices: Choices<T>, value: T) -> String {
    choices
        .iter()
        .find(|(_, known)| *known == value)
        .map_or_else(String::new, |(word, _)| (*word).to_owned())
}

/// `stdout`, `null` or `file:PATH`; a path need not be UTF-8.
pub(super) fn sink(typed: OsString) -> Result<SinkSpec, Unreadable> {
    match typed.as_bytes() {
        b"stdout" => Ok(SinkSpec::Stdout),
        b"null" => Ok(SinkSpec::Null),
        bytes => match bytes.strip_prefix(b"file:") {
            Some(path) if !path.is_empty() => {
                Ok(SinkSpec::File(OsString::from_vec(path.to_owned()).into()))
            }
            _ => Err("no such sink".to_owned()),
        },
    }
}

pub(super) fn print_sink(sink: &SinkSpec) -> String {
    match sink {
        SinkSpec::Stdout => "stdout".to_owned(),
        SinkSpec::Null => "null".to_owned(),
        SinkSpec::File(path) => format!("file:{}", path.display()),
    }
}

/// `auto`, `off` or a duration.
pub(super) fn pause_after(text: &str) -> Result<PauseAfter, Unreadable> {
    match text {
        "auto" => Ok(PauseAfter::Auto),
        "off" => Ok(PauseAfter::Off),
        text => units::duration(text).map(PauseAfter::After),
    }
}

pub(crate) fn print_pause_after(value: PauseAfter) -> String {
    match value {
        PauseAfter::Auto => "auto".to_owned(),
        PauseAfter::Off => "off".to_owned(),
        PauseAfter::After(wait) => units::print_duration(wait),
    }
}

pub(super) fn first_byte_timeout(text: &str) -> Result<FirstByteTimeout, Unreadable> {
    match text {
        "auto" => Ok(FirstByteTimeout::Auto),
        "off" => Ok(FirstByteTimeout::Off),
        text => units::duration(text).map(FirstByteTimeout::After),
    }
}

pub(crate) fn print_first_byte_timeout(value: FirstByteTimeout) -> String {
    match value {
        FirstByteTimeout::Auto => "auto".to_owned(),
        FirstByteTimeout::Off => "off".to_owned(),
        FirstByteTimeout::After(wait) => units::print_duration(wait),
    }
}

/// `idle`, `idle,interval` or `idle,interval,probes`. The kernel counts both times in whole seconds.
pub(super) fn keepalive(text: &str) -> Result<Keepalive, Unreadable> {
    let mut parts = text.split(',').map(str::trim);
    let mut value = Keepalive {
        idle: whole_seconds(parts.next().unwrap_or_default())?,
        ..Keepalive::default()
    };
    if let Some(interval) = parts.next() {
        value.interval = whole_seconds(interval)?;
    }
    if let Some(probes) = parts.next() {
        value.probes = units::count(probes)?;
    }
    match parts.next() {
        None => Ok(value),
        Some(_) => Err("more than three parts".to_owned()),
    }
}

fn whole_seconds(text: &str) -> Result<Duration, Unreadable> {
    let value = units::duration(text)?;
    if value.subsec_nanos() == 0 {
        Ok(value)
    } else {
        Err("not in whole seconds".to_owned())
    }
}

pub(super) fn print_keepalive(value: Keepalive) -> String {
    format!(
        "{}s,{}s,{}",
        value.idle.as_secs(),
        value.interval.as_secs(),
        value.probes
    )
}

/// A network; a bare address is a network of one.
pub(super) fn network(text: &str) -> Result<IpNet, Unreadable> {
    match text.parse::<IpAddr>() {
        Ok(address) => Ok(address.into()),
        Err(_) => text
            .parse::<IpNet>()
            .map(|network| network.trunc())
            .map_err(|error| error.to_string()),
    }
}

/// An address and a port, or a name and a port. A name stands for its first IPv4 address, else for
/// its first IPv6 address: `localhost` is both, and not every machine has the second.
pub(crate) fn address(text: &str) -> Result<SocketAddr, Unreadable> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    if text.starts_with(':') {
        return Err("no host".to_owned());
    }
    let found: Vec<SocketAddr> = text
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .collect();
    let first = found.iter().find(|address| address.is_ipv4());
    first
        .or(found.first())
        .copied()
        .ok_or_else(|| "the name has no address".to_owned())
}
