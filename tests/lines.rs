//! `lines`: however a stream is split, the same messages, totals and sums come of it, and no byte is unaccounted for.
#![allow(clippy::unwrap_used)]

mod common;

use std::io::Write;
use std::time::Instant;

use common::client;
use common::echo::ANY;
use common::valve::Valve;
use common::wait::DEADLINE;
use drainline::Config;
use drainline::ingest::framing::{Decoder, End, Event};
use drainline::ingest::{Discard, Framing, Ingest, Oversize};
use proptest::collection::vec;
use proptest::prelude::*;

/// What a stream amounts to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Sum {
    partial: u64,
    messages: Vec<Vec<u8>>,
    truncated: u64,
    dropped: u64,
    framing: u64,
    discarded_truncated: u64,
    discarded_oversize: u64,
    discarded_cut: u64,
    violations: u64,
}

/// Splits at each LF, strips one CR, cuts off what is too long. It looks at the whole stream at once.
fn reference(stream: &[u8], max: usize, oversize: Oversize, end: End) -> Sum {
    let mut sum = Sum::default();
    let mut lines: Vec<&[u8]> = stream.split(|&byte| byte == b'\n').collect();
    let last = lines.pop().unwrap();
    for line in lines {
        sum.line(
            line.strip_suffix(b"\r").unwrap_or(line),
            line,
            max,
            oversize,
        );
        if sum.violations > 0 {
            let rest = stream.len() as u64 - sum.bytes();
            sum.discarded_oversize += rest;
            return sum;
        }
        sum.framing += 1;
    }
    // An unfinished line is a message at the end of the stream, its CR included; else it is discarded. One that is
    // already longer than any message, whatever follows, was dealt with before.
    let is_too_long = last.len() > max + 1;
    match end {
        _ if last.is_empty() => {}
        End::Cut(_) if !is_too_long => sum.discarded_cut += last.len() as u64,
        _ => {
            let before = sum.messages.len();
            sum.line(last, last, max, oversize);
            if end == End::Eof {
                sum.partial += (sum.messages.len() - before) as u64;
            }
        }
    }
    sum
}

impl Sum {
    fn line(&mut self, message: &[u8], line: &[u8], max: usize, oversize: Oversize) {
        if message.len() <= max {
            self.messages.push(message.to_vec());
            self.framing += (line.len() - message.len()) as u64;
            return;
        }
        match oversize {
            Oversize::Truncate => {
                self.messages.push(line[..max].to_vec());
                self.truncated += 1;
                self.discarded_truncated += (line.len() - max) as u64;
            }
            Oversize::Drop | Oversize::Close => {
                self.dropped += 1;
                self.discarded_oversize += line.len() as u64;
            }
        }
        self.violations += u64::from(oversize == Oversize::Close);
    }

    fn message_bytes(&self) -> u64 {
        self.messages
            .iter()
            .map(|message| message.len() as u64)
            .sum()
    }

    fn bytes(&self) -> u64 {
        self.message_bytes()
            + self.framing
            + self.discarded_truncated
            + self.discarded_oversize
            + self.discarded_cut
    }

    /// Adds what an event says of the bytes at `at`, and returns how many these are.
    fn take(&mut self, event: Event, bytes: &[u8]) -> usize {
        match event {
            Event::Run {
                len,
                messages,
                delimiter,
            } => {
                let run = &bytes[..len];
                assert_eq!(delimiter, b'\n');
                assert_eq!(run.last(), Some(&b'\n'), "a run ends with a delimiter");
                let before = self.messages.len();
                let lines = run[..len - 1].split(|&byte| byte == b'\n');
                self.messages.extend(lines.map(<[u8]>::to_vec));
                assert_eq!((self.messages.len() - before) as u64, messages);
                self.framing += messages;
                len
            }
            Event::Message { len, is_truncated } => {
                self.messages.push(bytes[..len].to_vec());
                self.truncated += u64::from(is_truncated);
                len
            }
            Event::Framing { len } => {
                self.framing += len as u64;
                len
            }
            Event::Discard { len, reason } => {
                *match reason {
                    Discard::Truncated => &mut self.discarded_truncated,
                    Discard::Oversize => &mut self.discarded_oversize,
                    _ => &mut self.discarded_cut,
                } += len as u64;
                len
            }
            Event::Dropped => {
                self.dropped += 1;
                0
            }
            Event::Partial => {
                self.partial += 1;
                0
            }
            Event::Violation => {
                self.violations += 1;
                0
            }
        }
    }
}

/// Feeds a stream in reads of the given lengths (the rest in one), keeping what was not consumed, as a reader does.
fn decode(stream: &[u8], reads: &[usize], max: usize, oversize: Oversize, end: End) -> Sum {
    let mut decoder = Decoder::new(Framing::Lines, max, oversize);
    let mut sum = Sum::default();
    let mut pending = Vec::new();
    let mut rest = stream;
    for &read in reads.iter().chain(&[usize::MAX]) {
        let (now, later) = rest.split_at(read.min(rest.len()));
        rest = later;
        pending.extend_from_slice(now);
        let mut at = 0;
        let consumed = decoder.decode(&pending, |event| at += sum.take(event, &pending[at..]));
        assert_eq!(at, consumed, "the events' lengths are what was consumed");
        pending.drain(..consumed);
        assert!(
            pending.len() <= max + 1,
            "more is kept than a message may be long"
        );
        assert!(!pending.contains(&b'\n'), "a whole message is kept back");
        if !pending.is_empty() {
            assert!(decoder.is_inside(pending.len()));
        }
    }
    let mut at = 0;
    decoder.finish(&pending, end, |event| at += sum.take(event, &pending[at..]));
    assert_eq!(at, pending.len(), "nothing is left over");
    sum
}

/// Short streams in which everything that matters is frequent: LF, CR, and messages about as long as they may be.
fn stream(max: usize) -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"\n".to_vec()),
        2 => Just(b"\r\n".to_vec()),
        2 => Just(b"\r".to_vec()),
        2 => vec(any::<u8>(), 0..4),
        4 => (max.saturating_sub(2)..max + 4).prop_map(|len| vec![b'x'; len]),
        1 => Just(vec![b'y'; 3 * max]),
    ];
    vec(piece, 0..12).prop_map(|pieces| pieces.concat())
}

fn case() -> impl Strategy<Value = (usize, Vec<u8>, Vec<usize>)> {
    (1usize..9).prop_flat_map(|max| (Just(max), stream(max), vec(0usize..2 * max + 3, 0..40)))
}

const POLICIES: [Oversize; 3] = [Oversize::Truncate, Oversize::Drop, Oversize::Close];
const ENDS: [End; 2] = [End::Eof, End::Cut(Discard::Reset)];

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_gives_the_same_messages_and_sums((max, stream, reads) in case()) {
        for oversize in POLICIES {
            for end in ENDS {
                let expected = reference(&stream, max, oversize, end);
                prop_assert_eq!(expected.bytes(), stream.len() as u64);
                let whole = decode(&stream, &[], max, oversize, end);
                prop_assert_eq!(&whole, &expected, "whole, {:?} {:?}", oversize, end);
                let split = decode(&stream, &reads, max, oversize, end);
                prop_assert_eq!(&split, &expected, "split, {:?} {:?}", oversize, end);
                let bytes = decode(&stream, &vec![1; stream.len()], max, oversize, end);
                prop_assert_eq!(&bytes, &expected, "byte by byte, {:?} {:?}", oversize, end);
            }
        }
    }
}

/// Mostly short, sometimes about as long as a message may be, sometimes much longer.
fn length() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0usize..20, 2 => 300usize..700, 1 => 700usize..3000]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_socket_gives_what_the_reference_gives(
        max in 300usize..700,
        seed in vec((any::<u8>(), length(), 0u8..4), 1..80),
        writes in vec(1usize..1200, 0..60),
    ) {
        let stream: Vec<u8> = seed
            .iter()
            .flat_map(|&(byte, len, end)| {
                let ends: [&[u8]; 4] = [b"\n", b"\r\n", b"\r\r\n", b"\n\n"];
                [vec![byte; len].as_slice(), ends[usize::from(end)]].concat()
            })
            .chain(*b"unfinished")
            .collect();
        for oversize in [Oversize::Truncate, Oversize::Drop] {
            let expected = reference(&stream, max, oversize, End::Eof);
            let valve = Valve::open();
            let mut config = Config::default();
            config.buffer_messages = 64;
            let server = Ingest::builder()
                .config(config)
                .max_message(max)
                .oversize(oversize)
                .listen(ANY.parse().unwrap())
                .start(valve.sink())
                .unwrap();
            let mut client = client::connect(server.local_addrs()[0]);
            let mut rest = &stream[..];
            for &write in &writes {
                let (now, later) = rest.split_at(write.min(rest.len()));
                client.write_all(now).unwrap();
                rest = later;
            }
            client.write_all(rest).unwrap();
            client::half_close(client);
            let report = server.shutdown(DEADLINE);
            prop_assert!(report.is_balanced(), "{:?}", report);
            let (bytes, stats) = (report.bytes, report.server.stats);
            let written: Vec<u8> = expected.messages.iter().flat_map(|message| [message, &b"\n"[..]].concat()).collect();
            prop_assert_eq!(valve.bytes(), written);
            prop_assert_eq!(bytes.bytes_read, stream.len() as u64);
            prop_assert_eq!(bytes.message_bytes, expected.message_bytes());
            prop_assert_eq!(bytes.framing_bytes, expected.framing);
            prop_assert_eq!(bytes.discarded.get(Discard::Truncated), expected.discarded_truncated);
            prop_assert_eq!(bytes.discarded.get(Discard::Oversize), expected.discarded_oversize);
            prop_assert_eq!((bytes.truncated, bytes.partial, bytes.pending), (expected.truncated, 1, 0));
            prop_assert_eq!(stats.delivered, expected.messages.len() as u64);
            prop_assert_eq!(stats.received, stats.delivered + expected.dropped);
        }
    }
}

#[test]
fn an_unterminated_message_is_not_looked_through_twice() {
    // A message of 8 MiB in reads of 16 bytes: looking through it anew each time would be 2 TiB, minutes of work.
    const MAX: usize = 8 << 20;
    let mut decoder = Decoder::new(Framing::Lines, MAX, Oversize::Truncate);
    let input = vec![b'x'; MAX];
    let began = Instant::now();
    for end in (16..=MAX).step_by(16) {
        let consumed = decoder.decode(&input[..end], |event| panic!("{event:?}"));
        assert_eq!(consumed, 0);
        assert!(began.elapsed() < DEADLINE, "{end} of {MAX} bytes");
    }
    let mut last = Vec::new();
    decoder.finish(&input, End::Eof, |event| last.push(event));
    let whole = Event::Message {
        len: MAX,
        is_truncated: false,
    };
    assert_eq!(last, [whole, Event::Partial]);
}

#[test]
fn messages_around_a_dropped_one_keep_their_order() {
    // Whole lines, one that is dropped, and whole lines again, in one read: what came before was put behind, or lost.
    for before in [1, 10] {
        let valve = Valve::open();
        let server = Ingest::builder()
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
        assert_eq!(report.server.stats.delivered, before as u64 + 1);
    }
}

#[test]
fn a_violation_closes_the_connection_and_the_messages_before_it_are_kept() {
    let valve = Valve::open();
    let server = Ingest::builder()
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
    let stats = report.server.stats;
    assert_eq!(stats.ended.get(drainline::EndReason::Protocol), 1);
    assert_eq!(stats.dropped.get(drainline::DropReason::Oversize), 1);
    assert_eq!(report.bytes.discarded.get(Discard::Oversize), 14);
}
