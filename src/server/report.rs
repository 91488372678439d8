//! What a server reports: its statistics at any moment, and the report at its end.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::ServerError;
use super::ledger::{
    Bytes, Counters, DropReason, EndReason, NotAcceptingReason, Reason, RejectReason, Spans,
    counted,
};
use super::peer::{Address, Peer};
use super::state::connection_state::{at, by, named};
use crate::policy::{Activity, OverloadLevel, Weight};

/// The server's ledger at one moment.
///
/// `received = delivered + dropped + in_flight` holds in every reading, each term summed on its
/// own; so does `accepted = ended + open`. Both hold for each listener, too, and the listeners' sum
/// is the server's. [`is_balanced`](Stats::is_balanced) checks all of that.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stats {
    /// Messages that entered a send, or that a handler dropped before one.
    pub received: u64,
    /// Messages that the consumer acknowledged as delivered.
    pub delivered: u64,
    /// Messages that were not delivered, by reason.
    pub dropped: Counters<DropReason>,
    /// Messages that are in the buffer, received by the consumer and not acknowledged, or waiting
    /// in a send. None once the server is over: what threads still hold that did not return is
    /// dropped.
    pub in_flight: u64,
    /// How much of the buffer's capacity is used, in messages and bytes. What the consumer has
    /// received and not acknowledged counts.
    pub buffered: Weight,
    /// Connections whose send waits because the buffer is full.
    pub senders_waiting: usize,
    /// The longest time that a send has been waiting, as of the watchdog's last tick (100 ms).
    pub longest_wait: Duration,
    /// Clients that were taken from the kernel's queue and wait for a thread: those that have
    /// come at once, and those to whom the system refuses one. Each holds a permit, and is counted
    /// as accepted or rejected later.
    pub starting: u64,
    /// Connections that were given a handler.
    pub accepted: u64,
    /// Connections whose handler has not returned.
    pub open: u64,
    /// Clients that were rejected, by reason.
    pub rejected: Counters<RejectReason>,
    /// Connections that ended, by reason.
    pub ended: Counters<EndReason>,
    /// Bytes that the kernel had received and nobody had read when a connection was closed or a
    /// client rejected: the least that a sender without acknowledgements lost. The sum of the next
    /// two.
    pub unread_bytes: u64,
    /// Unread bytes of connections that ended, by the reason of their end.
    pub unread_ended: Counters<EndReason>,
    /// Unread bytes of clients that were rejected, by the reason for that.
    pub unread_rejected: Counters<RejectReason>,
    /// How often the server could not accept for a while because the system had no descriptor,
    /// memory or thread left, or because another socket had taken the port of a listener that was
    /// to listen again.
    pub accept_failures: u64,
    /// Threads of the server that are not joined.
    pub threads: usize,
    /// The most that `threads` has been so far.
    pub threads_peak: usize,
    /// The overload level as of the last tick.
    pub overload: OverloadLevel,
    /// Whether the server is not accepting because a send has waited `pause_after`.
    pub is_paused: bool,
    /// Why the server is not accepting, if so, as of the last tick. At `max_connections` that
    /// begins with the first client that is kept out; while connects are refused, with the refusal.
    /// A listener at a limit of its own counts only where no listener accepts.
    pub not_accepting: Option<NotAccepting>,
    /// How long the server was not accepting, by reason. One reason counts at a time, so the sum is
    /// the total time.
    pub not_accepting_seconds: Spans<NotAcceptingReason>,
    /// How long the server was at each level of overload.
    pub overload_seconds: Spans<OverloadLevel>,
    /// The consumer, as the watchdog last saw it.
    pub consumer: ConsumerInfo,
    /// Log lines that were dropped because the logger's queue was full.
    pub log_lines_lost: u64,
    /// Time since the server started.
    pub uptime: Duration,
    /// Of each listener, by its index.
    pub listeners: Vec<ListenerStats>,
}

impl Stats {
    /// Whether the ledger balances, in all and for each listener.
    pub fn is_balanced(&self) -> bool {
        self.received == sum([self.delivered, self.dropped.total(), self.in_flight])
            && self.accepted == sum([self.ended.total(), self.open])
            && self.listeners.iter().all(|row| self.has_row(row))
            && self.is_sum_of_listeners()
    }

    /// Whether a listener's row balances, and no count in it is below 0.
    fn has_row(&self, row: &ListenerStats) -> bool {
        row.is_balanced() && row.in_flight <= self.in_flight && row.open <= self.open
    }

    fn is_sum_of_listeners(&self) -> bool {
        let rows = &self.listeners;
        let of_all = |count: fn(&ListenerStats) -> u64| sum(rows.iter().map(count));
        self.received == of_all(|row| row.received)
            && self.delivered == of_all(|row| row.delivered)
            && self.dropped == summed(rows, |row| &row.dropped)
            && self.in_flight == of_all(|row| row.in_flight)
            && self.starting == of_all(|row| row.starting)
            && self.accepted == of_all(|row| row.accepted)
            && self.open == of_all(|row| row.open)
            && self.rejected == summed(rows, |row| &row.rejected)
            && self.ended == summed(rows, |row| &row.ended)
            && self.unread_ended == summed(rows, |row| &row.unread_ended)
            && self.unread_rejected == summed(rows, |row| &row.unread_rejected)
    }
}

/// A count that lacks a booking may have wrapped below 0, and the sum with it.
fn sum(counts: impl IntoIterator<Item = u64>) -> u64 {
    counts.into_iter().fold(0, u64::wrapping_add)
}

fn summed<R: Reason>(
    rows: &[ListenerStats],
    counters: fn(&ListenerStats) -> &Counters<R>,
) -> Counters<R> {
    let mut sum = Counters::default();
    for row in rows {
        sum.add_all(counters(row));
    }
    sum
}

/// One listener's row of the ledger. Its equations are those of [`Stats`] and of [`Bytes`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ListenerStats {
    /// The listener's name, or its address if it has none.
    pub name: Arc<str>,
    /// Where the listener listens.
    pub address: Address,
    /// Messages that entered a send of one of its connections, or that a handler dropped before
    /// one.
    pub received: u64,
    /// Messages of its connections that the consumer acknowledged as delivered.
    pub delivered: u64,
    /// Messages of its connections that were not delivered, by reason.
    pub dropped: Counters<DropReason>,
    /// Messages of its connections that are in the buffer, received by the consumer and not
    /// acknowledged, or waiting in a send.
    pub in_flight: u64,
    /// Its clients that were taken from the kernel's queue and wait for a thread.
    pub starting: u64,
    /// Its connections that were given a handler.
    pub accepted: u64,
    /// Its connections whose handler has not returned.
    pub open: u64,
    /// Its clients that were rejected, by reason.
    pub rejected: Counters<RejectReason>,
    /// Its connections that ended, by reason.
    pub ended: Counters<EndReason>,
    /// Unread bytes of its connections that ended, by the reason of their end.
    pub unread_ended: Counters<EndReason>,
    /// Unread bytes of its clients that were rejected, by the reason for that.
    pub unread_rejected: Counters<RejectReason>,
    /// What became of the bytes that were read from its connections. All zeros where
    /// [`Report::bytes`] is.
    pub bytes: Bytes,
    /// Why this listener is not accepting, if so, as [`Stats::not_accepting`] says of the server.
    pub not_accepting: Option<NotAccepting>,
    /// How long the listener was not accepting, by reason.
    pub not_accepting_seconds: Spans<NotAcceptingReason>,
}

impl ListenerStats {
    /// Whether the row balances: its messages, its connections and its bytes.
    pub fn is_balanced(&self) -> bool {
        self.received == sum([self.delivered, self.dropped.total(), self.in_flight])
            && self.accepted == sum([self.ended.total(), self.open])
            && self.bytes.is_balanced()
    }
}

/// Why, and how long so far, the server is not accepting new clients.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct NotAccepting {
    /// Why the server is not accepting.
    pub reason: NotAcceptingReason,
    /// How long that has lasted.
    pub lasted: Duration,
}

/// The final report of a server: its ledger, and why it ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// The ledger of messages and connections at the end.
    pub stats: Stats,
    /// The ledger of bytes at the end.
    pub bytes: Bytes,
    /// What happened at the sinks. Zeros for a server without a sink.
    pub sink: SinkCounts,
    /// How each output stands. Empty for a server without a sink.
    pub outputs: Vec<OutputStats>,
    /// The error that ended the server, if it was not shut down.
    pub error: Option<ServerError>,
    /// The drain ran out of time. After three quarters of it, a handler had not returned whose peer
    /// had sent something, or a client that had connected before the drain was not served; or at
    /// its end, a message was not acknowledged or a thread did not return. So it is whenever the
    /// server drops a message by the shutdown ([`DropReason::Shutdown`]).
    pub timed_out: bool,
    /// Connections whose handlers did not return before the deadline. Their threads are abandoned
    /// and go on.
    pub stuck: Vec<ConnectionInfo>,
}

/// What happened at a sink.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct SinkCounts {
    /// How often the sink failed and was retried.
    pub failures: u64,
    /// How often the sink could not be reopened and kept what it had.
    pub failed_reopens: u64,
    /// Delivered messages that were written to a file that somebody had deleted, and are lost with
    /// it. Known to about a second.
    pub unlinked_messages: u64,
}

impl SinkCounts {
    pub(crate) fn sum<'a>(counts: impl Iterator<Item = &'a SinkCounts>) -> SinkCounts {
        counts.fold(SinkCounts::default(), |sum, one| SinkCounts {
            failures: sum.failures + one.failures,
            failed_reopens: sum.failed_reopens + one.failed_reopens,
            unlinked_messages: sum.unlinked_messages + one.unlinked_messages,
        })
    }
}

/// How an output stands: its sink, and what that has before it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OutputStats {
    /// The output's name; with one sink alone, what that is called in the log.
    pub name: Arc<str>,
    /// Whether a message is delivered only when this output has accepted it.
    pub is_required: bool,
    /// What became of the messages that were handed to this output; of the only one, the server's
    /// own counts.
    pub row: OutputRow,
    /// What its own buffer holds at most, in bytes; `None` where it has none, since it is required
    /// or the only one.
    pub buffer_bytes: Option<u64>,
    /// What happened at the sink.
    pub counts: SinkCounts,
    /// Messages that the sink was offered and has neither accepted nor refused; none once the sink
    /// is over. Then they are counted as dropped; a sink that waits for answers may have sent them.
    pub unanswered: u64,
    /// What the sink's last failure said, however long ago.
    pub last_error: Option<Arc<str>>,
    /// What a sink that has several receivers is connected to.
    pub connected_to: Option<Arc<str>>,
    /// For how long no try of a sink that failed has succeeded.
    pub retrying_for: Option<Duration>,
    /// How long this output has been in one write without finishing anything, as of the last tick;
    /// zero while it waits for a message, an answer or a retry.
    pub busy_for: Duration,
}

/// What became of the messages that were handed to an output.
///
/// `received = delivered + dropped + in_flight` holds in every reading, each term summed on its
/// own.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct OutputRow {
    /// Messages that were handed to the output.
    pub received: u64,
    /// Messages that it accepted.
    pub delivered: u64,
    /// Messages that it did not accept, by reason: `full` (only where it is not required),
    /// `refused`, `sink_failed`, `shutdown`; of the only output, whatever the server dropped.
    pub dropped: Counters<DropReason>,
    /// Messages that it has not answered. None once the server is over.
    pub in_flight: u64,
    /// Bytes of the batches before it. Where it is not required, they are its own buffer's.
    pub buffered_bytes: u64,
}

impl OutputRow {
    /// That of the only output.
    pub(crate) fn only(stats: &Stats) -> OutputRow {
        OutputRow {
            received: stats.received,
            delivered: stats.delivered,
            dropped: stats.dropped,
            in_flight: stats.in_flight,
            buffered_bytes: stats.buffered.bytes,
        }
    }

    /// Whether the row balances.
    pub fn is_balanced(&self) -> bool {
        self.received == sum([self.delivered, self.dropped.total(), self.in_flight])
    }
}

impl Report {
    /// Whether both ledgers balance, in all, for each listener and for each of several outputs.
    pub fn is_balanced(&self) -> bool {
        let mut of_outputs = self.outputs.iter();
        if !of_outputs.all(|output| output.row.is_balanced()) {
            return false;
        }
        let rows = self.stats.listeners.iter().map(|row| &row.bytes);
        self.stats.is_balanced() && self.bytes.is_balanced() && self.bytes == Bytes::sum(rows)
    }

    /// The ledger of a server that has not ended.
    pub(crate) fn so_far(stats: Stats) -> Self {
        Report {
            stats,
            bytes: Bytes::default(),
            sink: SinkCounts::default(),
            outputs: Vec::new(),
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
    /// The consumer's name, such as a sink's ([`Receiver::set_name`](super::Receiver::set_name)).
    pub name: String,
    /// How long the consumer has been in its own code without finishing anything; zero while it
    /// waits for a message or a retry.
    pub busy_for: Duration,
}

/// One connection, as the watchdog last saw it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionInfo {
    /// The connection's number, for [`Server::abort`](super::Server::abort).
    pub id: u64,
    /// The other end: behind a balancer that names its clients (PROXY protocol), the client.
    pub peer: Peer,
    /// The balancer through which the peer came, once it has named the peer.
    pub balancer: Option<Peer>,
    /// What the peer's certificate calls it:
    /// [`Connection::tls_name`](crate::Connection::tls_name).
    pub tls_name: Option<Arc<str>>,
    /// The name of the listener that accepted the connection; without a name, that listener's
    /// address.
    pub listener: Arc<str>,
    /// The index of that listener, as in [`Stats::listeners`].
    pub listener_index: usize,
    /// The text of the connection says the listener.
    pub(crate) is_listener_in_text: bool,
    /// What the connection's handler is doing.
    pub state: Activity,
    /// How long the handler has been doing that, as of the last tick.
    pub in_state: Duration,
    /// The peer has closed or reset the connection while its handler waits for the buffer. What the
    /// peer sent before is still delivered.
    pub peer_gone: bool,
    /// Why the connection was ended, if its handler has not returned since.
    pub ended: Option<EndReason>,
    /// Messages sent to the consumer.
    pub messages: u64,
    /// Bytes read.
    pub bytes: u64,
    /// An unfinished frame has begun.
    pub inside_frame: bool,
}

/// `17 192.0.2.1:4711 sending, peer gone, for 2.1 s: 1200 messages, 153600 bytes`. If the server
/// has several listeners, or the listener has a name of its own, that stands behind the peer:
/// `17 192.0.2.1:4711 at admin reading, for 0.5 s: 3 messages, 34 bytes`. A balancer stands before
/// that: `17 192.0.2.1:4711 by 10.0.0.1:514 at admin reading`; and what its certificate calls the
/// peer right behind it: `17 192.0.2.1:4711 (web1.example) reading`.
impl fmt::Display for ConnectionInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (by, at) = (
            by(self.balancer),
            at(&self.listener, self.is_listener_in_text),
        );
        let state = self.state.name();
        let name = named(self.tls_name.as_ref());
        write!(f, "{} {}{name}{by}{at} {state}", self.id, self.peer)?;
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
