//! Reasons, and how often each one happened.

use std::fmt;
use std::marker::PhantomData;
use std::time::Duration;

use crate::policy::OverloadLevel;

pub(crate) mod sealed {
    pub trait Sealed {}
}

/// A closed set of reasons, each with the name that it has in logs, reports and metrics.
pub trait Reason: Copy + Eq + fmt::Debug + sealed::Sealed + 'static {
    /// Every reason, in the order of [`index`](Reason::index).
    const ALL: &'static [Self];
    /// The reason's index in [`ALL`](Reason::ALL).
    fn index(self) -> usize;
    /// The reason's name, in lowercase with underscores.
    fn name(self) -> &'static str;
}

/// Declares an enum of reasons together with their names.
macro_rules! reasons {
    ($(#[$doc:meta])* $vis:vis enum $Name:ident { $($(#[$variant_doc:meta])* $Variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        $vis enum $Name { $($(#[$variant_doc])* $Variant,)+ }

        impl $crate::server::sealed::Sealed for $Name {}

        impl $crate::server::Reason for $Name {
            const ALL: &'static [Self] = &[$($Name::$Variant,)+];
            fn index(self) -> usize { self as usize }
            fn name(self) -> &'static str { match self { $($Name::$Variant => $text,)+ } }
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str($crate::server::Reason::name(*self))
            }
        }
    };
}

reasons! {
    /// Why a message was dropped. Every message that is not delivered is counted under one of
    /// these.
    pub enum DropReason {
        /// The connection waited `send_timeout` for the buffer, or was ended while it waited.
        ConnectionClosed = "connection_closed",
        /// The buffer stayed full, and `when_full` is drop.
        Full = "full",
        /// The message is heavier than the whole buffer, or longer than a message may be.
        Oversize = "oversize",
        /// The server shut down before the message could be delivered.
        Shutdown = "shutdown",
        /// The consumer failed, or dropped the message without an ack.
        SinkFailed = "sink_failed",
        /// The consumer refused the message, which can never be delivered.
        Refused = "refused",
        /// The handler dropped the message for a reason of its own.
        ByHandler = "by_handler",
        /// The quota had granted the send and yet the channel had no slot: a bug in this crate.
        /// Always 0.
        #[doc(hidden)]
        NoSlot = "no_slot",
    }
}

reasons! {
    /// Why a client was rejected.
    pub enum RejectReason {
        /// `max_connections` were being served, and `on_overload` is not backlog.
        MaxConnections = "max_connections",
        /// The client's address had `max_connections_per_ip` connections already.
        PerAddress = "per_address",
        /// The client is not in [`allow`](crate::Config#structfield.allow), or on a listener that
        /// expects the PROXY protocol, not in
        /// [`proxy_from`](crate::Config#structfield.proxy_from).
        NotAllowed = "not_allowed",
        /// The server was not accepting because a send had waited `pause_after`.
        Paused = "paused",
        /// The system had no descriptor to give (EMFILE, ENFILE).
        NoDescriptor = "no_descriptor",
        /// The system had no thread to give.
        NoThread = "no_thread",
        /// The client was in the kernel's queue when the server shut down.
        Shutdown = "shutdown",
    }
}

reasons! {
    /// Why the server is not accepting new clients.
    pub enum NotAcceptingReason {
        /// A send has waited `pause_after` for the buffer.
        Paused = "paused",
        /// `max_connections` are being served.
        MaxConnections = "max_connections",
        /// The system had no descriptor to give (EMFILE, ENFILE).
        NoDescriptor = "no_descriptor",
        /// The system had no thread to give.
        NoThread = "no_thread",
        /// `accept_rate` holds the next client back.
        AcceptRate = "accept_rate",
        /// The server shuts down.
        Draining = "draining",
    }
}

reasons! {
    /// How a connection ended.
    pub enum EndReason {
        /// The peer ended its stream.
        Eof = "eof",
        /// The peer closed the connection without having ended its stream under the protection of
        /// TLS (close_notify): whoever is in between could have done so, too. Whole messages count,
        /// an unfinished one does not.
        Unclosed = "unclosed",
        /// The peer went without having sent a byte: a health check, or a scan.
        NoData = "no_data",
        /// The handler returned of its own accord.
        HandlerReturned = "handler_returned",
        /// The peer reset the connection, or the network did.
        Reset = "reset",
        /// One send waited `send_timeout` for the buffer.
        SendTimeout = "send_timeout",
        /// The connection was aborted ([`Server::abort`](crate::Server::abort)).
        Aborted = "aborted",
        /// One frame stayed unfinished for longer than `frame_timeout`.
        FrameTimeout = "frame_timeout",
        /// The peer sent no byte for `idle_timeout`.
        IdleTimeout = "idle_timeout",
        /// The peer sent no first byte within `first_byte_timeout`.
        FirstByteTimeout = "first_byte_timeout",
        /// One write of a reply took longer than `write_timeout`.
        WriteTimeout = "write_timeout",
        /// The server shut down, or its consumer failed.
        Shutdown = "shutdown",
        /// The peer broke its protocol: an invalid frame, a message that is too long, or no valid
        /// head of the PROXY protocol.
        ProtocolError = "protocol_error",
        /// The client whom a balancer names (PROXY protocol) is not in
        /// [`allow`](crate::Config#structfield.allow), or the name of its certificate is not among
        /// [`Tls::allow_names`](crate::Tls::allow_names).
        NotAllowed = "not_allowed",
        /// The client whom a balancer names (PROXY protocol) had `max_connections_per_ip`
        /// connections already.
        PerAddress = "per_address",
        /// What comes before the peer's own bytes was not complete within `handshake_timeout`.
        HandshakeTimeout = "handshake_timeout",
        /// The TLS handshake with the peer failed.
        HandshakeFailed = "handshake_failed",
        /// The handler returned an error.
        HandlerError = "handler_error",
        /// The handler panicked.
        HandlerPanicked = "handler_panicked",
    }
}

reasons! {
    /// Why bytes that were read did not become part of a message.
    pub enum Discard {
        /// The tail of a message longer than `max_message`.
        Truncated = "truncated",
        /// A whole message longer than `max_message`, which was dropped or closed its connection.
        Oversize = "oversize",
        /// An invalid frame and what follows: a count is missing or too large.
        InvalidFrame = "invalid_frame",
        /// The beginning of a counted message, in which the peer ended its stream.
        Incomplete = "incomplete",
        /// An unfinished message when the connection was reset.
        Reset = "reset",
        /// An unfinished message, a line without its end included, where a stream within TLS was
        /// closed without close_notify.
        Unclosed = "unclosed",
        /// An unfinished message when the server shut down.
        Shutdown = "shutdown",
        /// An unfinished message when the connection had waited `send_timeout` for the buffer.
        SendTimeout = "send_timeout",
        /// An unfinished message when the peer had let a deadline pass.
        DeadlinePassed = "deadline_passed",
        /// An unfinished message when the connection was aborted.
        Aborted = "aborted",
        /// An unfinished message when the connection failed in another way.
        Failed = "failed",
    }
}

impl sealed::Sealed for OverloadLevel {}

impl Reason for OverloadLevel {
    const ALL: &'static [Self] = &OverloadLevel::ALL;
    fn index(self) -> usize {
        self as usize
    }
    fn name(self) -> &'static str {
        self.name()
    }
}

/// At least as many as any set of reasons has.
const MAX_REASONS: usize = 24;

/// A count for each reason of a set, such as connections or bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Counters<R> {
    counts: [u64; MAX_REASONS],
    of: PhantomData<R>,
}

impl<R: Reason> Counters<R> {
    /// Adds `n` to a reason.
    pub fn add(&mut self, reason: R, n: u64) {
        self.counts[reason.index()] += n;
    }

    /// Adds the counts of `other`, reason by reason.
    pub fn add_all(&mut self, other: &Counters<R>) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// The count of a reason.
    pub fn get(&self, reason: R) -> u64 {
        self.counts[reason.index()]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every reason with its count, zero included.
    pub fn iter(&self) -> impl Iterator<Item = (R, u64)> + '_ {
        R::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}

impl<R> Default for Counters<R> {
    fn default() -> Self {
        Counters {
            counts: [0; MAX_REASONS],
            of: PhantomData,
        }
    }
}

impl<R: Reason> fmt::Debug for Counters<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map()
            .entries(
                self.iter()
                    .filter(|&(_, n)| n > 0)
                    .map(|(reason, n)| (reason.name(), n)),
            )
            .finish()
    }
}

/// `0`, or `12 (aborted 10, shutdown 2)`.
impl<R: Reason> fmt::Display for Counters<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total())?;
        let mut separator = " (";
        for (reason, n) in self.iter().filter(|&(_, n)| n > 0) {
            write!(f, "{separator}{} {n}", reason.name())?;
            separator = ", ";
        }
        if separator == ", " {
            f.write_str(")")
        } else {
            Ok(())
        }
    }
}

/// The total time for each reason of a set.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Spans<R> {
    spans: [Duration; MAX_REASONS],
    of: PhantomData<R>,
}

impl<R: Reason> Spans<R> {
    pub(super) fn add(&mut self, reason: R, more: Duration) {
        self.spans[reason.index()] += more;
    }

    /// Takes the times of all reasons, in the order of [`Reason::ALL`].
    pub(super) fn of(all: &[Duration]) -> Self {
        let mut spans = Self::default();
        spans.spans[..all.len()].copy_from_slice(all);
        spans
    }

    /// The total time of a reason.
    pub fn get(&self, reason: R) -> Duration {
        self.spans[reason.index()]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> Duration {
        self.spans.iter().sum()
    }

    /// Every reason with its total time, zero included.
    pub fn iter(&self) -> impl Iterator<Item = (R, Duration)> + '_ {
        R::ALL.iter().map(|&reason| (reason, self.get(reason)))
    }
}

impl<R> Default for Spans<R> {
    fn default() -> Self {
        Spans {
            spans: [Duration::ZERO; MAX_REASONS],
            of: PhantomData,
        }
    }
}

impl<R: Reason> fmt::Debug for Spans<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = self.iter().filter(|(_, span)| !span.is_zero());
        f.debug_map()
            .entries(held.map(|(reason, span)| (reason.name(), span)))
            .finish()
    }
}

/// What became of the bytes that were read. All zeros for a server that was not started by
/// [`Ingest::builder`](crate::ingest::Ingest::builder).
///
/// `bytes_read = message_bytes + framing_bytes + discarded + pending` holds in every reading, each
/// term summed on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Bytes {
    /// Bytes read from connections.
    pub bytes_read: u64,
    /// Bytes of messages.
    pub message_bytes: u64,
    /// Delimiters, counts, and a CR before a LF.
    pub framing_bytes: u64,
    /// Bytes that did not become part of a message, by reason.
    pub discarded: Counters<Discard>,
    /// Bytes of unfinished messages that handlers hold.
    pub pending: u64,
    /// Messages that were truncated because they were longer than `max_message`. They are counted
    /// as received, and as delivered or dropped, too, so neither this number nor the next is part
    /// of an equation.
    pub truncated: u64,
    /// Messages without a delimiter, because the peer ended its stream in them. They are counted as
    /// received, and as delivered or dropped, too.
    pub unterminated: u64,
}

impl Bytes {
    /// The sum of several rows.
    pub(crate) fn sum<'a>(rows: impl IntoIterator<Item = &'a Bytes>) -> Bytes {
        let mut sum = Bytes::default();
        for row in rows {
            sum.bytes_read += row.bytes_read;
            sum.message_bytes += row.message_bytes;
            sum.framing_bytes += row.framing_bytes;
            sum.discarded.add_all(&row.discarded);
            sum.pending = sum.pending.wrapping_add(row.pending);
            sum.truncated += row.truncated;
            sum.unterminated += row.unterminated;
        }
        sum
    }

    /// Whether the equation holds.
    pub fn is_balanced(&self) -> bool {
        let known = self.message_bytes + self.framing_bytes + self.discarded.total();
        self.bytes_read == known.wrapping_add(self.pending)
    }
}

/// `1 message`, `2 messages`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_of_reasons_has_a_place_and_a_name_for_each() {
        fn check<R: Reason>() {
            assert!(R::ALL.len() <= MAX_REASONS);
            let mut counters = Counters::default();
            for (at, &reason) in R::ALL.iter().enumerate() {
                assert_eq!(reason.index(), at);
                counters.add(reason, 1);
            }
            assert!(counters.iter().all(|(_, n)| n == 1));
            assert_eq!(counters.total(), R::ALL.len() as u64);
            let mut names: Vec<_> = R::ALL.iter().map(|reason| reason.name()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), R::ALL.len(), "two reasons have one name");
        }
        check::<DropReason>();
        check::<RejectReason>();
        check::<NotAcceptingReason>();
        check::<EndReason>();
        check::<Discard>();
        check::<OverloadLevel>();
    }

    #[test]
    fn counters_say_their_sum_and_what_it_is_made_of() {
        let mut counters = Counters::default();
        assert_eq!(counters.to_string(), "0");
        counters.add(DropReason::Shutdown, 2);
        assert_eq!(counters.to_string(), "2 (shutdown 2)");
        let mut more = Counters::default();
        more.add(DropReason::ConnectionClosed, 9);
        more.add(DropReason::Shutdown, 1);
        counters.add_all(&more);
        assert_eq!(counters.to_string(), "12 (connection_closed 9, shutdown 3)");
        assert_eq!(
            format!("{counters:?}"),
            r#"{"connection_closed": 9, "shutdown": 3}"#
        );
    }
}
