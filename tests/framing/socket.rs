//! Every framing through a socket: what a server reads, in whatever pieces, is what the reference
//! finds in the stream, and the ledger says the same.

use std::io::Write;
use std::time::Duration;

use crate::common::client;
use crate::common::echo::ANY;
use crate::common::small;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::framing::End;
use drainline::ingest::{Framing, Oversize};
use drainline::{Discard, Reason};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::streams::sum::Found;
use crate::streams::{Rules, encode, reference};

/// Mostly short, sometimes about as long as a message may be, sometimes much longer.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0usize..20, 2 => 300usize..700, 1 => 700usize..3000]
}

/// Messages of these bytes and lengths, each in one of the ways in which the framing sends them,
/// and the beginning of one more.
fn stream(framing: Framing, messages: &[(u8, usize, u8)]) -> Vec<u8> {
    let one = |&(byte, len, way): &(u8, usize, u8)| {
        let message = vec![byte; len];
        match (framing, way) {
            (Framing::Lines, 1) => [&message, &b"\r\n"[..]].concat(),
            (Framing::Lines, 2) => [&message, &b"\r\r\n"[..]].concat(),
            (Framing::Lines | Framing::Nul, 3) => [&message, &b"\n\n\0\0"[..]].concat(),
            (Framing::Syslog, 1) => [&message, &b"\r\n"[..]].concat(),
            (Framing::Syslog, 2..) => {
                encode::input(Framing::OctetCounted, &[b"<13>", &message[..]].concat())
            }
            _ => encode::input(framing, &message),
        }
    };
    let unfinished = match framing {
        Framing::OctetCounted => &b"1000 unfinished"[..],
        Framing::LengthPrefixed => b"\0\0\0\x10unfinished",
        _ => b"unfinished",
    };
    messages
        .iter()
        .flat_map(one)
        .chain(unfinished.iter().copied())
        .collect()
}

/// Sends a stream in these writes to a server of its own, and compares what came of it.
fn check_socket(rules: Rules, stream: &[u8], writes: &[usize]) {
    let expected = reference::amounts_to(rules, stream, End::Eof);
    let valve = Valve::keeping_messages();
    let mut config = small::config();
    config.buffer_messages = 64;
    let server = small::ingest()
        .config(config)
        .framing(rules.framing)
        .max_message(rules.max)
        .oversize(rules.oversize)
        .listen(ANY.parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let mut rest = stream;
    for &write in writes {
        let (now, later) = rest.split_at(write.min(rest.len()));
        client.write_all(now).unwrap();
        rest = later;
    }
    client.write_all(rest).unwrap();
    client::half_close(client);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(valve.messages(), expected.messages(), "{rules:?}");
    let (bytes, stats) = (report.bytes, report.stats);
    assert_eq!((bytes.bytes_read, bytes.pending), (stream.len() as u64, 0));
    let discards = Discard::ALL
        .iter()
        .map(|&reason| (reason, bytes.discarded.get(reason)));
    for (reason, discarded) in discards {
        assert_eq!(
            discarded,
            expected.discarded(reason),
            "{rules:?} {reason:?}"
        );
    }
    let count = |is: fn(&Found) -> usize| expected.total(is);
    let messages = [
        (bytes.message_bytes, count(message_bytes)),
        (bytes.framing_bytes, count(framing_bytes)),
        (
            bytes.truncated,
            count(|found| {
                usize::from(matches!(
                    found,
                    Found::Message {
                        is_truncated: true,
                        ..
                    }
                ))
            }),
        ),
        (
            bytes.unterminated,
            count(|found| usize::from(*found == Found::Partial)),
        ),
        (stats.delivered, expected.messages().len() as u64),
        (
            stats.received - stats.delivered,
            count(|found| usize::from(*found == Found::Dropped)),
        ),
    ];
    assert!(
        messages.iter().all(|(found, expected)| found == expected),
        "{rules:?}: {messages:?}"
    );
}

fn message_bytes(found: &Found) -> usize {
    match found {
        Found::Message { bytes, .. } => bytes.len(),
        _ => 0,
    }
}

fn framing_bytes(found: &Found) -> usize {
    match found {
        Found::Framing(len) => *len,
        _ => 0,
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 16,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_socket_gives_what_the_reference_gives(
        max in 300usize..700,
        messages in vec((any::<u8>(), length(), 0u8..4), 1..80),
        writes in vec(1usize..1200, 0..60),
    ) {
        for &framing in Framing::ALL {
            let stream = stream(framing, &messages);
            for oversize in [Oversize::Truncate, Oversize::Drop] {
                check_socket(Rules { framing, max, oversize }, &stream, &writes);
            }
        }
    }
}

#[test]
fn a_count_makes_a_connection_hold_no_more_than_came() {
    // 1 MiB is claimed, and 64 KiB are the longest message: what is not kept is discarded as it
    // comes.
    const CLAIMED: usize = 1 << 20;
    const MAX: usize = 64 << 10;
    for (framing, oversize) in [
        (Framing::OctetCounted, Oversize::Truncate),
        (Framing::LengthPrefixed, Oversize::Truncate),
        (Framing::OctetCounted, Oversize::Drop),
        (Framing::LengthPrefixed, Oversize::Drop),
        (Framing::Syslog, Oversize::Truncate),
        (Framing::Syslog, Oversize::Drop),
    ] {
        let header = match framing {
            Framing::LengthPrefixed => (CLAIMED as u32).to_be_bytes().to_vec(),
            _ => format!("{CLAIMED} ").into_bytes(),
        };
        let valve = Valve::keeping_messages();
        let server = small::ingest()
            .framing(framing)
            .max_message(MAX)
            .oversize(oversize)
            .listen(ANY.parse().unwrap())
            .start(valve.sink())
            .unwrap();
        let mut client = client::connect(server.local_addrs()[0]);
        let mut sent = header.len();
        client.write_all(&header).unwrap();
        let parts = [3, 998, MAX - 1002, 2, 100_000, CLAIMED - MAX - 100_001];
        let mut is_first = true;
        for part in parts {
            let mut body = vec![b'x'; part];
            if std::mem::take(&mut is_first) {
                body[..3].copy_from_slice(b"<1>");
            }
            client.write_all(&body).unwrap();
            sent += part;
            wait_until("all was read", DEADLINE, || {
                server.report().bytes.bytes_read == sent as u64
            });
            let pending = server.report().bytes.pending;
            let is_kept = oversize == Oversize::Truncate && sent < header.len() + MAX;
            let expected = if is_kept { sent as u64 } else { 0 };
            assert_eq!(pending, expected, "{framing} {oversize:?} after {sent}");
        }
        client.write_all(&encode::input(framing, b"next")).unwrap();
        client::half_close(client);
        let report = server.shutdown(Duration::from_secs(5));
        assert!(report.is_balanced(), "{report:?}");
        let truncated = [&b"<1>"[..], &[b'x'; MAX - 3]].concat();
        match oversize {
            Oversize::Truncate => assert_eq!(valve.messages(), [truncated, b"next".to_vec()]),
            _ => assert_eq!(valve.messages(), [b"next"]),
        }
    }
}

#[test]
fn messages_around_a_dropped_one_keep_their_order() {
    // Whole lines, one that is dropped, and whole lines again, in one read: what came before was
    // put behind, or lost.
    for before in [1, 10] {
        let valve = Valve::open();
        let server = small::ingest()
            .max_message(10)
            .oversize(Oversize::Drop)
            .listen(ANY.parse().unwrap())
            .start(valve.sink())
            .unwrap();
        let lines = b"before\n".repeat(before);
        let mut client = client::connect(server.local_addrs()[0]);
        let sent = [&lines, &b"much too long\nafter\n"[..]].concat();
        client.write_all(&sent).unwrap();
        client::half_close(client);
        let report = server.shutdown(DEADLINE);
        assert!(report.is_balanced(), "{report:?}");
        assert_eq!(valve.bytes(), [&lines, &b"after\n"[..]].concat());
        assert_eq!(report.stats.delivered, before as u64 + 1);
    }
}

#[test]
fn a_violation_closes_the_connection_and_the_messages_before_it_are_kept() {
    let valve = Valve::open();
    let server = small::ingest()
        .max_message(10)
        .oversize(Oversize::Close)
        .listen(ANY.parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"one\ntwo\r\nmuch too long\n").unwrap();
    client::wait_for_close(&mut client);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(valve.bytes(), b"one\ntwo\n");
    let stats = report.stats;
    assert_eq!(stats.ended.get(drainline::EndReason::ProtocolError), 1);
    assert_eq!((stats.received, stats.dropped.total()), (2, 0));
    assert_eq!(report.bytes.discarded.get(Discard::Oversize), 14);
}

/// A batch of one message is looked for in less than what was searched in vain for the end of a
/// long one.
#[test]
fn a_long_message_in_pieces_is_whole_where_a_batch_holds_one_message() {
    for &framing in Framing::ALL {
        let mut config = small::config();
        config.buffer_messages = 8;
        let valve = Valve::open();
        let server = small::ingest()
            .config(config)
            .framing(framing)
            .listen(ANY.parse().unwrap())
            .start(valve.sink())
            .unwrap();
        let mut client = client::connect(server.local_addrs()[0]);
        let long = [&b"<13>"[..], &[b'x'; 60_000]].concat();
        let mut stream = encode::input(framing, &long);
        for _ in 0..100 {
            stream.extend(encode::input(framing, b"<13>short"));
        }
        let mut sent = 0;
        for piece in stream.chunks(3000) {
            client.write_all(piece).unwrap();
            sent += piece.len() as u64;
            // Each is a read of its own.
            wait_until("a piece read", DEADLINE, || {
                server.report().bytes.bytes_read == sent
            });
        }
        assert_eq!(client::half_close(client), client::Closed::Clean);
        let report = server.shutdown(DEADLINE);
        assert!(report.is_balanced(), "{report:?}");
        assert_eq!(report.stats.delivered, 101, "{framing:?}: {report:?}");
    }
}
