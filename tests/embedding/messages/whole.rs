//! Messages come whole and in order, and what is too long as the handler chose.

use std::io::Write;

use super::{MAX, connect, ended, pass_on, start};
use crate::common::client::{self, Closed};
use crate::common::handlers::drained;
use crate::common::small;
use crate::common::wait::DEADLINE;
use crate::encode;
use drainline::ingest::{Framing, Oversize, ReadMessages};
use drainline::{DropReason, EndReason};

/// Messages of many lengths, the longest and empty ones among them.
fn samples() -> Vec<Vec<u8>> {
    let lengths = [0, 1, 7, 512, 999, MAX, 3, MAX, 0, 250];
    let samples = lengths.iter().cycle().take(200).enumerate();
    samples
        .map(|(nth, &len)| vec![b'a' + (nth % 26) as u8; len])
        .collect()
}

#[test]
fn messages_come_whole_and_in_order_in_every_framing_however_the_stream_is_split() {
    for &framing in Framing::ALL {
        let (server, messages) = start(small::config(), pass_on(framing, Oversize::Close));
        let samples = samples();
        let encoded = samples.iter().map(|sample| encode::input(framing, sample));
        let stream: Vec<u8> = encoded.flatten().collect();
        // One write, writes around the sizes of both reads, and a byte at a time.
        for part in [stream.len(), 511, 4096, 5000, 1] {
            let stream = if part == 1 {
                &stream[..4096]
            } else {
                &stream[..]
            };
            let mut client = connect(&server);
            client.set_nodelay(true).unwrap();
            for part in stream.chunks(part) {
                client.write_all(part).unwrap();
            }
            client::half_close(client);
            let whole = samples.iter().scan(0, |at, sample| {
                *at += encode::input(framing, sample).len();
                (*at <= stream.len()).then_some(sample)
            });
            for sample in whole {
                assert_eq!(
                    &messages.recv_timeout(DEADLINE).unwrap(),
                    sample,
                    "{framing} {part}"
                );
            }
            // The rest of a line is one, too.
            if part == 1 && !matches!(framing, Framing::OctetCounted | Framing::LengthPrefixed) {
                assert!(messages.recv_timeout(DEADLINE).is_ok(), "{framing}");
            }
        }
        let report = drained(server);
        assert_eq!(ended(&report.stats, EndReason::Eof), 5, "{framing}");
        assert_eq!(messages.try_recv().ok(), None, "{framing}");
    }
}

#[test]
fn what_is_framed_wrongly_ends_the_connection_as_a_protocol_error() {
    let cases: [(Framing, &[u8]); 4] = [
        (Framing::OctetCounted, b"3 abcxyz"),
        (Framing::Syslog, b"9999999 <1>"),
        (Framing::LengthPrefixed, b"\0\0\0\x03abc\xff\xff\xff\xff"),
        (Framing::Lines, &[b'x'; MAX + 2]),
    ];
    for (framing, stream) in cases {
        let (server, messages) = start(small::config(), pass_on(framing, Oversize::Close));
        let mut client = connect(&server);
        client.write_all(stream).unwrap();
        client::wait_for_close(&mut client);
        let report = drained(server);
        assert_eq!(
            ended(&report.stats, EndReason::ProtocolError),
            1,
            "{framing}"
        );
        let whole: Vec<_> = messages.try_iter().collect();
        let expected = matches!(framing, Framing::OctetCounted | Framing::LengthPrefixed);
        assert_eq!(whole.contains(&b"abc".to_vec()), expected, "{framing}");
    }
}

#[test]
fn what_is_too_long_is_truncated_or_dropped_as_the_handler_chose() {
    let long = vec![b'x'; 5 * MAX];
    for &framing in Framing::ALL {
        let sent = [&b"one"[..], &long, b"two", &long, b"three"];
        let stream: Vec<u8> = sent
            .iter()
            .flat_map(|message| encode::input(framing, message))
            .collect();
        for oversize in [Oversize::Drop, Oversize::Truncate] {
            let (server, messages) = start(small::config(), pass_on(framing, oversize));
            let mut client = connect(&server);
            client.write_all(&stream).unwrap();
            assert_eq!(client::half_close(client), Closed::Clean);
            let report = drained(server);
            let messages: Vec<_> = messages.try_iter().collect();
            let dropped = report.stats.dropped.get(DropReason::Oversize);
            if oversize == Oversize::Drop {
                assert_eq!(messages, [&b"one"[..], b"two", b"three"], "{framing}");
                assert_eq!((report.stats.received, dropped), (5, 2), "{framing}");
            } else {
                let cut = &long[..MAX];
                assert_eq!(
                    messages,
                    [&b"one"[..], cut, b"two", cut, b"three"],
                    "{framing}"
                );
                assert_eq!((report.stats.received, dropped), (5, 0), "{framing}");
            }
        }
    }
}

#[test]
fn a_truncated_message_says_so() {
    let (server, messages) = start(small::config(), |conn, out| {
        let mut lines = conn
            .messages(Framing::Lines, 3)
            .oversize(Oversize::Truncate);
        while let Some(line) = lines.next_message()? {
            let mark = if lines.is_truncated() { b'+' } else { b'.' };
            out.send([&line[..], &[mark]].concat())?;
        }
        Ok(())
    });
    let mut client = connect(&server);
    client.write_all(b"abc\nabcd\r\nab\nabcdef").unwrap();
    client::half_close(client);
    drained(server);
    let messages: Vec<_> = messages.try_iter().collect();
    assert_eq!(messages, [&b"abc."[..], b"abc+", b"ab.", b"abc+"]);
}
