//! Leaves out one booking of bytes at a time: the ledger says so, whichever it is.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use super::*;
use crate::ingest::shared::Shared;
use crate::ingest::{Framing, Ingest, Output, OutputFraming, Oversize, sink};
use crate::server::{Config, Counters, Server};

/// Messages with and without a CR, one that is too long, and the beginning of one.
const INPUT: &[u8] = b"one\ntwo\r\nfar too long\nha";
/// The end of that one, and the beginning of another.
const MORE: &[u8] = b"lf\nre";

/// Enters what a read brought into the ledger.
type Book = fn(&mut Reader<'_>, Entry);

/// A server that nobody connects to: its byte ledger is ours.
fn server() -> (Server, Arc<Shared>) {
    let builder = Ingest::builder()
        .max_message(8)
        .oversize(Oversize::Truncate)
        .listen((std::net::Ipv4Addr::LOCALHOST, 0).into());
    let config = Config::default();
    let builder = builder.output(Output::new("null", sink::Null));
    let shared = Arc::new(builder.shared(&config));
    let server = builder.start_with(config, Arc::clone(&shared));
    (server.unwrap(), shared)
}

fn decode(reader: &mut Reader<'_>, entry: &mut Entry) -> Decoded {
    let mut decoded = Decoded::default();
    reader.decode(u64::MAX, &mut decoded, entry);
    decoded
}

/// Books a read of `INPUT`, one of `MORE` and the end of the stream, each as `book` does. Returns
/// whether the ledger closed after each.
fn run(book: Book) -> [bool; 3] {
    let (server, shared) = server();
    let mut reader = Reader::new(
        &shared.pool,
        &shared.ledger,
        shared.inputs[0].format,
        shared.inputs[0].decoder.clone(),
    );
    let closes = || server.report().is_balanced();
    assert!(closes());
    let mut read = |input: &[u8]| {
        reader.incoming.pending.append(input);
        let mut entry = Entry::default();
        decode(&mut reader, &mut entry);
        let read = input.len() as u64;
        book(&mut reader, Entry { read, ..entry });
        closes()
    };
    let after_reads = [read(INPUT), read(MORE)];
    // The stream is interrupted: what is pending is discarded.
    let mut entry = Entry::default();
    entry
        .discarded
        .add(Discard::Reset, reader.incoming.pending.len() as u64);
    reader.incoming.pending.clear();
    book(&mut reader, entry);
    let after_end = closes();
    let bytes = shared.ledger.read()[0];
    if after_end {
        let whole = (INPUT.len() + MORE.len()) as u64;
        let discarded = [Discard::Truncated, Discard::Reset].map(|why| bytes.discarded.get(why));
        assert_eq!((bytes.bytes_read, bytes.pending), (whole, 0));
        assert_eq!((bytes.message_bytes, bytes.framing_bytes), (18, 5));
        assert_eq!((discarded, bytes.truncated), ([4, 2], 1));
    }
    [after_reads[0], after_reads[1], after_end]
}

#[test]
fn the_ledger_closes_after_every_read() {
    assert_eq!(run(|reader, mut entry| reader.book(&mut entry)), [true; 3]);
}

#[test]
fn the_ledger_does_not_close_with_a_booking_left_out() {
    let ways: [(&str, Book); 6] = [
        ("bytes read", |reader, entry| {
            reader.book(&mut Entry { read: 0, ..entry });
        }),
        ("message bytes", |reader, entry| {
            reader.book(&mut Entry {
                messages: 0,
                ..entry
            });
        }),
        ("framing bytes", |reader, entry| {
            reader.book(&mut Entry {
                framing: 0,
                ..entry
            });
        }),
        ("discarded", |reader, entry| {
            reader.book(&mut Entry {
                discarded: Counters::default(),
                ..entry
            });
        }),
        ("pending, as it comes", |reader, entry| {
            reader.ledger.book(0, &entry);
        }),
        ("pending, as it goes", |reader, entry| {
            let pending_after = reader.incoming.pending.len() as u64;
            reader.ledger.book(
                0,
                &Entry {
                    pending_after,
                    ..entry
                },
            );
        }),
    ];
    for (left_out, book) in ways {
        let closes = run(book);
        assert_ne!(closes, [true; 3], "nobody noticed: {left_out}");
    }
}

#[test]
fn a_count_alone_reserves_nothing() {
    for (framing, header) in [
        (Framing::OctetCounted, &b"1048576 "[..]),
        (Framing::Syslog, b"1048576 <"),
        (Framing::LengthPrefixed, &[0, 16, 0, 0]),
    ] {
        let decoder = Decoder::new(framing, 1 << 20, Oversize::Truncate);
        let (pool, ledger) = (Pool::new(64, 1), ByteLedger::new(1));
        let format = server().1.inputs[0].format;
        let mut reader = Reader::new(&pool, &ledger, format, decoder);
        reader.incoming.pending.append(header);
        decode(&mut reader, &mut Entry::default());
        assert_eq!(&reader.incoming.pending[..], header);
        assert!(
            reader.incoming.pending.capacity() <= 64,
            "{framing}: {reader:?}"
        );
        assert!(reader.incoming.is_inside());
    }
}

/// The pool's buffers come back from wherever they went, however messages are framed on the way
/// out.
#[test]
fn no_buffer_of_the_pool_is_lost() {
    const BUFFER: usize = 8 << 10;
    for framing in [OutputFraming::Lines, OutputFraming::LengthPrefixed] {
        let (pool, ledger) = (Pool::new(BUFFER, 20), ByteLedger::new(1));
        let format = BatchFormat {
            framing,
            ..server().1.inputs[0].format
        };
        let decoder = Decoder::new(Framing::Lines, BUFFER * 2, Oversize::Truncate);
        let mut reader = Reader::new(&pool, &ledger, format, decoder);
        let taken = [pool.take(), pool.take(), pool.take()];
        taken.into_iter().for_each(|buffer| pool.put(buffer));
        // Full of short lines, so that what is added to each makes more of it than a buffer holds;
        // then a long message that outgrows one; then an end with a buffer in hand.
        for input in [&b"message\n".repeat(BUFFER / 8)[..], &[b'x'; BUFFER - 1]] {
            reader.incoming.grow(reader.pool);
            reader.incoming.pending.append(input);
            let decoded = decode(&mut reader, &mut Entry::default());
            let rest = std::iter::from_fn(|| {
                reader
                    .has_more
                    .then(|| decode(&mut reader, &mut Entry::default()))
            });
            let decoded: Vec<_> = std::iter::once(decoded).chain(rest).collect();
            for batch in decoded.into_iter().filter_map(|decoded| decoded.batch) {
                pool.put(batch.into_buffer());
            }
        }
        reader.incoming.grow(reader.pool);
        if let Some(batch) = reader.finish(End::Eof).batch {
            pool.put(batch.into_buffer());
        }
        assert_eq!(pool.free(), 3, "{framing}");
    }
}

/// However many messages one read brings, in whatever framing they come and go: they leave in
/// batches that each hold no more than one of the pool's buffers, or one message, and are the same
/// messages.
#[test]
fn what_one_read_brings_leaves_in_batches_that_are_each_within_their_limit() {
    const BUFFER: usize = 8 << 10;
    const OUTPUTS: [OutputFraming; 4] = [
        OutputFraming::Lines,
        OutputFraming::Nul,
        OutputFraming::OctetCounted,
        OutputFraming::LengthPrefixed,
    ];
    let inputs: [(Framing, &[u8]); 6] = [
        (Framing::Lines, b"\n"),
        (Framing::Lines, b"x\r\n\n"),
        (Framing::Nul, b"\n\0"),
        (Framing::OctetCounted, b"0 1 \n"),
        (Framing::Syslog, b"\n5 <1>\n\n"),
        (Framing::LengthPrefixed, &[0, 0, 0, 0]),
    ];
    for framing in OUTPUTS {
        for (from, unit) in inputs {
            for buffer_messages in [8, 80, 1 << 20] {
                let (pool, ledger) = (Pool::new(BUFFER, 20), ByteLedger::new(1));
                let config = crate::server::Config {
                    buffer_messages,
                    ..Default::default()
                };
                let format = BatchFormat {
                    framing,
                    limit: crate::ingest::batch::BatchLimit::of(&config),
                    input: from,
                    is_indexed: framing.can_tear(from),
                };
                let decoder = Decoder::new(from, BUFFER, Oversize::Truncate);
                let mut reader = Reader::new(&pool, &ledger, format, decoder);
                let input = unit.repeat(BUFFER / unit.len());
                reader.incoming.grow(reader.pool);
                reader.incoming.pending.append(&input);
                let mut entry = Entry::default();
                let first = decode(&mut reader, &mut entry);
                let rest = std::iter::from_fn(|| {
                    reader
                        .has_more
                        .then(|| decode(&mut reader, &mut Entry::default()))
                });
                let (mut finished, mut sent) = (0, 0);
                for decoded in std::iter::once(first).chain(rest) {
                    finished += decoded.finished;
                    let Some(batch) = decoded.batch else { continue };
                    let (messages, bytes) = (batch.iter().count() as u64, batch.as_bytes().len());
                    assert!(messages <= format.limit.messages(), "{from} {framing}");
                    assert!(bytes <= BUFFER, "{from} {framing}: {bytes} in {messages}");
                    let weight = crate::server::Weigh::bytes(&batch);
                    assert!(weight <= BUFFER * 3, "{from} {framing}: {weight}");
                    sent += messages;
                }
                assert_eq!(sent, finished, "{from} {framing}");
                assert!(
                    reader.incoming.pending.len() <= unit.len(),
                    "{from} {framing}"
                );
            }
        }
    }
}
