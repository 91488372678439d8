//! What is rendered; in `sending`, how it goes out and when; in `flags`, what is typed.

mod flags;
mod sending;

use std::ffi::OsString;

use drainline::ingest::OutputFraming;
use drainline::ingest::framing::{Decoder, Event};
use drainline::ingest::{Framing, Oversize};

use super::super::tag::Tag;
use super::args::{PAGE, flags};
use super::message::{Ring, Source};
use super::plan::{Plan, Sizes};
use crate::cli::command::{Parsed, parse};
use crate::cli::usage::UsageError;

const FRAMINGS: [(OutputFraming, Framing); 4] = [
    (OutputFraming::Lines, Framing::Lines),
    (OutputFraming::Nul, Framing::Nul),
    (OutputFraming::OctetCounted, Framing::OctetCounted),
    (OutputFraming::LengthPrefixed, Framing::LengthPrefixed),
];

fn typed(words: &[&str]) -> Result<Plan, UsageError> {
    let words = ["load"].iter().chain(words).map(OsString::from);
    match parse(&PAGE, &flags(), words)? {
        Parsed::Run(args) => args.plan(),
        Parsed::Print(text) => panic!("{text}"),
    }
}

#[track_caller]
fn plan(words: &[&str]) -> Plan {
    typed(&[&["127.0.0.1:1"], words].concat()).expect("a plan")
}

/// The messages in a stream, by the server's own decoder.
fn messages(framing: Framing, stream: &[u8]) -> Vec<Vec<u8>> {
    let mut decoder = Decoder::new(framing, 1 << 20, Oversize::Drop);
    let (mut at, mut found) = (0, Vec::new());
    let consumed = decoder.decode(stream, &mut |event| match event {
        Event::Run { len, delimiter, .. } => {
            let run = stream[at..at + len - 1].split(|byte| *byte == delimiter);
            found.extend(run.map(<[u8]>::to_vec));
            at += len;
        }
        Event::Message { len, is_truncated } => {
            assert!(!is_truncated);
            found.push(stream[at..at + len].to_vec());
            at += len;
        }
        Event::Framing { len } => at += len,
        other => panic!("{other:?}"),
    });
    assert_eq!(consumed, stream.len(), "an unfinished message");
    found
}

#[test]
fn a_ring_is_whole_messages_of_its_sizes_and_knows_where_each_ends() {
    for (framing, decoded) in FRAMINGS {
        for (shortest, longest, write_size) in [
            (1, 1, 1),
            (128, 128, 65_536),
            (5, 900, 1000),
            (70_000, 70_000, 64),
        ] {
            let sizes = Sizes {
                shortest,
                longest,
                seed: 7,
            };
            let ring = Ring::new(sizes, framing, write_size);
            for count in [0, 1, 2, 3, 100, 5000] {
                let bytes = ring.bytes_of(count);
                assert_eq!(ring.messages_in(bytes), count);
                assert_eq!(ring.messages_in(bytes + 1), count, "a byte of the next");
                if count > 0 {
                    assert_eq!(ring.messages_in(bytes - 1), count - 1);
                }
            }
            // More than a period, in writes of full size.
            let count = if longest > 10_000 { 3 } else { 9000 };
            let (mut stream, end) = (Vec::new(), ring.bytes_of(count));
            while (stream.len() as u64) < end {
                let left = (end - stream.len() as u64).min(write_size as u64);
                stream.extend_from_slice(ring.slice(stream.len() as u64, left as usize));
            }
            let found = messages(decoded, &stream);
            assert_eq!(found.len() as u64, count, "{framing:?} {sizes:?}");
            let mut lengths: Vec<usize> = found.iter().map(Vec::len).collect();
            lengths.sort_unstable();
            lengths.dedup();
            assert!(lengths[0] >= shortest && *lengths.last().expect("some") <= longest);
            assert!(shortest == longest || lengths.len() > (longest - shortest) / 2);
        }
    }
}

#[test]
fn a_load_without_end_is_no_overflow() {
    let sizes = Sizes {
        shortest: 128,
        longest: 128,
        seed: 1,
    };
    let ring = Ring::new(sizes, OutputFraming::Lines, 65_536);
    assert_eq!(ring.bytes_of(u64::MAX), u64::MAX);
}

#[test]
fn rendered_messages_have_their_tag_and_stamp_and_size() {
    for (framing, decoded) in FRAMINGS {
        for flags in [
            &["--numbered"][..],
            &["--timestamped"],
            &["--numbered", "--timestamped"],
        ] {
            let mut plan = plan(&[flags, &["--size", "52-300", "--seed=9"]].concat());
            plan.framing = framing;
            let Source::Renderer(renderer) = Source::new(&plan) else {
                panic!("{flags:?} is rendered once");
            };
            let mut stream = Vec::new();
            for seq in 0..100 {
                renderer.render(3, seq, 1_764_000_000_000_000_000 + seq, &mut stream);
            }
            let found = messages(decoded, &stream);
            assert_eq!(found.len(), 100);
            for (seq, message) in found.iter().enumerate() {
                let seq = seq as u64;
                assert_eq!(message.len(), plan.sizes.of(3, seq));
                if plan.timestamped {
                    let stamp = format!("{} ", 1_764_000_000_000_000_000 + seq);
                    assert!(message.starts_with(stamp.as_bytes()));
                }
                if plan.numbered {
                    let stamp = plan.timestamped.then_some(1_764_000_000_000_000_000 + seq);
                    let tag = Tag {
                        connection: 3,
                        seq,
                        stamp,
                    };
                    assert_eq!(Tag::parse(message), Ok(tag));
                }
            }
        }
    }
}

#[test]
fn no_part_of_a_stamped_message_and_no_change_of_it_is_a_message() {
    for connection in [0, 99_999, 100_000, u32::MAX] {
        let tag = Tag {
            connection,
            seq: 9_999_999_999,
            stamp: Some(1_764_000_000_123_456_789),
        };
        let mut message = Vec::new();
        tag.append(&mut message, 70);
        assert_eq!((message.len(), Tag::parse(&message)), (70, Ok(tag)));
        for at in 0..message.len() {
            assert!(Tag::parse(&message[..at]).is_err(), "the first {at} bytes");
            assert!(
                at == 0 || Tag::parse(&message[at..]).is_err(),
                "all but {at}"
            );
            let mut changed = message.clone();
            changed[at] ^= 1;
            assert!(Tag::parse(&changed).is_err(), "byte {at} changed");
            for rest in at + 1..message.len() {
                let without = [&message[..at], &message[rest..]].concat();
                assert!(Tag::parse(&without).is_err(), "without {at} to {rest}");
            }
        }
    }
}

#[test]
fn sizes_follow_from_the_seed() {
    let sizes = |seed| Sizes {
        shortest: 10,
        longest: 1000,
        seed,
    };
    let drawn = |sizes: Sizes| (0..50).map(|seq| sizes.of(1, seq)).collect::<Vec<_>>();
    assert_eq!(drawn(sizes(1)), drawn(sizes(1)));
    assert_ne!(drawn(sizes(1)), drawn(sizes(2)));
}
