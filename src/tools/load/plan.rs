//! What a load is made of, and what the system holds of it.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use drainline::ingest::OutputFraming;

use super::super::args::check_descriptors;
use super::super::tag::{self, mix};
use crate::cli::units;
use crate::cli::usage::UsageError;

/// One load: what is sent where, how fast, and for how long.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) address: Target,
    /// How many are open at once.
    pub(crate) connections: usize,
    /// Messages on each of them. `None`: as many as fit into the duration.
    pub(crate) messages: Option<u64>,
    /// From when the first connections are open. `None`: as long as the messages take.
    pub(crate) duration: Option<Duration>,
    /// Messages a second on each connection. `None`: as fast as the server takes them.
    pub(crate) rate: Option<u64>,
    pub(crate) sizes: Sizes,
    pub(crate) framing: OutputFraming,
    /// The most bytes of one write(2).
    pub(crate) write_size: usize,
    /// Closes a connection after this many messages and makes another in its place.
    pub(crate) reconnect_every: Option<u64>,
    /// Hangs up after about this long on one connection, whatever became of what was sent, and
    /// makes another in its place: half as long to one and a half times as long, drawn by the seed.
    pub(crate) reconnect_after: Option<Duration>,
    /// Ends a connection by half, and waits for the server's end.
    pub(crate) wait_close: bool,
    /// Each message says where it belongs, see [`tag`].
    pub(crate) numbered: bool,
    /// Each message begins with a time stamp.
    pub(crate) timestamped: bool,
    /// How long connections stay open and idle when all is sent.
    pub(crate) hold: Duration,
    /// What a message that has begun, or the server's end, is given when the time is over.
    pub(crate) finish: Duration,
    /// Ends the load when the server has taken nothing for so long.
    pub(crate) timeout: Option<Duration>,
    /// Threads that send.
    pub(crate) threads: usize,
}

/// Standard streams, an epoll and its kin for each thread, and what the libraries open.
const OTHER_DESCRIPTORS: u64 = 32;
/// What a message that has begun, or the server's end, is given when the time is over.
const FINISH: Duration = Duration::from_secs(5);

/// The server that is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Tcp(SocketAddr),
    /// The path of its socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Tcp(address) => address.fmt(f),
            Target::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Plan {
    /// Sends messages of 128 bytes as fast as the server takes them, from one thread, until it is
    /// stopped.
    pub(crate) fn new(address: SocketAddr, connections: usize) -> Plan {
        Plan {
            address: Target::Tcp(address),
            connections,
            messages: None,
            duration: None,
            rate: None,
            sizes: Sizes::new(128, 128, 1),
            framing: OutputFraming::Lines,
            write_size: 64 << 10,
            reconnect_every: None,
            reconnect_after: None,
            wait_close: false,
            numbered: false,
            timestamped: false,
            hold: Duration::ZERO,
            finish: FINISH,
            timeout: None,
            threads: 1,
        }
    }

    /// The shortest message that holds what it has to.
    pub(crate) fn shortest(&self) -> usize {
        let tag = if self.numbered { tag::MIN_OF_ANY } else { 0 };
        let stamp = if self.timestamped { tag::STAMP } else { 0 };
        (tag + stamp).max(1)
    }

    /// Messages have to be long enough for what is to be in them.
    ///
    /// # Errors
    /// They are shorter.
    pub(super) fn check(&self) -> Result<(), UsageError> {
        if self.sizes.shortest < self.shortest() {
            let why = match (self.numbered, self.timestamped) {
                (true, true) => "--numbered and --timestamped need",
                (true, false) => "--numbered needs",
                _ => "--timestamped needs",
            };
            let accepted = format!("{} bytes or more ({why} them)", self.shortest());
            return Err(UsageError::bad_value(
                "--size",
                &self.sizes.to_string(),
                &accepted,
            ));
        }
        Ok(())
    }

    /// Whether this system holds so many connections.
    pub(super) fn check_system(&self) -> Result<(), UsageError> {
        let needed = self.connections as u64 + self.threads as u64 + OTHER_DESCRIPTORS;
        check_descriptors(self.connections, needed)?;
        let Target::Tcp(_) = self.address else {
            return Ok(());
        };
        // One address has no more connections to one port than it has ports.
        let ports =
            fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
        let mut ends = ports.split_whitespace().map(str::parse::<usize>);
        if let (Some(Ok(first)), Some(Ok(last))) = (ends.next(), ends.next())
            && self.connections > last - first + 1
        {
            return Err(UsageError::contradiction(&format!(
                "--connections {}: this machine has {} local ports (net.ipv4.ip_local_port_range)",
                self.connections,
                last - first + 1
            )));
        }
        Ok(())
    }

    /// A connection that was refused or reset is tried again: time, or the load itself, asks for
    /// another.
    pub(crate) fn retries(&self) -> bool {
        self.duration.is_some() || self.reconnect_every.is_some()
    }

    /// How long the `nth` connection of a lane stays before it hangs up.
    pub(crate) fn stay(&self, lane: usize, nth: u64) -> Option<Duration> {
        let about = self.reconnect_after?;
        let drawn = mix(self.sizes.seed ^ mix(lane as u64 ^ mix(nth))) % 1000;
        Some(about / 2 + about.mul_f64(drawn as f64 / 1000.0))
    }
}

/// Lengths of messages in bytes, without framing: each from `shortest` to `longest`, by the seed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sizes {
    pub(crate) shortest: usize,
    pub(crate) longest: usize,
    pub(crate) seed: u64,
}

impl Sizes {
    pub(crate) fn new(shortest: usize, longest: usize, seed: u64) -> Sizes {
        Sizes {
            shortest,
            longest,
            seed,
        }
    }

    /// The length of message `seq` of `connection`.
    pub(crate) fn of(&self, connection: u32, seq: u64) -> usize {
        let choices = (self.longest - self.shortest) as u64 + 1;
        if choices == 1 {
            return self.shortest;
        }
        let drawn = mix(self.seed ^ mix(u64::from(connection) ^ mix(seq)));
        self.shortest + (drawn % choices) as usize
    }
}

/// As it is mostly typed: one size, or two with a dash, without a unit where they are bytes.
impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let print = |size: usize| match size.is_multiple_of(1024) {
            true => units::print_size(size),
            false => size.to_string(),
        };
        f.write_str(&print(self.shortest))?;
        match self.shortest == self.longest {
            true => Ok(()),
            false => write!(f, "-{}", print(self.longest)),
        }
    }
}
