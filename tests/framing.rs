//! Every framing: however a stream is split, the same messages, totals and sums come of it, no byte is unaccounted for,
//! and hostile input costs little.
#![allow(clippy::unwrap_used)]

mod streams;

use std::time::{Duration, Instant};

use drainline::ingest::framing::{End, Event};
use drainline::ingest::{Discard, Framing, Oversize};
use proptest::collection::vec;
use proptest::prelude::*;

use streams::sum::{Found, Sum};
use streams::{FRAMINGS, POLICIES, Rules, check, check_split, encode};

/// Counts around everything that a decoder compares them with.
fn count(max: usize) -> impl Strategy<Value = u64> {
    let max = max as u64;
    let limits = vec![
        0,
        16 * max,
        16 * max + 1,
        1 << 20,
        (1 << 20) + 1,
        u64::from(u32::MAX),
        9_999_999_999,
    ];
    prop_oneof![
        8 => max.saturating_sub(2)..max + 4,
        4 => 0..max + 2,
        2 => Just(3 * max),
        1 => proptest::sample::select(limits),
    ]
}

/// A header that claims `count` and so much of a body, or a part of it.
fn counted(framing: Framing, max: usize) -> impl Strategy<Value = Vec<u8>> {
    let body = prop_oneof![3 => Just(b'x'), 1 => Just(b'1'), 1 => Just(b'\n'), 1 => any::<u8>()];
    (count(max), body, 0usize..8, any::<bool>()).prop_map(
        move |(count, byte, missing, is_syslog)| {
            let header = match framing {
                Framing::LengthPrefixed => (count as u32).to_be_bytes().to_vec(),
                _ => format!("{count} ").into_bytes(),
            };
            // Mostly all of it.
            let len = (count as usize)
                .min(4 * max)
                .saturating_sub(missing.saturating_sub(6));
            let mut body = vec![byte; len];
            if let (Framing::Syslog, true, Some(first)) = (framing, is_syslog, body.first_mut()) {
                *first = b'<';
            }
            [header, body].concat()
        },
    )
}

fn line(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let end =
        proptest::sample::select(vec!["\n", "\r\n", "\r\r\n", "\0", "\n\n", "\0\0", "\r", ""]);
    let len = prop_oneof![(0..4usize), (max.saturating_sub(2)..max + 4), Just(3 * max)];
    (len, end).prop_map(|(len, end)| [&vec![b'x'; len], end.as_bytes()].concat())
}

/// What is nearly a count, and whatever else.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let near = [
        "007 <x",
        "12345678901 <",
        "1234567890 <",
        "0 <",
        "12x",
        "3  <",
        "<",
        " ",
        "10 green bottles\n",
        "5\n",
        "1",
    ];
    prop_oneof![
        2 => proptest::sample::select(near.to_vec()).prop_map(|text| text.as_bytes().to_vec()),
        1 => vec(any::<u8>(), 0..4),
        1 => "[0-9]{1,11}[ <x\n]?".prop_map(String::into_bytes),
    ]
}

/// Short streams in which everything that matters to a framing is frequent.
fn stream(framing: Framing, max: usize) -> impl Strategy<Value = Vec<u8>> {
    // Noise ends a stream of counted messages at once, and does nothing to lines.
    let (lines, counts, noises) = match framing {
        Framing::Lines | Framing::Nul => (8, 1, 4),
        Framing::Syslog => (4, 4, 3),
        _ => (0, 20, 1),
    };
    let piece = prop_oneof![
        lines => line(max),
        counts => counted(framing, max),
        noises => noise(),
    ];
    vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// The longest message, a stream, and reads.
fn case(framing: Framing) -> impl Strategy<Value = (usize, Vec<u8>, Vec<usize>)> {
    (1usize..14).prop_flat_map(move |max| {
        let reads = vec(0..2 * max + 3, 1..20);
        (Just(max), stream(framing, max), reads)
    })
}

fn any_split_of(framing: Framing) {
    let mut config = ProptestConfig::with_cases(700);
    config.failure_persistence = None;
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&case(framing), |(max, stream, reads)| {
        check(framing, max, &stream, &reads);
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{framing}: {failure}");
    }
}

#[test]
fn any_split_of_lines_gives_the_same() {
    any_split_of(Framing::Lines);
}

#[test]
fn any_split_of_nul_gives_the_same() {
    any_split_of(Framing::Nul);
}

#[test]
fn any_split_of_octet_counted_gives_the_same() {
    any_split_of(Framing::OctetCounted);
}

#[test]
fn any_split_of_syslog_gives_the_same() {
    any_split_of(Framing::Syslog);
}

#[test]
fn any_split_of_length_prefixed_gives_the_same() {
    any_split_of(Framing::LengthPrefixed);
}

fn rules(framing: Framing, max: usize, oversize: Oversize) -> Rules {
    Rules {
        framing,
        max,
        oversize,
    }
}

/// What a whole stream amounts to, by the decoder.
fn decode(rules: Rules, stream: &[u8]) -> Sum {
    let (mut decoder, mut sum, mut at) = (rules.decoder(), Sum::default(), 0);
    let consumed = decoder.decode(stream, &mut |event| at += sum.take(event, &stream[at..]));
    assert_eq!(at, consumed);
    decoder.finish(&stream[consumed..], End::Eof, &mut |event| {
        at += sum.take(event, &stream[at..]);
    });
    assert_eq!(at, stream.len());
    sum
}

/// The stream's messages, and whether it broke the protocol.
fn messages(framing: Framing, stream: &[u8]) -> (Vec<String>, bool) {
    let sum = decode(rules(framing, 64, Oversize::Truncate), stream);
    let text = |message: &&[u8]| String::from_utf8(message.to_vec()).unwrap();
    let messages = sum.messages().iter().map(text).collect();
    (messages, sum.violations > 0)
}

#[test]
fn ten_green_bottles_are_a_line_to_syslog() {
    let cases: [(&str, &[&str]); 8] = [
        ("10 green bottles\n", &["10 green bottles"]),
        ("10 <reen bottles", &["<reen bott", "les"]),
        (
            "<13>a line\r\n5 <1>xy<13>z\n",
            &["<13>a line", "<1>xy", "<13>z"],
        ),
        ("0 <\n", &["0 <"]),
        ("05 <1>xy\n", &["05 <1>xy"]),
        ("12345678901 <\n", &["12345678901 <"]),
        ("1048577 <\n", &["1048577 <"]),
        ("12", &["12"]),
    ];
    for (stream, expected) in cases {
        let found = messages(Framing::Syslog, stream.as_bytes());
        assert_eq!(found.0, expected, "{stream:?}");
        assert!(!found.1, "{stream:?}");
    }
}

#[test]
fn a_count_of_zero_is_an_empty_message() {
    let (empty, one) = (String::new(), "x".to_owned());
    let expected = (vec![empty.clone(), one, empty], false);
    assert_eq!(messages(Framing::OctetCounted, b"0 1 x0 "), expected);
    let prefixed = b"\0\0\0\0\0\0\0\x01x\0\0\0\0";
    assert_eq!(messages(Framing::LengthPrefixed, prefixed), expected);
}

#[test]
fn what_is_no_count_is_garbage_from_there_on() {
    let starts = [
        "00 ",
        "01 x",
        "12345678901",
        "12345678901 ",
        "x",
        " 1 x",
        "-1 x",
        "1x",
        "1\n",
        "\n",
        "1\t",
    ];
    for start in starts {
        let stream = [b"2 ok", start.as_bytes(), b"2 no"].concat();
        let sum = decode(rules(Framing::OctetCounted, 64, Oversize::Drop), &stream);
        let mut expected = Sum::default();
        expected.framing(2);
        expected.message(b"ok", false);
        expected.discard(stream.len() - 4, Discard::Garbage);
        expected.violations = 1;
        assert_eq!(sum, expected, "{start:?}");
    }
}

#[test]
fn a_count_is_garbage_above_16_longest_messages_and_1_mib() {
    const MIB: u64 = 1 << 20;
    let cases = [
        (1, MIB),
        (65_535, MIB),
        (65_536, MIB),
        (65_537, 16 * 65_537),
        (100_000, 1_600_000),
    ];
    for (max, most) in cases {
        for count in [most, most + 1, u64::from(u32::MAX)] {
            let headers = [
                (Framing::OctetCounted, format!("{count} <").into_bytes()),
                (
                    Framing::LengthPrefixed,
                    (count as u32).to_be_bytes().to_vec(),
                ),
                (Framing::Syslog, format!("{count} <").into_bytes()),
            ];
            for (framing, header) in headers {
                let sum = decode(rules(framing, max, Oversize::Drop), &header);
                let is_dropped = sum.found.contains(&Found::Dropped);
                let is_line = sum.found.contains(&Found::Partial);
                let is_garbage = sum.violations == 1 && sum.discarded(Discard::Garbage) > 0;
                let is_too_much = count > most;
                let what = (is_dropped, is_line, is_garbage);
                let expected = match framing {
                    Framing::Syslog if max > 1 => (!is_too_much, is_too_much, false),
                    // As a line, too, it is too long.
                    Framing::Syslog => (true, false, false),
                    _ => (!is_too_much, false, is_too_much),
                };
                assert_eq!(what, expected, "{framing}, {count} with a longest of {max}");
            }
        }
    }
}

#[test]
fn the_next_message_after_one_that_is_too_long_is_whole() {
    for framing in FRAMINGS {
        let send = |message: &[u8]| encode::input(framing, message);
        let stream = [
            send(b"before"),
            send(&[b'x'; 40]),
            send(b""),
            send(b"after"),
        ]
        .concat();
        for oversize in POLICIES {
            let rules = rules(framing, 8, oversize);
            let sum = decode(rules, &stream);
            let expected: &[&[u8]] = match oversize {
                Oversize::Truncate => &[b"before", b"xxxxxxxx", b"", b"after"],
                Oversize::Drop => &[b"before", b"", b"after"],
                Oversize::Close => &[b"before"],
            };
            assert_eq!(sum.messages(), expected, "{rules:?}");
            for first in 0..stream.len() {
                check_split(rules, &stream, u64::MAX, [first]);
            }
        }
    }
}

#[test]
fn an_unterminated_message_is_not_looked_through_twice() {
    // A message of 8 MiB in reads of 16 bytes: looking through it anew each time would be 2 TiB, minutes of work.
    const MAX: usize = 8 << 20;
    let streams: [(Framing, Vec<u8>); 6] = [
        (Framing::Lines, vec![]),
        (Framing::Nul, vec![]),
        (Framing::OctetCounted, format!("{MAX} ").into_bytes()),
        (Framing::Syslog, vec![]),
        (Framing::Syslog, format!("{MAX} <").into_bytes()),
        (Framing::LengthPrefixed, (MAX as u32).to_be_bytes().to_vec()),
    ];
    for (framing, mut input) in streams {
        let is_counted = !input.is_empty();
        input.resize(MAX, b'x');
        let mut decoder = rules(framing, MAX, Oversize::Truncate).decoder();
        let began = Instant::now();
        for end in (16..=MAX).step_by(16) {
            let consumed = decoder.decode(&input[..end], &mut |event| panic!("{event:?}"));
            assert_eq!(consumed, 0);
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{framing}: {end} bytes"
            );
        }
        let mut last = Vec::new();
        decoder.finish(&input, End::Eof, &mut |event| last.push(event));
        let whole = Event::Message {
            len: MAX,
            is_truncated: false,
        };
        let unfinished = Event::Discard {
            len: MAX,
            reason: Discard::Incomplete,
        };
        match is_counted {
            true => assert_eq!(last, [unfinished]),
            false => assert_eq!(last, [whole, Event::Partial]),
        }
    }
}
