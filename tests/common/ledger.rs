//! What the ledger of an embedded server must say once it is over; [`Exit`](super::exit::Exit) does
//! so for the binary's.

use drainline::Report;
use drainline::{Counters, Reason, Stats};

/// The server's equations hold, by its own word and summed here once more, and nothing is left: in
/// the buffer or open.
///
/// # Panics
/// With the ledger.
#[track_caller]
pub fn assert_closes(stats: &Stats) {
    let out = stats.delivered + sum(&stats.dropped) + stats.in_flight;
    assert_eq!(stats.received, out, "messages in and out: {stats:?}");
    let ended = sum(&stats.ended) + stats.open;
    assert_eq!(stats.accepted, ended, "connections in and out: {stats:?}");
    assert!(stats.is_balanced(), "{stats:?}");
    assert_eq!((stats.in_flight, stats.open), (0, 0), "left: {stats:?}");
    assert_eq!(stats.buffered, Default::default(), "held: {stats:?}");
}

/// Both ledgers' equations hold, and nothing is left.
///
/// # Panics
/// With the ledger.
#[track_caller]
pub fn assert_both_close(report: &Report) {
    assert_closes(&report.stats);
    let bytes = &report.bytes;
    let out = bytes.message_bytes + bytes.framing_bytes + sum(&bytes.discarded) + bytes.pending;
    assert_eq!(bytes.bytes_read, out, "bytes in and out: {bytes:?}");
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(bytes.pending, 0, "{bytes:?}");
}

fn sum<R: Reason>(counters: &Counters<R>) -> u64 {
    R::ALL.iter().map(|&reason| counters.get(reason)).sum()
}
