//! The server's settings, their defaults and their ranges.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use super::error::{ConfigError, Contradiction};
use super::peers::Peers;
use super::ranges;
use crate::policy::Weight;

pub(super) use super::ranges::TICK;

/// What happens to a connection whose send waits for a full buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenFull {
    /// Wait up to `send_timeout`, then end the connection. The messages of that send are counted as
    /// dropped.
    #[default]
    Abort,
    /// Wait up to `send_timeout` once, then drop the item, counted, and go on. Sends of that
    /// connection do not wait again until one succeeds. A handler that is to go on sends by
    /// `out.send(item).or_else(SendError::unless_dropped)?`, since `?` alone ends the connection.
    Drop,
    /// Wait as long as it takes: nothing is ever lost, and threads stay bounded by
    /// `max_connections`.
    Block,
}

impl WhenFull {
    /// Every choice.
    pub const ALL: &'static [WhenFull] = &[WhenFull::Abort, WhenFull::Drop, WhenFull::Block];

    /// The choice's name, as in flags.
    pub const fn name(self) -> &'static str {
        match self {
            WhenFull::Abort => "abort",
            WhenFull::Drop => "drop",
            WhenFull::Block => "block",
        }
    }
}

/// What happens to new clients while the server is not accepting. Rejecting a client takes a
/// descriptor, of which each listener keeps one in reserve; where even that is gone, clients wait
/// in the kernel's queue, whatever is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnOverload {
    /// Clients are not accepted: the kernel queues them, up to the backlog. A queued client
    /// considers itself connected.
    #[default]
    Backlog,
    /// Clients are accepted and closed at once, so that a client or a load balancer fails over.
    Close,
    /// Connects are refused (ECONNREFUSED). Connects that have begun when accepting ends get 200
    /// ms, and are accepted, closed and counted. No other connect is answered meanwhile: TCP
    /// retries after a second. The kernel resets a client whose handshake takes longer or goes by a
    /// SYN cookie, and nobody can count that client.
    ///
    /// A listener that was handed in already bound
    /// ([`Builder::listener`](super::Builder::listener)) falls back to `Close`.
    Refuse,
}

impl OnOverload {
    /// Every choice.
    pub const ALL: &'static [OnOverload] =
        &[OnOverload::Backlog, OnOverload::Close, OnOverload::Refuse];

    /// The choice's name, as in flags.
    pub const fn name(self) -> &'static str {
        match self {
            OnOverload::Backlog => "backlog",
            OnOverload::Close => "close",
            OnOverload::Refuse => "refuse",
        }
    }
}

/// When the server stops accepting because senders wait for a full buffer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PauseAfter {
    /// After a sixth of `send_timeout`: 5 s with the default of 30 s. At least 100 ms, so with a
    /// `send_timeout` of 100 ms or less there is no pause, unless `when_full` is
    /// [`WhenFull::Block`].
    #[default]
    Auto,
    /// After this long, 100 ms or more. Below `send_timeout`, unless `when_full` is
    /// [`WhenFull::Block`]: a connection that waited `send_timeout` has already been ended.
    After(Duration),
    /// Never.
    Off,
}

/// How long a new connection may send nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum FirstByteTimeout {
    /// For ever, until `max_connections` keeps clients out: then connections that have sent no byte
    /// for 60 s are ended, the oldest first, and only as many as are needed. Under
    /// [`OnOverload::Refuse`], where nobody can see who is refused, at least one.
    #[default]
    Auto,
    /// This long, 100 ms to a year, in any case. Ends senders that connect early and stay quiet.
    After(Duration),
    /// For ever.
    Off,
}

/// TCP keepalive, as in tcp(7), which knows these three and no more. A dead peer is noticed after
/// `idle + interval * probes`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Keepalive {
    /// Quiet time before the first probe: 1 s to 32,767 s, in whole seconds. Default 60 s.
    pub idle: Duration,
    /// Time between probes: 1 s to 32,767 s, in whole seconds. Default 10 s.
    pub interval: Duration,
    /// Unanswered probes before the connection is dead: 1 to 127. Default 6.
    pub probes: u32,
}

impl Default for Keepalive {
    fn default() -> Self {
        Keepalive {
            idle: Duration::from_secs(60),
            interval: Duration::from_secs(10),
            probes: 6,
        }
    }
}

/// Everything that can be set about a server. Start from [`Config::default`] and change fields, or
/// chain the methods of the same names; [`Builder::start`](super::Builder::start) checks them.
///
/// ```
/// use std::time::Duration;
/// use drainline::{Config, WhenFull};
///
/// let config = Config::default()
///     .max_connections(100)
///     .buffer_messages(1000)
///     .idle_timeout(Duration::from_secs(600))
///     .write_timeout(None)
///     .when_full(WhenFull::Block);
/// assert_eq!(config.max_connections, Some(100));
/// ```
///
/// `None` means that the layer is off, except where it says otherwise.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// Connections served at once, each with a thread: 1 to 1,000,000. `None` (the default): 1,024,
    /// or what the system's limits allow, if that is less. A value that was asked for and is not
    /// allowed is an error at start.
    pub max_connections: Option<usize>,
    /// Connections served at once for one peer address: 1 or more. An IPv4-mapped address counts as
    /// IPv4, an IPv6 address by its /64. Clients above this number are accepted and closed. Peers
    /// of a Unix socket have no address and are not counted. Default: off.
    pub max_connections_per_ip: Option<usize>,
    /// Networks that `max_connections_per_ip` does not count: balancers, NAT. As with the two lists
    /// below, each client is compared with one entry after the other, up to 65,536, and all
    /// listeners have the list in common, whose memory is in the limits. Default: none.
    pub per_ip_exempt: Arc<[IpNet]>,
    /// Who may connect: clients of these networks over TCP, and processes of these users over a
    /// Unix socket. Whoever else connects is accepted and closed. IPv4-mapped addresses and
    /// networks are IPv4. With `proxy_from`, the list is of the clients whom the balancer names.
    /// Default: everybody.
    pub allow: Arc<[Peers]>,
    /// Balancers that name their clients: with anybody here, each connection begins with a head of
    /// the PROXY protocol (version 1 or 2, at most 4 KiB), and a connection of somebody else, or
    /// without a valid head, is closed. Whom the server limits, lists and logs is the client then,
    /// and the balancer where it names none, as for its health checks. Default: nobody, so that
    /// connections begin with their bytes.
    pub proxy_from: Arc<[Peers]>,
    /// The buffer's capacity in messages: 1 to 16,777,216. Default 100,000. Its slots are allocated
    /// at start, 16 bytes each.
    pub buffer_messages: usize,
    /// The buffer's capacity in bytes of heap that its items hold: 4 KiB to 1 TiB. Default 64 MiB.
    pub buffer_bytes: usize,
    /// The longest that one send waits for space in the buffer: 1 ms to 24 h. Default 30 s.
    pub send_timeout: Duration,
    /// What happens to a connection whose send waited that long. Default: abort.
    pub when_full: WhenFull,
    /// When the server stops accepting because senders wait. Default: after a sixth of
    /// `send_timeout`.
    pub pause_after: PauseAfter,
    /// What happens to new clients while the server is not accepting. Default: the kernel's queue.
    pub on_overload: OnOverload,
    /// Messages per second that one connection may send, 1 or more. Above this rate reads are
    /// delayed, and each returns about a second's worth; nothing is dropped. What is left of a
    /// stream that its peer has ended or reset is read at once. Default: off.
    pub rate_limit: Option<u64>,
    /// Connections per second that are accepted, over all listeners, 1 or more. Above this rate
    /// clients wait in the kernel's queue. Default: off.
    pub accept_rate: Option<u64>,
    /// Longest time inside one unfinished frame, counted only while the handler waits for its peer:
    /// 100 ms to a year. Acts where the handler reports
    /// [`frame_progress`](super::Connection::frame_progress). Default 30 s.
    pub frame_timeout: Option<Duration>,
    /// Longest time without a byte, counted only while the handler waits for its peer: 100 ms to a
    /// year. Over TLS each byte of the wire counts, also of a record that is not whole yet: what
    /// trickles is limited by `frame_timeout`. Default: off, because it disconnects senders that
    /// are merely quiet.
    pub idle_timeout: Option<Duration>,
    /// How long a connection may send nothing at all, counted only while the handler waits for its
    /// peer. Over TLS the time begins anew with each byte of the wire behind the handshake, and no
    /// longer matters once there is a byte of the peer's own. Default: for ever, until
    /// `max_connections` keeps clients out.
    pub first_byte_timeout: FirstByteTimeout,
    /// Longest time from the begin of a connection until what comes before the peer's own bytes is
    /// complete, such as the head of the PROXY protocol: 100 ms to a year. The other deadlines
    /// begin behind that. Default 10 s.
    pub handshake_timeout: Duration,
    /// Longest time in one write(2) of a reply (at most 64 KiB): 100 ms to a year. Default 30 s.
    pub write_timeout: Option<Duration>,
    /// TCP keepalive. Default: on, 60 s idle, 10 s interval, 6 probes.
    pub keepalive: Option<Keepalive>,
    /// Connections that the kernel queues for us: 1 to 65,535, capped by the kernel at its own
    /// net.core.somaxconn (listen(2)). `None` (the default): that maximum.
    pub backlog: Option<u32>,
    /// Stack of a handler's thread in bytes: 64 KiB to 1 GiB. Untouched pages cost nothing; an
    /// overflow aborts the process. Room for many thread-local variables is added. `None` (the
    /// default): std's 2 MiB.
    pub stack_size: Option<usize>,
    /// How long a thread whose connection ended well waits for another one, instead of ending: 1 ms
    /// to an hour. It keeps its permit, which counts as free for a new client, and its thread-local
    /// values. Short connections cost two to three times less so; the price is the memory of idle
    /// threads for that time. Unless all permits are in use, no more threads wait than clients came
    /// in the last 300 to 400 ms, or 64. `None`: each connection has a thread of its own. Default
    /// 200 ms.
    pub reuse_threads: Option<Duration>,
    /// Small reads a second, over all connections, from which on `max_read_delay` and `linger` act:
    /// 1 to 1,000,000,000. Below, wake-ups are cheap and latency counts. Default 20,000.
    pub busy_reads: u64,
    /// The longest that a read is delayed while the server is busy, where its handler [lets
    /// it](super::Connection::delay_read): 1 ms to a minute. A connection whose messages come close
    /// together then reads once for several of them, about four; the price is that much latency,
    /// under load only. `None`: never. Default 50 ms.
    pub max_read_delay: Option<Duration>,
    /// Whether the consumer, while so many small items come, sleeps half a millisecond when its
    /// receiver is empty, and then takes all that came: waking it for each costs more than that.
    /// The price is that much latency, under load only. Default: yes.
    pub linger: bool,
    /// Whether a handler looks for bytes for some 40 us before its read sleeps, while the peer's
    /// requests come that close together. A peer that waits for each reply then gets it in less
    /// than half the time, because no thread has to be woken. At most half of the processors look,
    /// and nobody does while more connections than that are active, where reads are delayed, or
    /// with a single processor. Looks in vain stop soon. Default: yes.
    pub busy_poll: bool,
    /// How long a drain may take that nobody gave a deadline: 0 to 24 h. Default 30 s. Handlers
    /// have three quarters of it, the consumer the rest.
    pub drain_timeout: Duration,
    /// How long a sink may take for one write, or a connection for one send or in its handler's
    /// code, before the log names it: 100 ms to a day. Default 5 s.
    pub warn_after: Duration,
    /// The most that one handler holds on the heap, in bytes, for the memory limit that is computed
    /// at start. Default 64 KiB; set this to what your handler allocates.
    pub handler_bytes: usize,
}

/// A method for each field, so that a configuration is one expression. Where a field may be `None`,
/// its method takes a bare value, too; elsewhere `impl Into` would not take a plain number.
macro_rules! setters {
    ($($field:ident: $Type:ty $(, or $Value:ty)?;)+) => {
        impl Config {
            $(
                #[doc = concat!("Sets [`", stringify!($field), "`](Config#structfield.", stringify!($field), ").")]
                #[must_use]
                pub fn $field(mut self, value: setters!(@takes $Type $(, $Value)?)) -> Self {
                    self.$field = setters!(@value value $(, $Value)?);
                    self
                }
            )+
        }
    };
    (@takes $Type:ty) => { $Type };
    (@takes $Type:ty, $Value:ty) => { impl Into<$Type> };
    (@value $value:ident) => { $value };
    (@value $value:ident, $Value:ty) => { $value.into() };
}

setters! {
    max_connections: Option<usize>, or usize;
    max_connections_per_ip: Option<usize>, or usize;
    per_ip_exempt: Arc<[IpNet]>, or Vec<IpNet>;
    allow: Arc<[Peers]>, or Vec<Peers>;
    proxy_from: Arc<[Peers]>, or Vec<Peers>;
    buffer_messages: usize;
    buffer_bytes: usize;
    send_timeout: Duration;
    when_full: WhenFull;
    pause_after: PauseAfter;
    on_overload: OnOverload;
    rate_limit: Option<u64>, or u64;
    accept_rate: Option<u64>, or u64;
    frame_timeout: Option<Duration>, or Duration;
    idle_timeout: Option<Duration>, or Duration;
    first_byte_timeout: FirstByteTimeout;
    handshake_timeout: Duration;
    write_timeout: Option<Duration>, or Duration;
    keepalive: Option<Keepalive>, or Keepalive;
    backlog: Option<u32>, or u32;
    stack_size: Option<usize>, or usize;
    reuse_threads: Option<Duration>, or Duration;
    busy_reads: u64;
    max_read_delay: Option<Duration>, or Duration;
    linger: bool;
    busy_poll: bool;
    drain_timeout: Duration;
    warn_after: Duration;
    handler_bytes: usize;
}

impl Default for Config {
    fn default() -> Self {
        Config {
            max_connections: None,
            max_connections_per_ip: None,
            per_ip_exempt: Arc::default(),
            allow: Arc::default(),
            proxy_from: Arc::default(),
            buffer_messages: 100_000,
            buffer_bytes: 64 << 20,
            send_timeout: Duration::from_secs(30),
            when_full: WhenFull::Abort,
            pause_after: PauseAfter::Auto,
            on_overload: OnOverload::Backlog,
            rate_limit: None,
            accept_rate: None,
            frame_timeout: Some(Duration::from_secs(30)),
            idle_timeout: None,
            first_byte_timeout: FirstByteTimeout::Auto,
            handshake_timeout: Duration::from_secs(10),
            write_timeout: Some(Duration::from_secs(30)),
            keepalive: Some(Keepalive::default()),
            backlog: None,
            stack_size: None,
            reuse_threads: Some(Duration::from_millis(200)),
            busy_reads: 20_000,
            max_read_delay: Some(Duration::from_millis(50)),
            linger: true,
            busy_poll: true,
            drain_timeout: Duration::from_secs(30),
            warn_after: Duration::from_secs(5),
            handler_bytes: 64 << 10,
        }
    }
}

impl Config {
    /// The default for [`max_connections`](Config::max_connections), if the system allows it.
    pub const DEFAULT_MAX_CONNECTIONS: usize = 1024;

    /// What the buffer holds.
    pub(crate) fn buffer_limit(&self) -> Weight {
        Weight {
            messages: self.buffer_messages as u64,
            bytes: self.buffer_bytes as u64,
        }
    }

    /// How long a send waits for the buffer before the server stops accepting: `pause_after` with
    /// [`PauseAfter::Auto`] resolved. `None` if it never does.
    pub fn effective_pause_after(&self) -> Option<Duration> {
        match self.pause_after {
            PauseAfter::Auto => Some((self.send_timeout / 6).max(TICK)),
            PauseAfter::After(wait) => Some(wait),
            PauseAfter::Off => None,
        }
    }

    /// Checks every value against its range, and the values against each other.
    ///
    /// # Errors
    /// The first setting that is out of range or contradicts another, with its value and what is
    /// accepted.
    pub fn check(&self) -> Result<(), ConfigError> {
        within(
            "max_connections",
            self.max_connections,
            ranges::MAX_CONNECTIONS,
        )?;
        within(
            "max_connections_per_ip",
            self.max_connections_per_ip,
            ranges::MAX_CONNECTIONS_PER_IP,
        )?;
        check_length("per_ip_exempt", self.per_ip_exempt.len())?;
        check_length("allow", self.allow.len())?;
        check_length("proxy_from", self.proxy_from.len())?;
        within(
            "buffer_messages",
            self.buffer_messages,
            ranges::BUFFER_MESSAGES,
        )?;
        within("buffer_bytes", self.buffer_bytes, ranges::BUFFER_BYTES)?;
        within("send_timeout", self.send_timeout, ranges::SEND_TIMEOUT)?;
        within("rate_limit", self.rate_limit, ranges::RATE_LIMIT)?;
        within("accept_rate", self.accept_rate, ranges::ACCEPT_RATE)?;
        within("frame_timeout", self.frame_timeout, ranges::FRAME_TIMEOUT)?;
        within("idle_timeout", self.idle_timeout, ranges::IDLE_TIMEOUT)?;
        if let FirstByteTimeout::After(wait) = self.first_byte_timeout {
            within("first_byte_timeout", wait, ranges::FIRST_BYTE_TIMEOUT)?;
        }
        within(
            "handshake_timeout",
            self.handshake_timeout,
            ranges::HANDSHAKE_TIMEOUT,
        )?;
        within("write_timeout", self.write_timeout, ranges::WRITE_TIMEOUT)?;
        if let Some(keepalive) = self.keepalive {
            for part in [keepalive.idle, keepalive.interval] {
                within("keepalive", part, ranges::KEEPALIVE_TIME)?;
                if part.subsec_nanos() != 0 {
                    let expected = "whole seconds".to_owned();
                    return Err(ConfigError::out_of_range(
                        "keepalive",
                        print(&part),
                        expected,
                    ));
                }
            }
            within("keepalive", keepalive.probes, ranges::KEEPALIVE_PROBES)?;
        }
        within("backlog", self.backlog, ranges::BACKLOG)?;
        within("stack_size", self.stack_size, ranges::STACK_SIZE)?;
        within("busy_reads", self.busy_reads, ranges::BUSY_READS)?;
        within(
            "max_read_delay",
            self.max_read_delay,
            ranges::MAX_READ_DELAY,
        )?;
        within("reuse_threads", self.reuse_threads, ranges::REUSE_THREADS)?;
        within("drain_timeout", self.drain_timeout, ranges::DRAIN_TIMEOUT)?;
        within("warn_after", self.warn_after, ranges::WARN_AFTER)?;
        self.check_pause()
    }

    fn check_pause(&self) -> Result<(), ConfigError> {
        let PauseAfter::After(wait) = self.pause_after else {
            return Ok(());
        };
        within("pause_after", wait, ranges::PAUSE_AFTER)?;
        if self.when_full != WhenFull::Block && wait >= self.send_timeout {
            return Err(ConfigError {
                setting: "pause_after",
                value: print(&wait),
                expected: "less than".to_owned(),
                contradicts: Some(Box::new(Contradiction {
                    setting: "send_timeout",
                    value: print(&self.send_timeout),
                    why: "after which a waiting connection is ended, so that no pause would begin",
                })),
                listener: None,
                listener_index: None,
            });
        }
        Ok(())
    }
}

/// Checks a setting against its range; a setting that is off passes.
fn within<T: PartialOrd + fmt::Debug>(
    setting: &'static str,
    value: impl Into<Option<T>>,
    range: RangeInclusive<T>,
) -> Result<(), ConfigError> {
    match value.into() {
        Some(value) if !range.contains(&value) => {
            let expected = format!("{} to {}", print(range.start()), print(range.end()));
            Err(ConfigError::out_of_range(setting, print(&value), expected))
        }
        _ => Ok(()),
    }
}

/// Checks how many entries a list has.
fn check_length(setting: &'static str, entries: usize) -> Result<(), ConfigError> {
    match ranges::LIST_ENTRIES.contains(&entries) {
        true => Ok(()),
        false => Err(ConfigError::out_of_range(
            setting,
            format!("{entries} entries"),
            format!("at most {}", ranges::LIST_ENTRIES.end()),
        )),
    }
}

/// Prints a number as it is, and a duration as `1.5s`.
fn print(value: &impl fmt::Debug) -> String {
    format!("{value:?}")
}
