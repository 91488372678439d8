//! The ledger as others read it: at any moment, and at the end.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::error::ServerError;
use super::ledger::{
    Bytes, Counters, DropReason, EndReason, NotAcceptingReason, RejectReason, Spans, counted,
};
use crate::policy::{Activity, OverloadLevel, Weight};

/// The server's ledger at one moment.
///
/// `received = delivered + dropped + in_flight` holds in every reading, each term summed on its own; so
/// does `accepted = ended + open`. [`is_balanced`](Stats::is_balanced) checks both.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that entered a send, or that a handler dropped before one.
    pub received: u64,
    /// Messages that the consumer said were delivered.
    pub delivered: u64,
    /// Messages that left in any other way, by reason.
    pub dropped: Counters<DropReason>,
    /// Messages in the buffer, in the consumer's hands, or waiting for room.
    pub in_flight: u64,
    /// What the buffer and the consumer hold against the buffer's two bounds.
    pub buffered: Weight,
    /// Senders that wait for room.
    pub senders_waiting: usize,
    /// The longest that a sender has been waiting in one send, as of the last tick.
    pub longest_wait: Duration,
    /// Connections that were given a handler.
    pub accepted: u64,
    /// Connections whose handler has not ended.
    pub open: u64,
    /// Clients that were turned away, by reason.
    pub rejected: Counters<RejectReason>,
    /// Connections that ended, by reason.
    pub ended: Counters<EndReason>,
    /// Bytes that the kernel held when a connection was closed or a client turned away, and that nobody
    /// read: a lower bound on what a sender without acknowledgements lost. The sum of the next two.
    pub unread_bytes: u64,
    /// Those of connections that ended, by the reason of their end.
    pub unread_ended: Counters<EndReason>,
    /// Those of clients that were turned away, by the reason for that.
    pub unread_rejected: Counters<RejectReason>,
    /// How often nobody could be accepted for a while: the system had no descriptor, no memory or no thread to
    /// give, or another socket had taken the port of a listener that came back.
    pub accepts_starved: u64,
    /// Threads of the server that are not joined, by its own count.
    pub threads: usize,
    /// The most that `threads` has been.
    pub threads_peak: usize,
    /// How the server stands, as of the last tick.
    pub overload: OverloadLevel,
    /// Whether new clients are kept out because senders are held up.
    pub is_paused: bool,
    /// Why new clients are kept out, if they are, as of the last tick. At `max_connections` that begins with the first
    /// client that is kept out; while connects are refused, with the refusal.
    pub not_accepting: Option<NotAccepting>,
    /// How long new clients were kept out, by reason; one reason at a time, so the sum is the time in all.
    pub not_accepting_seconds: Spans<NotAcceptingReason>,
    /// How long the server stood at each level of overload.
    pub overload_seconds: Spans<OverloadLevel>,
    /// The consumer, as the watchdog last saw it.
    pub consumer: ConsumerInfo,
    /// Log lines that found the logger's queue full.
    pub log_lines_lost: u64,
    /// Time since the server started.
    pub uptime: Duration,
}

impl Stats {
    /// Whether the ledger closes.
    pub fn is_balanced(&self) -> bool {
        self.received == self.delivered + self.dropped.total() + self.in_flight
            && self.accepted == self.ended.total() + self.open
    }
}

/// New clients are kept out.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NotAccepting {
    /// Why.
    pub reason: NotAcceptingReason,
    /// For how long.
    pub lasted: Duration,
}

/// How a server ended: its ledger, and what it ended of.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The ledger of messages and connections at the end.
    pub stats: Stats,
    /// The ledger of bytes at the end.
    pub bytes: Bytes,
    /// What became of the sink. Zeros where there is none.
    pub sink: SinkCounts,
    /// What ended the server, if it was not asked to.
    pub error: Option<ServerError>,
    /// A deadline of the drain passed before what it was set for had ended by itself: a handler had to be cut at
    /// three quarters of it, or something was in the buffer, or a thread still ran, at the end of it.
    pub timed_out: bool,
    /// Connections whose handlers never returned: in an embedder's own code. Their threads go on, and
    /// they keep their permits.
    pub stuck: Vec<ConnectionInfo>,
}

/// How a sink fared.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SinkCounts {
    /// How often it failed and was tried again.
    pub failures: u64,
    /// How often it could not be reopened and went on as it was.
    pub failed_reopens: u64,
    /// Delivered messages that went to a file that somebody had deleted: gone with it. Known to about a second.
    pub unlinked_messages: u64,
}

impl Report {
    /// Whether both ledgers close.
    pub fn is_balanced(&self) -> bool {
        self.stats.is_balanced() && self.bytes.is_balanced()
    }

    /// The ledger of a server that has not ended.
    pub(crate) fn so_far(stats: Stats) -> Self {
        Report {
            stats,
            bytes: Bytes::default(),
            sink: SinkCounts::default(),
            error: None,
            timed_out: false,
            stuck: Vec::new(),
        }
    }
}

/// The consumer, as the watchdog last saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// What it calls itself: a sink's name ([`Receiver::set_name`](super::Receiver::set_name)).
    pub name: String,
    /// For how long it has been in its own code without finishing anything; zero while it waits for an item
    /// or for its next try.
    pub busy_for: Duration,
}

/// One connection, as the watchdog last saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// Its number.
    pub id: u64,
    /// The peer's address.
    pub peer: SocketAddr,
    /// The name of the listener that accepted it; without a name, that listener's address.
    pub listener: Arc<str>,
    /// What its handler is doing.
    pub state: Activity,
    /// For how long, by the watchdog's ticks.
    pub in_state: Duration,
    /// The peer has ended its stream or reset it, while its handler waits for room. What it sent before is
    /// still delivered.
    pub peer_gone: bool,
    /// Why it was ended, if that is under way.
    pub ended: Option<EndReason>,
    /// Messages sent to the consumer.
    pub messages: u64,
    /// Bytes read.
    pub bytes: u64,
    /// An unfinished frame has begun.
    pub inside_frame: bool,
}

/// `17 192.0.2.1:4711 sending, peer gone, for 2.1 s: 1200 messages, 153600 bytes`.
impl fmt::Display for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.id, self.peer, self.state.name())?;
        if self.peer_gone {
            f.write_str(", peer gone")?;
        }
        if let Some(reason) = self.ended {
            write!(f, ", ended: {reason}")?;
        }
        let seconds = self.in_state.as_secs_f64();
        write!(
            f,
            ", for {seconds:.1} s: {}, {}",
            counted(self.messages, "message"),
            counted(self.bytes, "byte")
        )?;
        if self.inside_frame {
            f.write_str(", inside a frame")
        } else {
            Ok(())
        }
    }
}
