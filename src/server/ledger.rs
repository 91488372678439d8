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
    /// Its place in [`ALL`](Reason::ALL).
    fn index(self) -> usize;
    /// Its name: lowercase, underscores.
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
    /// Why a message was dropped. There is no other way for one to leave undelivered.
    pub enum DropReason {
        /// Its connection was aborted: it waited `send_timeout` for the buffer, or was cut while it did.
        ConnectionClosed = "connection_closed",
        /// The buffer stayed full, and `when_full` is drop.
        Full = "full",
        /// It is heavier than the whole buffer, or longer than a message may be.
        Oversize = "oversize",
        /// The server shut down before it could be delivered.
        Shutdown = "shutdown",
        /// The consumer died, or let go of it without saying that it was delivered.
        SinkFailed = "sink_failed",
        /// The consumer said that it can never be delivered.
        Refused = "refused",
        /// The handler dropped it for a reason of its own.
        ByHandler = "by_handler",
        /// It had room and yet no slot: a bug in this crate. Always 0.
        #[doc(hidden)]
        NoSlot = "no_slot",
    }
}

reasons! {
    /// Why a client was turned away.
    pub enum RejectReason {
        /// `max_connections` were being served, and `on_overload` turns clients away.
        MaxConnections = "max_connections",
        /// Its address had `max_connections_per_ip` already.
        PerAddress = "per_address",
        /// The gate was shut because senders were held up.
        Paused = "paused",
        /// The system had no descriptor to give (EMFILE, ENFILE).
        NoDescriptor = "no_descriptor",
        /// The system had no thread to give.
        NoThread = "no_thread",
        /// It was in the kernel's queue when the server shut down.
        Shutdown = "shutdown",
    }
}

reasons! {
    /// Why new clients are kept out.
    pub enum NotAcceptingReason {
        /// Senders are held up by a full buffer.
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
        /// The peer went without having sent a byte: a health check, or a scan.
        NoData = "no_data",
        /// The handler returned of its own accord.
        HandlerReturned = "handler_returned",
        /// The peer reset the connection, or the network did.
        Reset = "reset",
        /// It waited `send_timeout` for the buffer.
        SendTimeout = "send_timeout",
        /// It was aborted by hand.
        Aborted = "aborted",
        /// It was too long inside one unfinished frame.
        FrameTimeout = "frame_timeout",
        /// It sent no byte for too long.
        IdleTimeout = "idle_timeout",
        /// It sent no first byte for too long.
        FirstByteTimeout = "first_byte_timeout",
        /// One write of a reply took too long.
        WriteTimeout = "write_timeout",
        /// The server shut down, or its consumer died.
        Shutdown = "shutdown",
        /// The peer broke its protocol: garbage, or a message that is too long.
        ProtocolError = "protocol_error",
        /// The handler returned an error.
        HandlerError = "handler_error",
        /// The handler panicked.
        HandlerPanicked = "handler_panicked",
    }
}

reasons! {
    /// Why bytes that were read became no message.
    pub enum Discard {
        /// The tail of a message longer than `max_message`.
        Truncated = "truncated",
        /// A message longer than `max_message`, all of it: it is among the dropped, or closed its connection.
        Oversize = "oversize",
        /// An invalid frame and what follows it: no count where one has to be, or one that is too large.
        InvalidFrame = "invalid_frame",
        /// A counted message that the peer ended its stream in.
        Incomplete = "incomplete",
        /// An unfinished message when the connection was reset.
        Reset = "reset",
        /// An unfinished message when the server shut down.
        Shutdown = "shutdown",
        /// An unfinished message when its connection had waited `send_timeout` for the buffer.
        SendTimeout = "send_timeout",
        /// An unfinished message when the peer had let a deadline pass.
        DeadlinePassed = "deadline_passed",
        /// An unfinished message when its connection was aborted by hand.
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

/// More than any set of reasons has.
const MAX_REASONS: usize = 16;

/// How often each reason of a set happened, or how much it amounts to.
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

    /// Adds another counters to this one.
    pub fn add_all(&mut self, other: &Counters<R>) {
        for (count, more) in self.counts.iter_mut().zip(other.counts) {
            *count += more;
        }
    }

    /// What a reason amounts to.
    pub fn get(&self, reason: R) -> u64 {
        self.counts[reason.index()]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every reason with its amount, zero or not.
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

/// How long each reason of a set held, in all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Spans<R> {
    spans: [Duration; MAX_REASONS],
    of: PhantomData<R>,
}

impl<R: Reason> Spans<R> {
    pub(super) fn add(&mut self, reason: R, more: Duration) {
        self.spans[reason.index()] += more;
    }

    /// From the time of each reason, in the order of [`Reason::ALL`].
    pub(super) fn of(all: &[Duration]) -> Self {
        let mut spans = Self::default();
        spans.spans[..all.len()].copy_from_slice(all);
        spans
    }

    /// How long a reason held.
    pub fn get(&self, reason: R) -> Duration {
        self.spans[reason.index()]
    }

    /// The sum over all reasons.
    pub fn total(&self) -> Duration {
        self.spans.iter().sum()
    }

    /// Every reason with its time, zero or not.
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

/// What became of the bytes that were read, of a server that cuts them into messages itself
/// ([`Ingest`](crate::ingest::Ingest)). Another one has zeros here.
///
/// `bytes_read = message_bytes + framing_bytes + discarded + pending` holds in every reading, each term
/// summed on its own.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Bytes {
    /// Bytes read from connections.
    pub bytes_read: u64,
    /// Bytes of messages.
    pub message_bytes: u64,
    /// Delimiters, counts, and a CR before a LF.
    pub framing_bytes: u64,
    /// Bytes that became no message, by reason.
    pub discarded: Counters<Discard>,
    /// Bytes of unfinished messages that readers hold.
    pub pending: u64,
    /// Messages that are the beginning of a longer one: how often a peer sent more than `max_message`. They are among the
    /// received, whatever became of them: one that was dropped later is among the dropped, too, so this and the next stand
    /// beside the equations.
    pub truncated: u64,
    /// Messages that the peer ended its stream in, without a delimiter. They are among the received, whatever became of
    /// them.
    pub unterminated: u64,
}

impl Bytes {
    /// Whether the equation holds.
    pub fn is_balanced(&self) -> bool {
        self.bytes_read
            == self.message_bytes + self.framing_bytes + self.discarded.total() + self.pending
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
    }

    #[test]
    fn a_tally_says_its_sum_and_what_it_is_made_of() {
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
