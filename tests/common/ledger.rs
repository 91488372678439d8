//! What the ledger of an embedded server must say once it is over; [`Exit`](super::exit::Exit) does
//! so for the binary's.

use drainline::Report;
use drainline::{Counters, ListenerStats, Reason, Stats};

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
    for row in &stats.listeners {
        let out = row.delivered + sum(&row.dropped) + row.in_flight;
        assert_eq!(row.received, out, "messages in and out: {row:?}");
        let ended = sum(&row.ended) + row.open;
        assert_eq!(row.accepted, ended, "connections in and out: {row:?}");
        assert_eq!((row.in_flight, row.open), (0, 0), "left: {row:?}");
    }
    let of_all = |count: fn(&ListenerStats) -> u64| stats.listeners.iter().map(count).sum::<u64>();
    assert_eq!(stats.received, of_all(|row| row.received), "{stats:?}");
    assert_eq!(stats.delivered, of_all(|row| row.delivered), "{stats:?}");
    assert_eq!(stats.accepted, of_all(|row| row.accepted), "{stats:?}");
    let rejected = of_all(|row| sum(&row.rejected));
    assert_eq!(sum(&stats.rejected), rejected, "{stats:?}");
    let unread = of_all(|row| sum(&row.unread_ended) + sum(&row.unread_rejected));
    assert_eq!(stats.unread_bytes, unread, "{stats:?}");
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
    let rows = report.stats.listeners.iter().map(|row| &row.bytes);
    for bytes in rows.clone().chain([&report.bytes]) {
        let out = bytes.message_bytes + bytes.framing_bytes + sum(&bytes.discarded) + bytes.pending;
        assert_eq!(bytes.bytes_read, out, "bytes in and out: {bytes:?}");
        assert_eq!(bytes.pending, 0, "{bytes:?}");
    }
    let read: u64 = rows.map(|bytes| bytes.bytes_read).sum();
    assert_eq!(report.bytes.bytes_read, read, "{report:?}");
    assert!(report.is_balanced(), "{report:?}");
}

fn sum<R: Reason>(counters: &Counters<R>) -> u64 {
    R::ALL.iter().map(|&reason| counters.get(reason)).sum()
}
