//! Every framing: however a stream is split, the same messages, totals and sums come of it, no byte
//! is unaccounted for, and hostile input costs little.

use std::time::{Duration, Instant};

use drainline::Discard;
use drainline::ingest::framing::{End, Event};
use drainline::ingest::{Framing, Oversize};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::streams::sum::{Found, Sum};
use crate::streams::{Rules, check, check_split, encode};

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
    let end = proptest::sample::select(vec!["", "", "\n", "\r\n", "\r", "é", "€", "🦀"]);
    let behind = proptest::sample::select(vec!["", "", "\n", "\r\n", "\0", "\r", "\n\n"]);
    let priority = proptest::sample::select(vec!["<1>", "<13>", "<191>", "<192>", "<", "<1", "<>"]);
    let around = (priority, end, behind);
    (count(max), body, 0usize..8, any::<bool>(), around).prop_map(
        move |(count, byte, missing, is_syslog, (priority, end, behind))| {
            let header = match framing {
                Framing::LengthPrefixed => (count as u32).to_be_bytes().to_vec(),
                _ => format!("{count} ").into_bytes(),
            };
            // Mostly all of it.
            let len = (count as usize)
                .min(4 * max)
                .saturating_sub(missing.saturating_sub(6));
            let mut body = vec![byte; len];
            if let (Framing::Syslog, true) = (framing, is_syslog) {
                let priority = &priority.as_bytes()[..priority.len().min(len)];
                body[..priority.len()].copy_from_slice(priority);
            }
            let end = &end.as_bytes()[..end.len().min(len)];
            body[len - end.len()..].copy_from_slice(end);
            [&header, &body, behind.as_bytes()].concat()
        },
    )
}

fn line(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let end = proptest::sample::select(vec![
        "\n", "\r\n", "\r\r\n", "\0", "\n\n", "\0\0", "\r", "", "\n\0", "\0\n",
    ]);
    let len = prop_oneof![(0..4usize), (max.saturating_sub(2)..max + 4), Just(3 * max)];
    let text = proptest::sample::select(vec!["x", "x", "x", "é", "x€", "🦀", "é🦀x"]);
    let bytes = |text: &str, len| text.bytes().cycle().take(len).collect::<Vec<_>>();
    (len, end, text).prop_map(move |(len, end, text)| [&bytes(text, len), end.as_bytes()].concat())
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
        "250 <bob@example.com> Recipient ok\n",
        "9 <1",
        "4 <1>\n",
        "3 <13>a",
        "\u{feff}",
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
    let start = proptest::sample::select(vec!["", "", "", "\u{feff}"]);
    (start, vec(piece, 0..10))
        .prop_map(|(start, pieces)| [start.as_bytes(), &pieces.concat()].concat())
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
fn any_split_of_a_stream_gives_the_same_in_each_framing() {
    for &framing in Framing::ALL {
        any_split_of(framing);
    }
}

pub(crate) fn rules(framing: Framing, max: usize, oversize: Oversize) -> Rules {
    Rules {
        framing,
        max,
        oversize,
    }
}

/// What a whole stream amounts to, by the decoder.
pub(crate) fn decode(rules: Rules, stream: &[u8]) -> Sum {
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
    let cases: [(&str, &[&str]); 23] = [
        ("10 green bottles\n", &["10 green bottles"]),
        ("10 <reen bottles", &["10 <reen bottles"]),
        (
            "<13>a\n250 <bob@example.com> Recipient ok\n<13>b\n250 <1>\n",
            &["<13>a", "250 <bob@example.com> Recipient ok", "<13>b"],
        ),
        ("5 <191>\n", &["<191>"]),
        ("5 <192>\n", &["5 <192>"]),
        ("4 <00>5 <000>3 <0>", &["<00>", "<000>", "<0>"]),
        ("6 <0000>\n", &["6 <0000>"]),
        ("4 <>ab\n", &["4 <>ab"]),
        ("5 <1x>a\n", &["5 <1x>a"]),
        // The count has to cover all of the priority.
        ("3 <13>a\n", &["3 <13>a"]),
        ("4 <13>a\n", &["<13>", "a"]),
        ("2 <1>\n", &["2 <1>"]),
        // It ends inside its priority: half of a counted message.
        ("9 <13", &[]),
        ("9 ", &["9 "]),
        ("9 <13>abcd", &[]),
        (
            "<13>a line\r\n5 <1>xy<13>z\n",
            &["<13>a line", "<1>xy", "<13>z"],
        ),
        ("0 <\n", &["0 <"]),
        ("05 <1>xy\n", &["05 <1>xy"]),
        ("12345678901 <\n", &["12345678901 <"]),
        ("1048577 <\n", &["1048577 <"]),
        ("1048577 <x> abc\n", &["1048577 <x> abc"]),
        // No count has so many digits.
        ("12345678901 <13>abc\n", &["12345678901 <13>abc"]),
        ("12", &["12"]),
    ];
    for (stream, expected) in cases {
        let found = messages(Framing::Syslog, stream.as_bytes());
        assert_eq!(found.0, expected, "{stream:?}");
        assert!(!found.1, "{stream:?}");
    }
}

/// What the commonest senders write. Each is decoded in the same way however it is split.
fn arrives(framing: Framing, max: usize, stream: &[u8], expected: &[&str]) {
    for &oversize in Oversize::ALL {
        let rules = rules(framing, max, oversize);
        let sum = decode(rules, stream);
        let found: Vec<_> = sum
            .messages()
            .iter()
            .map(|m| str::from_utf8(m).unwrap())
            .collect();
        assert_eq!(
            (found.as_slice(), sum.violations),
            (expected, 0),
            "{rules:?}"
        );
        let bytes: usize = expected.iter().map(|message| message.len()).sum();
        let framing_bytes = sum.total(|found| match found {
            Found::Framing(len) => *len,
            _ => 0,
        });
        assert_eq!(framing_bytes as usize, stream.len() - bytes, "{rules:?}");
        for first in 0..stream.len() {
            check_split(rules, stream, 1, [first]);
        }
    }
}

#[test]
fn a_lf_that_is_counted_is_framing_in_syslog_and_max_message_counts_the_rest() {
    let expected = ["<13>a", "<13>b"];
    arrives(Framing::Syslog, 64, b"6 <13>a\n6 <13>b\n", &expected);
    arrives(Framing::Syslog, 64, b"7 <13>a\r\n7 <13>b\r\n", &expected);
    // A message of exactly the longest is whole, with either end.
    arrives(Framing::Syslog, 5, b"6 <13>a\n7 <13>b\r\n", &expected);
    // Only one, and only there: what is counted is exact elsewhere.
    arrives(Framing::Syslog, 64, b"7 <13>a\n\n", &["<13>a\n"]);
    arrives(Framing::OctetCounted, 64, b"6 <13>a\n", &["<13>a\n"]);
}

#[test]
fn one_lf_crlf_or_nul_between_counted_messages_is_framing() {
    let expected = ["<13>a", "<13>b"];
    for framing in [Framing::Syslog, Framing::OctetCounted] {
        for end in ["\n", "\r\n", "\0"] {
            for last in ["", end] {
                let stream = format!("5 <13>a{end}5 <13>b{last}");
                arrives(framing, 64, stream.as_bytes(), &expected);
            }
        }
    }
    // A message that was too long ends as any other.
    let stream = b"9 <13>aaaaa\n5 <13>b\n";
    for framing in [Framing::Syslog, Framing::OctetCounted] {
        let sum = decode(rules(framing, 5, Oversize::Truncate), stream);
        assert_eq!(sum.messages(), [b"<13>a", b"<13>b"], "{framing}");
        assert_eq!(sum.violations, 0);
    }
}

#[test]
fn byte_order_marks_and_the_double_ends_of_gelf_and_perl_are_framing() {
    let (a, b) = ("{\"a\":1}", "{\"b\":2}");
    let gelf = format!("{a}\0\n{b}\0\n");
    arrives(Framing::Nul, 64, gelf.as_bytes(), &[a, b]);
    arrives(Framing::Nul, 64, b"a\0\n\nb\0", &["a", "\nb"]);
    arrives(Framing::Nul, 64, b"a\0\r\nb\0\r\n", &["a", "b"]);
    arrives(Framing::Nul, 64, b"a\0\r\n\nb\0\r\n\0", &["a", "\nb", ""]);
    arrives(Framing::Nul, 64, b"a\0\rb\0\r\0", &["a", "\rb", "\r"]);
    arrives(Framing::Nul, 64, b"\na\0", &["\na"]);
    let expected = ["<13>a", "<13>b"];
    arrives(Framing::Syslog, 64, b"<13>a\n\0<13>b\n\0", &expected);
    let marked = "\u{feff}5 <13>a5 <13>b".as_bytes();
    arrives(Framing::Syslog, 64, marked, &expected);
    arrives(Framing::OctetCounted, 64, marked, &expected);
    arrives(
        Framing::Syslog,
        64,
        "\u{feff}<13>a\n<13>b\n".as_bytes(),
        &expected,
    );
    // In the middle of a stream it is part of a message.
    arrives(
        Framing::Syslog,
        64,
        "<13>a\n\u{feff}b\n".as_bytes(),
        &["<13>a", "\u{feff}b"],
    );
}

#[test]
fn a_truncated_message_ends_with_a_whole_character() {
    for &framing in Framing::ALL {
        for (text, expected) in [("<1>é🦀xxxx", "<1>é"), ("<1>abcd€xx", "<1>abcd")] {
            let stream = match framing {
                Framing::Syslog => encode::input(Framing::OctetCounted, text.as_bytes()),
                _ => encode::input(framing, text.as_bytes()),
            };
            let rules = rules(framing, 8, Oversize::Truncate);
            let sum = decode(rules, &stream);
            assert_eq!(sum.messages(), [expected.as_bytes()], "{framing}");
            for first in 0..stream.len() {
                check_split(rules, &stream, 1, [first]);
            }
        }
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
fn what_is_no_count_is_invalid_from_there_on() {
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
        "\n\n",
        "\rx",
        "1\t",
    ];
    for start in starts {
        let stream = [b"2 ok", start.as_bytes(), b"2 no"].concat();
        let sum = decode(rules(Framing::OctetCounted, 64, Oversize::Drop), &stream);
        let mut expected = Sum::default();
        expected.framing(2);
        expected.message(b"ok", false);
        // The first LF may stand between two messages.
        let between = usize::from(start == "\n\n");
        expected.framing(between);
        expected.discard(stream.len() - 4 - between, Discard::InvalidFrame);
        expected.violations = 1;
        assert_eq!(sum, expected, "{start:?}");
    }
}

/// One mark may stand between two messages, and a byte order mark before the first: behind a mark
/// there is a count. A lone CR at the end of the stream is the beginning of a CRLF only where one
/// may stand.
#[test]
fn a_mark_behind_a_mark_is_an_invalid_frame() {
    let marked = ["\u{feff}", "1 a\n", "1 a\r\n", "1 a\0"];
    let again = ["\r", "\r\n", "\n", "\0", "\u{feff}"];
    for (before, mark) in marked.iter().flat_map(|b| again.map(|mark| (b, mark))) {
        let stream = [before, mark].concat().into_bytes();
        let rules = rules(Framing::OctetCounted, 64, Oversize::Truncate);
        let sum = decode(rules, &stream);
        let invalid = (sum.discarded(Discard::InvalidFrame), sum.violations);
        assert_eq!(invalid, (mark.len() as u64, 1), "{stream:?}");
        for first in 0..stream.len() {
            check_split(rules, &stream, 1, [first]);
        }
    }
    let unfinished = decode(
        rules(Framing::OctetCounted, 64, Oversize::Truncate),
        b"1 a\r",
    );
    assert_eq!(unfinished.messages(), [b"a"]);
    assert_eq!(
        (
            unfinished.discarded(Discard::Incomplete),
            unfinished.violations
        ),
        (1, 0)
    );
}

#[test]
fn a_count_above_16_longest_messages_and_1_mib_is_an_invalid_frame() {
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
                (Framing::Syslog, format!("{count} <1>").into_bytes()),
            ];
            for (framing, header) in headers {
                let rules = rules(framing, max, Oversize::Drop);
                let sum = decode(rules, &header);
                let is_dropped = sum.found.contains(&Found::Dropped);
                let is_invalid = sum.violations == 1 && sum.discarded(Discard::InvalidFrame) > 0;
                let is_too_much = count > most;
                let what = (is_dropped, is_invalid);
                let expected = (!is_too_much, is_too_much);
                assert_eq!(what, expected, "{framing}, {count} with a longest of {max}");
                for first in 0..header.len() {
                    check_split(rules, &header, u64::MAX, [first]);
                }
            }
        }
    }
}

#[test]
fn the_next_message_after_one_that_is_too_long_is_whole() {
    for &framing in Framing::ALL {
        let send = |message: &[u8]| encode::input(framing, message);
        let stream = [
            send(b"before"),
            send(&[b'x'; 40]),
            send(b""),
            send(b"after"),
        ]
        .concat();
        for &oversize in Oversize::ALL {
            let rules = rules(framing, 8, oversize);
            let sum = decode(rules, &stream);
            let expected: &[&[u8]] = match oversize {
                Oversize::Truncate => &[b"before", b"xxxxxxxx", b"", b"after"],
                Oversize::Drop => &[b"before", b"", b"after"],
                Oversize::Close => &[b"before"],
                other => panic!("not known here: {other:?}"),
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
    // A message of 8 MiB in reads of 16 bytes: looking through it anew each time would be 2 TiB,
    // minutes of work.
    const MAX: usize = 8 << 20;
    let streams: [(Framing, Vec<u8>); 6] = [
        (Framing::Lines, vec![]),
        (Framing::Nul, vec![]),
        (Framing::OctetCounted, format!("{MAX} ").into_bytes()),
        (Framing::Syslog, vec![]),
        (Framing::Syslog, format!("{MAX} <1>").into_bytes()),
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
            false => assert_eq!(last, [whole, Event::Unterminated]),
        }
    }
}
