//! What is rendered, when it is due, and what is typed.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use drainline::ingest::OutputFraming;
use drainline::ingest::framing::{Decoder, Event};
use drainline::ingest::{Framing, Oversize};

use super::super::args::{Typed, command, read};
use super::super::tag::Tag;
use super::args::{Args, PAGE};
use super::lane::{Lane, Rendering, Step};
use super::message::{Batch, Ring, Source};
use super::pacer::Pacer;
use super::plan::{Plan, Sizes};
use crate::cli::usage::UsageError;

const FRAMINGS: [(OutputFraming, Framing); 4] = [
    (OutputFraming::Lines, Framing::Lines),
    (OutputFraming::Nul, Framing::Nul),
    (OutputFraming::OctetCounted, Framing::OctetCounted),
    (OutputFraming::LengthPrefixed, Framing::LengthPrefixed),
];

fn typed(words: &[&str]) -> Result<Plan, UsageError> {
    let words: Vec<OsString> = ["load"].iter().chain(words).map(OsString::from).collect();
    match read::<Args>(&words, &PAGE)? {
        Typed::Args(args) => args.plan(),
        Typed::Print(text) => panic!("{text}"),
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
    let consumed = decoder.decode(stream, |event| match event {
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
        for flags in [&["--tagged"][..], &["--timed"], &["--tagged", "--timed"]] {
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
                if plan.timed {
                    let stamp = format!("{} ", 1_764_000_000_000_000_000 + seq);
                    assert!(message.starts_with(stamp.as_bytes()));
                }
                if plan.tagged {
                    let stamp = plan.timed.then_some(1_764_000_000_000_000_000 + seq);
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
fn a_batch_counts_what_was_taken_and_is_cut_behind_what_has_begun() {
    let batch = || Batch {
        bytes: vec![0; 30],
        ends: vec![10, 20, 30],
        ..Batch::default()
    };
    for (taken, whole, begun, left) in [
        (0, 0, false, 0),
        (9, 0, true, 10),
        (10, 1, false, 10),
        (25, 2, true, 30),
        (30, 3, false, 30),
    ] {
        let mut batch = batch();
        assert_eq!(batch.take(taken), whole);
        assert_eq!(batch.begun(), begun, "{taken} bytes");
        batch.cut();
        assert_eq!(batch.bytes.len(), left, "{taken} bytes");
        assert_eq!(batch.is_done(), !begun);
    }
    let mut batch = batch();
    assert_eq!([batch.take(15), batch.take(1), batch.take(14)], [1, 0, 2]);
}

/// A lane that has sent until its socket was full, and the other end.
fn blocked(source: &Source, plan: &Plan) -> (Lane, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let stream =
        TcpStream::connect(listener.local_addr().expect("its address")).expect("connected");
    stream.set_nonblocking(true).expect("set");
    let mut lane = Lane::new(Instant::now(), u64::MAX);
    lane.stream = Some(stream);
    lane.open(u64::MAX);
    while matches!(step(&mut lane, source, plan), Step::More) {}
    (lane, listener.accept().expect("it is there").0)
}

fn step(lane: &mut Lane, source: &Source, plan: &Plan) -> Step {
    let mut rendering = Rendering {
        spare: &mut Vec::new(),
        number: &|| 7,
        stamp: &|_| 0,
    };
    lane.step(source, plan.write_size, &mut rendering)
}

#[test]
fn a_lane_that_ends_finishes_the_message_that_has_begun_and_no_other() {
    // An odd size: what the kernel takes ends somewhere in a message.
    for flags in [&["--size=1003"][..], &["--size=1003", "--tagged"]] {
        let plan = plan(flags);
        let source = Source::new(&plan);
        let (mut lane, mut other) = blocked(&source, &plan);
        let begun = lane.bytes.div_ceil(1004);
        lane.end(&source);
        let reader = std::thread::spawn(move || {
            let mut read = Vec::new();
            other.read_to_end(&mut read).map(|_| read)
        });
        while !matches!(step(&mut lane, &source, &plan), Step::Idle) {
            std::thread::yield_now();
        }
        assert!(lane.is_through());
        assert_eq!(
            (lane.total(), lane.bytes),
            (begun, begun * 1004),
            "{flags:?}"
        );
        assert!(!lane.leave(&source), "a part of a message is left");
        let read = reader.join().expect("no panic").expect("read");
        assert_eq!(read.len() as u64, begun * 1004);
        assert_eq!(messages(Framing::Lines, &read).len() as u64, begun);
    }
}

#[test]
fn messages_of_all_workers_together_are_one_even_stream() {
    let start = Instant::now();
    for (connections, threads, rate) in [(1, 1, 3), (7, 2, 10), (500, 2, 100), (5, 5, 1000)] {
        let plan = Plan {
            connections,
            threads,
            rate: Some(rate),
            duration: Some(Duration::from_secs(2)),
            ..plan(&[])
        };
        let mut dues = Vec::new();
        let mut counts: HashMap<(usize, usize), u64> = HashMap::new();
        for worker in 0..threads {
            let lanes = (worker..connections).step_by(threads).len();
            let mut pacer = Pacer::new(&plan, (worker, threads), lanes, start).expect("a rate");
            let mut before = start;
            while let Some(due) = pacer.next_due() {
                assert!(due >= before, "in order");
                before = due;
                assert_eq!(
                    pacer.take(due - Duration::from_nanos(1)),
                    None,
                    "not before"
                );
                let later = due + Duration::from_millis(5);
                let (lane, late) = pacer.take(later).expect("it is due");
                assert_eq!(late, Duration::from_millis(5));
                let count = counts.entry((worker, lane)).or_default();
                assert_eq!(pacer.due(lane, *count), due);
                *count += 1;
                dues.push(due - start);
            }
        }
        dues.sort_unstable();
        let all = connections as u64 * rate;
        for (place, due) in dues.iter().enumerate() {
            let nanos = u128::from(place as u64) * 1_000_000_000 / u128::from(all);
            assert_eq!(due.as_nanos(), nanos, "{connections} x {rate}");
        }
        assert_eq!(counts.len(), connections);
        assert!(counts.values().all(|count| *count == 2 * rate));
        assert!(*dues.last().expect("some") < Duration::from_secs(2));
    }
}

#[test]
fn messages_end_a_schedule_too() {
    let plan = plan(&["--rate", "10", "--messages", "3"]);
    let mut pacer = Pacer::new(&plan, (0, 1), 1, Instant::now()).expect("a rate");
    let far = Instant::now() + Duration::from_secs(1000);
    assert_eq!(std::iter::from_fn(|| pacer.take(far)).count(), 3);
    assert_eq!(pacer.next_due(), None);
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

#[test]
fn every_flag_is_in_both_helps_and_reaches_the_plan() {
    for word in ["-h", "--help"] {
        let words = [OsString::from("load"), OsString::from(word)];
        let Ok(Typed::Print(text)) = read::<Args>(&words, &PAGE) else {
            panic!("{word} prints nothing");
        };
        for arg in command::<Args>(&PAGE).get_arguments() {
            if let Some(long) = arg.get_long() {
                assert!(
                    text.contains(&format!("--{long}")),
                    "{long} is not in {word}"
                );
            }
        }
    }
    let full = plan(&[
        "--connections=7",
        "--messages=5",
        "--duration=3s",
        "--rate=10/s",
        "--hold=1s",
        "--size=100-2KiB",
        "--seed=9",
        "--framing=nul",
        "--tagged",
        "--timed",
        "--write-size=1KiB",
        "--reconnect-every=2",
        "--wait-close",
        "--threads=3",
    ]);
    let sizes = Sizes {
        shortest: 100,
        longest: 2048,
        seed: 9,
    };
    assert_eq!((full.connections, full.messages), (7, Some(5)));
    assert_eq!(full.duration, Some(Duration::from_secs(3)));
    assert_eq!((full.rate, full.sizes), (Some(10), sizes));
    assert_eq!(full.hold, Duration::from_secs(1));
    assert_eq!((full.framing, full.write_size), (OutputFraming::Nul, 1024));
    assert_eq!((full.reconnect_every, full.threads), (Some(2), 3));
    assert!(full.tagged && full.timed && full.wait_close);
    let bare = plan(&[]);
    assert_eq!(bare.duration, Some(Duration::from_secs(10)));
    assert_eq!(plan(&["--messages=5"]).duration, None);
    let threads = |words| plan(words).threads;
    assert_eq!(threads(&["--connections=9"]), 2);
    assert_eq!(threads(&["--connections=9", "--rate=1"]), 1);
    assert_eq!(threads(&["--connections=1", "--threads=64"]), 1);
}

#[test]
fn what_is_no_load_is_one_line() {
    let address = "127.0.0.1:1";
    for (words, part) in [
        (&[][..], "an address is missing"),
        (&["nowhere"], "load nowhere: accepted is an address"),
        (
            &[address, "again"],
            "again: accepted are one ADDRESS and flags",
        ),
        (
            &[address, "--rate", "0"],
            "--rate 0: accepted is a rate such as 1000",
        ),
        (
            &[address, "--rate", "10000001"],
            "--rate 10000001: accepted",
        ),
        (
            &[address, "--rate", "fast"],
            "--rate fast: accepted is a rate",
        ),
        (&[address, "--size", "0"], "--size 0B: accepted is a size"),
        (
            &[address, "--size", "9-5"],
            "--size 9B-5B: accepted is a size",
        ),
        (
            &[address, "--size", "65MiB"],
            "--size 65MiB: accepted is a size",
        ),
        (
            &[address, "--size", "1-x"],
            "--size 1-x: accepted is a size",
        ),
        (
            &[address, "--size", "31", "--tagged"],
            "--size 31B: accepted is 32 bytes or more (--tagged",
        ),
        (
            &[address, "--size", "19-90", "--timed"],
            "--size 19B-90B: accepted is 20 bytes or more",
        ),
        (
            &[address, "--size", "51", "--timed", "--tagged"],
            "--size 51B: accepted is 52 bytes or more",
        ),
        (
            &[address, "--connections", "0"],
            "--connections 0: accepted is 1 to 1000000",
        ),
        (
            &[address, "--connections", "-1"],
            "--connections -1: accepted is 1 to 1000000",
        ),
        (
            &[address, "--messages", "0"],
            "--messages 0: accepted is 1 or more",
        ),
        (
            &[address, "--duration", "0s"],
            "--duration 0s: accepted is a duration",
        ),
        (
            &[address, "--duration", "25h"],
            "--duration 1d1h: accepted is a duration",
        ),
        (
            &[address, "--hold", "25h"],
            "--hold 1d1h: accepted is a duration",
        ),
        (
            &[address, "--write-size", "0"],
            "--write-size 0B: accepted is a size",
        ),
        (
            &[address, "--write-size", "17MiB"],
            "--write-size 17MiB: accepted is a size",
        ),
        (
            &[address, "--reconnect-every", "0"],
            "--reconnect-every 0: accepted is 1 or more",
        ),
        (
            &[address, "--threads", "65"],
            "--threads 65: accepted is 1 to 64, or auto",
        ),
        (
            &[address, "--seed", "x"],
            "--seed x: accepted is a whole number",
        ),
        (
            &[address, "--framing", "syslog"],
            "--framing syslog: accepted is lines, nul,",
        ),
        (
            &[address, "--report", "xml"],
            "--report xml: accepted is text or json",
        ),
        (&[address, "--tag"], "--tag: no such flag"),
    ] {
        let error = typed(words).expect_err(&format!("{words:?}"));
        assert_eq!(error.code, 2, "{error}");
        assert!(error.line.starts_with("drainline: "), "{error}");
        assert!(!error.line.contains('\n'), "{error}");
        assert!(error.line.contains(part), "no {part:?} in {error}");
    }
}

#[test]
fn clap_finds_no_fault_in_the_declarations() {
    command::<Args>(&PAGE).debug_assert();
}
