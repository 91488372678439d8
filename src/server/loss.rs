//! Whether drainline lost something: the rule behind the program's exit code, as one table.
//!
//! Ours is what drainline lost although the sender did nothing wrong. What a peer framed wrongly,
//! left unfinished, reset, or lost by its own deadline is counted as the peer's fault: otherwise
//! any scanner would make every stop look like a loss.

use super::ledger::{Counters, Discard, DropReason, EndReason, Reason, RejectReason};
use super::report::Report;

/// Whose fault it is that something was not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Ours,
    Peers,
}

use Fault::{Ours, Peers};

/// Whose fault a dropped message is: always ours, since its sender believes that it was received.
fn of_dropped(reason: DropReason) -> Fault {
    match reason {
        DropReason::ConnectionClosed
        | DropReason::Full
        | DropReason::Oversize
        | DropReason::Shutdown
        | DropReason::SinkFailed
        | DropReason::Refused
        | DropReason::ByHandler
        | DropReason::NoSlot => Ours,
    }
}

/// Whose fault it is that bytes of a connection that ended were not read.
fn of_unread_at_end(reason: EndReason) -> Fault {
    match reason {
        EndReason::SendTimeout
        | EndReason::Aborted
        | EndReason::Shutdown
        | EndReason::HandlerReturned
        | EndReason::HandlerError
        | EndReason::HandlerPanicked => Ours,
        // The peer left by itself: nothing is unread, or the reset discarded it.
        EndReason::Eof | EndReason::Unclosed | EndReason::NoData | EndReason::Reset => Peers,
        // After an invalid frame nobody can tell where the next message begins.
        EndReason::ProtocolError | EndReason::HandshakeFailed => Peers,
        // The client must not be here, or its address has its share of the connections.
        EndReason::NotAllowed | EndReason::PerAddress => Peers,
        // The peer let a deadline pass: for the rest of a message, for a first or next byte, for a
        // handshake, or for receiving a reply.
        EndReason::FrameTimeout
        | EndReason::HandshakeTimeout
        | EndReason::IdleTimeout
        | EndReason::FirstByteTimeout
        | EndReason::WriteTimeout => Peers,
    }
}

/// Whose fault it is that bytes of a rejected client were not read.
fn of_unread_rejected(reason: RejectReason) -> Fault {
    match reason {
        RejectReason::MaxConnections
        | RejectReason::Paused
        | RejectReason::NoDescriptor
        | RejectReason::NoThread
        | RejectReason::Shutdown => Ours,
        // The client must not be here, or its address has its share of the connections.
        RejectReason::NotAllowed | RejectReason::PerAddress => Peers,
    }
}

/// Whose fault it is that bytes were read and discarded.
fn of_discarded(reason: Discard) -> Fault {
    match reason {
        Discard::Truncated
        | Discard::SendTimeout
        | Discard::Shutdown
        | Discard::Aborted
        | Discard::Failed => Ours,
        // If the message was dropped, it is counted there. If its length closed the connection, the
        // peer broke the protocol.
        Discard::Oversize => Peers,
        Discard::InvalidFrame
        | Discard::Incomplete
        | Discard::Reset
        | Discard::Unclosed
        | Discard::DeadlinePassed => Peers,
    }
}

impl Report {
    /// Whether drainline lost something: a message was dropped or truncated, or is in flight at the
    /// end; an unfinished message was discarded because drainline ended its connection; or bytes of
    /// a connection that it ended, or of a client that it rejected, were not read.
    ///
    /// What a peer framed wrongly, left unfinished, reset, or lost by its own deadline (or because
    /// its address had reached `max_connections_per_ip`) is in the ledger, but is not a loss.
    pub fn is_lossy(&self) -> bool {
        let stats = &self.stats;
        stats.in_flight > 0
            || self.bytes.truncated > 0
            || has_ours(&stats.dropped, of_dropped)
            || has_ours(&stats.unread_ended, of_unread_at_end)
            || has_ours(&stats.unread_rejected, of_unread_rejected)
            || has_ours(&self.bytes.discarded, of_discarded)
    }
}

fn has_ours<R: Reason>(counters: &Counters<R>, fault_of: fn(R) -> Fault) -> bool {
    counters
        .iter()
        .any(|(reason, amount)| amount > 0 && fault_of(reason) == Ours)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::server::Server;

    /// Sets each reason alone in a ledger in which nothing else happened. Reasons in `ours` are a
    /// loss, those in `peers` are none, and every reason is in one of the two.
    fn check<R: Reason>(
        calm: &Report,
        set: fn(&mut Report) -> &mut Counters<R>,
        ours: &str,
        peers: &str,
    ) {
        let (ours, peers): (Vec<_>, Vec<_>) =
            (ours.split(' ').collect(), peers.split(' ').collect());
        for &reason in R::ALL {
            let name = reason.name();
            assert!(ours.contains(&name) != peers.contains(&name), "{name}");
            let mut report = calm.clone();
            set(&mut report).add(reason, 1);
            assert_eq!(report.is_lossy(), ours.contains(&name), "{name}");
        }
    }

    #[test]
    fn a_loss_is_what_drainline_lost_or_cut_for_every_reason_there_is() {
        let builder = Server::builder().listen(([127, 0, 0, 1], 0).into());
        let calm = builder
            .serve(|_| Ok(()))
            .unwrap()
            .shutdown(Duration::from_secs(60));
        assert!(!calm.is_lossy());
        check(
            &calm,
            |report| &mut report.stats.dropped,
            "connection_closed full oversize shutdown sink_failed refused by_handler no_slot",
            "",
        );
        check(
            &calm,
            |report| &mut report.stats.unread_ended,
            "send_timeout aborted shutdown handler_returned handler_error handler_panicked",
            "eof unclosed no_data reset protocol_error not_allowed per_address handshake_failed handshake_timeout \
             frame_timeout idle_timeout first_byte_timeout write_timeout",
        );
        check(
            &calm,
            |report| &mut report.stats.unread_rejected,
            "max_connections paused no_descriptor no_thread shutdown",
            "per_address not_allowed",
        );
        check(
            &calm,
            |report| &mut report.bytes.discarded,
            "truncated send_timeout shutdown aborted failed",
            "oversize invalid_frame incomplete reset unclosed deadline_passed",
        );
        let counts: [fn(&mut Report); 2] = [
            |report| report.stats.in_flight = 1,
            |report| report.bytes.truncated = 1,
        ];
        for count in counts {
            let mut report = calm.clone();
            count(&mut report);
            assert!(report.is_lossy(), "{report:?}");
        }
        // How a connection ended or why a client was rejected is no loss by itself.
        let mut report = calm.clone();
        for &reason in EndReason::ALL {
            report.stats.ended.add(reason, 1);
        }
        for &reason in RejectReason::ALL {
            report.stats.rejected.add(reason, 1);
        }
        assert!(!report.is_lossy());
    }
}
