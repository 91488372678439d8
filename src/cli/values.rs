//! What the flags of a server are set to: addresses, networks, and words.

use std::ffi::OsStr;
use std::net::{SocketAddr, ToSocketAddrs};
use std::path::PathBuf;
use std::time::Duration;

use drainline::ingest::{Framing, OutputFraming, Oversize};
#[cfg(feature = "tls")]
use drainline::{ClientAuth, Tls, TlsVersion};
use drainline::{Keepalive, OnOverload, Peers, WhenFull, ranges};
use ipnet::IpNet;
use log::LevelFilter;
use nix::unistd::{Group, User};

#[cfg(test)]
use super::kinds::cases;
use super::kinds::{Choices, Count, Kind, NotAccepted, in_range};
use super::units::{self, Unreadable};

pub(crate) use super::kinds::print_choice;

/// An address to listen on: see [`address`].
pub(crate) struct Address;

impl Kind for Address {
    type Value = SocketAddr;

    fn read(&self, typed: &str) -> Result<SocketAddr, NotAccepted> {
        address(typed).map_err(NotAccepted::because)
    }

    fn print(&self, value: &SocketAddr) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        "an address such as 127.0.0.1:5140".to_owned()
    }

    fn placeholder(&self) -> String {
        "ADDRESS".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["127.0.0.1:0", "[::1]:5140", "localhost:5140"],
            &["5140", ":5140", "127.0.0.1", "127.0.0.1:65536"],
        )
    }
}

/// A network; a bare address is a network of one.
pub(crate) struct Network;

impl Kind for Network {
    type Value = IpNet;

    fn read(&self, typed: &str) -> Result<IpNet, NotAccepted> {
        match KnownPeers.read(typed)? {
            Peers::Network(network) => Ok(network),
            _ => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &IpNet) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        "a network such as 10.0.0.0/8".to_owned()
    }

    fn placeholder(&self) -> String {
        "NETWORKS".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["10.0.0.0/8", "fd00::/8", "10.0.0.1"],
            &["10.0.0.0/33", "gateway", "10.0.0.0/8,off"],
        )
    }
}

/// A network, or a user of a Unix socket.
pub(crate) struct KnownPeers;

impl Kind for KnownPeers {
    type Value = Peers;

    fn read(&self, typed: &str) -> Result<Peers, NotAccepted> {
        match typed.parse() {
            Ok(Peers::Network(network)) => Ok(network.trunc().into()),
            other => other.map_err(|_| NotAccepted::default()),
        }
    }

    fn print(&self, value: &Peers) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        "a network such as 10.0.0.0/8 or a user such as uid:1000".to_owned()
    }

    fn placeholder(&self) -> String {
        "PEERS".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["10.0.0.0/8", "::1", "uid:1000"],
            &["10.0.0.0/33", "root", "uid:root", "1000", "10.0.0.0/8,off"],
        )
    }
}

/// `idle`, `idle,interval` or `idle,interval,probes`. The kernel counts both times in whole
/// seconds.
pub(crate) struct KeepaliveTimes;

impl Kind for KeepaliveTimes {
    type Value = Keepalive;

    fn read(&self, typed: &str) -> Result<Keepalive, NotAccepted> {
        let mut parts = typed.split(',').map(str::trim);
        let mut value = Keepalive {
            idle: whole_seconds(parts.next().unwrap_or_default())?,
            ..Keepalive::default()
        };
        if let Some(interval) = parts.next() {
            value.interval = whole_seconds(interval)?;
        }
        if let Some(probes) = parts.next() {
            value.probes = Count(ranges::KEEPALIVE_PROBES).read(probes)?;
        }
        match parts.next() {
            None => Ok(value),
            Some(_) => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &Keepalive) -> Option<String> {
        let (idle, interval) = (value.idle.as_secs(), value.interval.as_secs());
        Some(format!("{idle}s,{interval}s,{}", value.probes))
    }

    fn expected(&self) -> String {
        let (times, probes) = (ranges::KEEPALIVE_TIME, ranges::KEEPALIVE_PROBES);
        format!(
            "idle time, interval and probes such as 60s,10s,6 (times from {}s to {}s in whole seconds, \
             {} to {} probes; the last two may be left out)",
            times.start().as_secs(),
            times.end().as_secs(),
            probes.start(),
            probes.end()
        )
    }

    fn placeholder(&self) -> String {
        "TIME,TIME,N".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &["60s", "60s,10s", "1s,32767s,127"],
            &[
                "0s",
                "60s,10s,128",
                "60s,10s,0",
                "60s,10s,6,1",
                "1500ms",
                "60s,32768s",
                "on",
            ],
        )
    }
}

fn whole_seconds(typed: &str) -> Result<Duration, NotAccepted> {
    let value = units::duration(typed).map_err(|_| NotAccepted::default())?;
    match value.subsec_nanos() {
        0 => in_range(value, &ranges::KEEPALIVE_TIME),
        _ => Err(NotAccepted::default()),
    }
}

/// A path.
pub(crate) struct FilePath {
    pub(crate) expected: &'static str,
    pub(crate) placeholder: &'static str,
}

pub(crate) const PATH: FilePath = FilePath {
    expected: "a path",
    placeholder: "PATH",
};

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(&self, typed: &str) -> Result<PathBuf, NotAccepted> {
        self.read_os(typed.as_ref())
    }

    fn read_os(&self, typed: &OsStr) -> Result<PathBuf, NotAccepted> {
        match typed.is_empty() {
            true => Err(NotAccepted::default()),
            false => Ok(typed.into()),
        }
    }

    fn print(&self, value: &PathBuf) -> Option<String> {
        Some(value.display().to_string())
    }

    fn expected(&self) -> String {
        self.expected.to_owned()
    }

    fn placeholder(&self) -> String {
        self.placeholder.to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(&["/tmp/ports"], &[""])
    }
}

/// A name that stands in a log, and in a file of words.
pub(crate) struct Name;

/// The longest name in characters.
const MAX_NAME: usize = 64;

impl Kind for Name {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        let begins = typed.starts_with(|c: char| c.is_ascii_alphanumeric());
        match begins && typed.chars().all(is_part) && typed.len() <= MAX_NAME {
            true => Ok(typed.to_owned()),
            false => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn expected(&self) -> String {
        format!(
            "a name of 1 to {MAX_NAME} letters, digits, -, _ or ., which begins with a letter or digit"
        )
    }

    fn placeholder(&self) -> String {
        "NAME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (longest, longer) = ("n".repeat(MAX_NAME), "n".repeat(MAX_NAME + 1));
        let bad = [&longer, "-syslog", "a b", "a,b", "a:1", "\u{e9}"];
        cases(&["syslog", "a-1_b.c", &longest], &bad)
    }
}

/// The choices of a type of the library, by the names that it gives them.
macro_rules! named {
    ($Type:ty) => {{
        const ROWS: [(&str, $Type); <$Type>::ALL.len()] = {
            let mut rows = [("", <$Type>::ALL[0]); <$Type>::ALL.len()];
            let mut at = 0;
            while at < rows.len() {
                rows[at] = (<$Type>::ALL[at].name(), <$Type>::ALL[at]);
                at += 1;
            }
            rows
        };
        &ROWS
    }};
}

pub(super) const FRAMING: Choices<Framing> = named!(Framing);

pub(crate) const OUTPUT_FRAMING: Choices<OutputFraming> = named!(OutputFraming);

pub(super) const OVERSIZE: Choices<Oversize> = named!(Oversize);

pub(crate) const WHEN_FULL: Choices<WhenFull> = named!(WhenFull);

pub(crate) const ON_OVERLOAD: Choices<OnOverload> = named!(OnOverload);

#[cfg(feature = "tls")]
pub(crate) const CLIENT_AUTH: Choices<ClientAuth> = named!(ClientAuth);

#[cfg(feature = "tls")]
pub(crate) const TLS_VERSION: Choices<TlsVersion> = named!(TlsVersion);

/// What a certificate calls a peer.
#[cfg(feature = "tls")]
pub(crate) struct PeerName;

#[cfg(feature = "tls")]
impl Kind for PeerName {
    type Value = String;

    fn read(&self, typed: &str) -> Result<String, NotAccepted> {
        Tls::canonical_name(typed).map_err(|_| NotAccepted::default())
    }

    fn print(&self, value: &String) -> Option<String> {
        Some(value.clone())
    }

    fn expected(&self) -> String {
        "names of certificates: DNS names, URIs, or sha256: and 64 hexadecimal digits".to_owned()
    }

    fn placeholder(&self) -> String {
        "NAME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (long, fingerprint) = ("a".repeat(254), format!("sha256:{}", "a8".repeat(32)));
        cases(
            &["web1.example", "spiffe://a/b", &fingerprint],
            &[&long, "a b", "\u{e9}", "sha256:", "SHA256:abcd"],
        )
    }
}

/// Whether drainline does something where it is of use.
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

/// The permissions of a Unix socket or a file, in octal.
pub(crate) struct UnixMode;

impl Kind for UnixMode {
    type Value = u32;

    fn read(&self, typed: &str) -> Result<u32, NotAccepted> {
        let is_octal =
            !typed.is_empty() && typed.bytes().all(|digit| (b'0'..=b'7').contains(&digit));
        let mode = u32::from_str_radix(typed, 8).ok().filter(|_| is_octal);
        in_range(mode.ok_or_else(NotAccepted::default)?, &ranges::UNIX_MODE)
    }

    fn print(&self, value: &u32) -> Option<String> {
        Some(format!("{value:04o}"))
    }

    fn expected(&self) -> String {
        "permissions in octal, from 0000 to 0777, such as 0660".to_owned()
    }

    fn placeholder(&self) -> String {
        "MODE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let good = ["0660", "600", "0", "777"];
        cases(&good, &["0o660", "0888", "1777", "+600", "-1", "rw"])
    }
}

/// Whose a Unix socket or a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UnixOwner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
}

/// `USER`, `USER:GROUP` or `:GROUP`, as chown(1) takes them.
pub(crate) struct Owner;

impl Kind for Owner {
    type Value = UnixOwner;

    fn read(&self, typed: &str) -> Result<UnixOwner, NotAccepted> {
        let (user, group) = match typed.split_once(':') {
            None => (typed, None),
            Some((_, "")) => return Err(NotAccepted::because("no group behind the colon")),
            Some((user, group)) => (user, Some(group)),
        };
        let uid = (!user.is_empty()).then(|| {
            id("user", user, |name| {
                Ok(User::from_name(name)?.map(|found| found.uid.as_raw()))
            })
        });
        let gid = group.map(|group| {
            id("group", group, |name| {
                Ok(Group::from_name(name)?.map(|found| found.gid.as_raw()))
            })
        });
        let owner = UnixOwner {
            uid: uid.transpose()?,
            gid: gid.transpose()?,
        };
        match owner.uid.or(owner.gid) {
            Some(_) => Ok(owner),
            None => Err(NotAccepted::default()),
        }
    }

    fn print(&self, value: &UnixOwner) -> Option<String> {
        let user = value.uid.map(|uid| uid.to_string()).unwrap_or_default();
        let group = value.gid.map(|gid| format!(":{gid}")).unwrap_or_default();
        Some(user + &group)
    }

    fn expected(&self) -> String {
        "a user, a group behind a colon, or both, such as syslog:adm".to_owned()
    }

    fn placeholder(&self) -> String {
        "USER:GROUP".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let good = ["root", "root:root", ":root", "12:34", "12"];
        cases(
            &good,
            &["", ":", "root:", "nobody-is-called-so", "-1", "4294967295"],
        )
    }
}

/// The id of a user or group, which is what digits are.
fn id(
    what: &str,
    typed: &str,
    of_name: impl FnOnce(&str) -> nix::Result<Option<u32>>,
) -> Result<u32, NotAccepted> {
    if typed.bytes().all(|digit| digit.is_ascii_digit()) {
        // The last one stands for none (chown(2)).
        let id = typed.parse().ok().filter(|&id| id != u32::MAX);
        return id.ok_or_else(|| NotAccepted::because(format!("no id of a {what}")));
    }
    match of_name(typed) {
        Ok(Some(id)) => Ok(id),
        Ok(None) => Err(NotAccepted::because(format!("there is no {what} {typed}"))),
        Err(error) => Err(NotAccepted::because(format!(
            "{what} {typed}: {}",
            error.desc()
        ))),
    }
}

/// An address and a port, or a name and a port. A name stands for its first IPv4 address, else for
/// its first IPv6 address: `localhost` is both, and not every machine has the second.
fn address(text: &str) -> Result<SocketAddr, Unreadable> {
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
