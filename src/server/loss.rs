//! Whether something was lost, and by whom: the rule behind the program's exit code, as one table.
//!
//! Ours is what drainline lost or cut although its sender did nothing wrong. What a peer framed wrongly, left unfinished,
//! reset, or lost by a deadline of its own is counted and is its own doing: else any scanner would make every stop
//! look like a loss.

use super::ledger::{Counters, Discard, DropReason, EndReason, Reason, RejectReason};
use super::report::Report;

/// Whose doing it is that something did not come through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Ours,
    Peers,
}

use Fault::{Ours, Peers};

/// A whole message, or one that was too long for a limit of ours: whoever sent it takes it for sent.
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

/// Bytes that a connection had sent when it ended, and that nobody read.
fn of_unread_at_end(reason: EndReason) -> Fault {
    match reason {
        // Our limit, our hand, our stop, our code.
        EndReason::SendTimeout
        | EndReason::Aborted
        | EndReason::Shutdown
        | EndReason::HandlerReturned
        | EndReason::HandlerError
        | EndReason::HandlerPanicked => Ours,
        // It went by itself: nothing of it can still be there, or the reset took it.
        EndReason::Eof | EndReason::NoData | EndReason::Reset => Peers,
        // Nobody can tell where in them a message begins.
        EndReason::ProtocolError => Peers,
        // It had its time, and let it pass: for the rest of a message, for a first or next byte, for taking a reply.
        EndReason::FrameTimeout
        | EndReason::IdleTimeout
        | EndReason::FirstByteTimeout
        | EndReason::WriteTimeout => Peers,
    }
}

/// Bytes that a client had sent when it was turned away.
fn of_unread_at_door(reason: RejectReason) -> Fault {
    match reason {
        // It came as it should, and we had no place for it.
        RejectReason::MaxConnections
        | RejectReason::Paused
        | RejectReason::NoDescriptor
        | RejectReason::NoThread
        | RejectReason::Shutdown => Ours,
        // It had its share.
        RejectReason::PerAddress => Peers,
    }
}

/// Bytes that were read and became no message.
fn of_discarded(reason: Discard) -> Fault {
    match reason {
        // Our limit, our stop, our hand, our code.
        Discard::Truncated
        | Discard::SendTimeout
        | Discard::Shutdown
        | Discard::Aborted
        | Discard::Failed => Ours,
        // A message that we dropped is counted as dropped. Where its length closes the connection, it broke the rules.
        Discard::Oversize => Peers,
        Discard::InvalidFrame | Discard::Incomplete | Discard::Reset | Discard::DeadlinePassed => {
            Peers
        }
    }
}

impl Report {
    /// Whether drainline lost or cut something: a message that was dropped or truncated, or is in flight at the end;
    /// the rest of one that it cut off; bytes that nobody read, of whom it cut or turned away.
    ///
    /// What a peer framed wrongly, left unfinished, reset, or lost by a deadline of its own (or because its address had
    /// its share of the connections) is in the ledger, and is no loss of ours.
    pub fn is_lossy(&self) -> bool {
        let stats = &self.stats;
        stats.in_flight > 0
            || self.bytes.truncated > 0
            || has_ours(&stats.dropped, of_dropped)
            || has_ours(&stats.unread_ended, of_unread_at_end)
            || has_ours(&stats.unread_rejected, of_unread_at_door)
            || has_ours(&self.bytes.discarded, of_discarded)
    }
}

fn has_ours<R: Reason>(tally: &Counters<R>, fault_of: fn(R) -> Fault) -> bool {
    tally
        .iter()
        .any(|(reason, amount)| amount > 0 && fault_of(reason) == Ours)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::time::Duration;

    use super::*;
    use crate::server::Server;

    /// Each reason alone in a ledger in which nothing else happened: `ours` are a loss, `peers` are none, and every
    /// reason is in one of the two.
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
            "eof no_data reset protocol_error frame_timeout idle_timeout first_byte_timeout write_timeout",
        );
        check(
            &calm,
            |report| &mut report.stats.unread_rejected,
            "max_connections paused no_descriptor no_thread shutdown",
            "per_address",
        );
        check(
            &calm,
            |report| &mut report.bytes.discarded,
            "truncated send_timeout shutdown aborted failed",
            "oversize invalid_frame incomplete reset deadline_passed",
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
        // How connections and clients ended is no loss by itself.
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
