//! What the ledger of an embedded server must say once it is over; [`Exit`](super::exit::Exit) does
//! so for the binary's.

use drainline::{Bytes, Counters, ListenerStats, Reason, Report, Server, Stats};

use super::wait::{DEADLINE, wait_until};

/// The equations hold, in all and for each listener, by the server's own word and summed here once
/// more; and the listeners' sums are the server's.
///
/// # Panics
/// With the ledger.
#[track_caller]
pub fn assert_rows(report: &Report) {
    let stats = &report.stats;
    for row in &stats.listeners {
        let out = row.delivered + sum(&row.dropped) + row.in_flight;
        assert_eq!(row.received, out, "messages in and out: {row:?}");
        let ended = sum(&row.ended) + row.open;
        assert_eq!(row.accepted, ended, "connections in and out: {row:?}");
        assert_bytes(&row.bytes);
    }
    assert_bytes(&report.bytes);
    let of_all = |count: fn(&ListenerStats) -> u64| stats.listeners.iter().map(count).sum::<u64>();
    let sums = [
        (stats.received, of_all(|row| row.received)),
        (stats.delivered, of_all(|row| row.delivered)),
        (sum(&stats.dropped), of_all(|row| sum(&row.dropped))),
        (stats.in_flight, of_all(|row| row.in_flight)),
        (stats.accepted, of_all(|row| row.accepted)),
        (stats.open, of_all(|row| row.open)),
        (sum(&stats.rejected), of_all(|row| sum(&row.rejected))),
        (
            stats.unread_bytes,
            of_all(|row| sum(&row.unread_ended) + sum(&row.unread_rejected)),
        ),
        (report.bytes.bytes_read, of_all(|row| row.bytes.bytes_read)),
    ];
    for (all, of_rows) in sums {
        assert_eq!(all, of_rows, "{sums:?}: {report:?}");
    }
    assert!(report.is_balanced(), "{report:?}");
}

#[track_caller]
fn assert_bytes(bytes: &Bytes) {
    let out = bytes.message_bytes + bytes.framing_bytes + sum(&bytes.discarded) + bytes.pending;
    assert_eq!(bytes.bytes_read, out, "bytes in and out: {bytes:?}");
}

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
    assert_rows(report);
    assert_eq!(report.bytes.pending, 0, "{:?}", report.bytes);
}

fn sum<R: Reason>(counters: &Counters<R>) -> u64 {
    R::ALL.iter().map(|&reason| counters.get(reason)).sum()
}

/// Until so many messages are delivered, and no more.
#[track_caller]
pub fn wait_delivered(server: &Server, messages: u64) {
    wait_until("messages delivered", DEADLINE, || {
        server.stats().delivered == messages
    });
}
