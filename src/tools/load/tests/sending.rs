//! What the kernel takes of a message, and when each is due.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use drainline::ingest::Framing;

use super::super::lane::{Incoming, Lane, READS, Rendering, Step};
use super::super::message::{Batch, Source};
use super::super::pacer::Pacer;
use super::super::plan::Plan;
use super::{messages, plan};

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
        batch.drop_unsent();
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
    let mut lane = Lane::new(u64::MAX);
    lane.stream = Some(stream.into());
    lane.open(u64::MAX, Instant::now());
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
    for flags in [&["--size=1003"][..], &["--size=1003", "--numbered"]] {
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
fn so_much_is_read_at_once_and_no_more() {
    let (source, plan) = (Source::new(&plan(&[])), plan(&[]));
    let (mut lane, mut other) = blocked(&source, &plan);
    other.write_all(&[b'.'; READS + 3]).expect("written");
    let mut byte = [0];
    // Not one read before all is there.
    while lane
        .stream
        .as_ref()
        .expect("open")
        .peek(&mut [const { MaybeUninit::uninit() }; READS + 4])
        .ok()
        != Some(READS + 3)
    {
        std::thread::yield_now();
    }
    assert!(matches!(lane.read_away(&mut byte), Incoming::More));
    assert!(matches!(lane.read_away(&mut byte), Incoming::Nothing));
    drop(other);
    while matches!(lane.read_away(&mut byte), Incoming::Nothing) {
        std::thread::yield_now();
    }
    assert!(!matches!(lane.read_away(&mut byte), Incoming::More));
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
