//! Which reads are delayed and by how much: stepped through, without a clock or a socket.

use std::time::Duration;

use drainline::policy::{Coalesce, Counts, Pace};

const TICK: Duration = Duration::from_millis(100);
const BUSY: f64 = 20_000.0;
const MAX_DELAY: Duration = Duration::from_millis(50);

/// Connections that are all alike.
struct Crowd {
    coalesce: Coalesce,
    pace: Pace,
    counts: Counts,
    connections: u64,
    delay: Option<Duration>,
}

/// What each of them sends.
#[derive(Clone, Copy)]
struct ConnectionCounts {
    writes_per_second: f64,
    messages_per_write: f64,
    bytes_per_message: f64,
}

fn lines(writes_per_second: f64) -> ConnectionCounts {
    ConnectionCounts {
        writes_per_second,
        messages_per_write: 1.0,
        bytes_per_message: 128.0,
    }
}

impl Crowd {
    fn of(connections: u64) -> Crowd {
        Crowd {
            coalesce: Coalesce::new(MAX_DELAY, BUSY),
            pace: Pace::default(),
            counts: Counts::default(),
            connections,
            delay: None,
        }
    }

    /// So many ticks of this traffic, read as the last delay has it.
    fn runs(&mut self, ticks: u32, traffic: ConnectionCounts) -> Option<Duration> {
        for _ in 0..ticks {
            let writes = traffic.writes_per_second * TICK.as_secs_f64();
            let most_reads = self
                .delay
                .map_or(f64::MAX, |delay| TICK.as_secs_f64() / delay.as_secs_f64());
            let messages = writes * traffic.messages_per_write;
            self.counts.reads += writes.min(most_reads).round() as u64;
            self.counts.messages += messages.round() as u64;
            self.counts.bytes += (messages * traffic.bytes_per_message) as u64;
            for _ in 1..self.connections {
                self.coalesce
                    .step(&mut self.pace.clone(), self.counts, TICK);
            }
            self.delay = self.coalesce.step(&mut self.pace, self.counts, TICK);
            self.coalesce.end_tick();
        }
        self.delay
    }
}

fn millis(millis: f64) -> Option<Duration> {
    Some(Duration::from_nanos((millis * 1e6) as u64))
}

#[test]
fn each_is_delayed_by_about_four_of_its_own_gaps_on_a_common_grid() {
    for (connections, per_second, delay) in [
        (500, 100.0, millis(50.0)),
        (50, 1_000.0, millis(6.25)),
        (10, 10_000.0, millis(0.78125)),
        (2_000, 40.0, millis(50.0)),
    ] {
        let mut crowd = Crowd::of(connections);
        for ticks in [5, 1, 1, 50, 1, 1] {
            assert_eq!(
                crowd.runs(ticks, lines(per_second)),
                delay,
                "{connections} x {per_second}/s"
            );
        }
    }
}

#[test]
fn nobody_is_delayed_where_it_would_bring_nothing() {
    // A delay holds half a message of each.
    assert_eq!(Crowd::of(2_000).runs(50, lines(10.0)), None);
    assert_eq!(Crowd::of(1_000).runs(50, lines(30.0)), None);
}

#[test]
fn nobody_is_delayed_while_the_process_has_little_to_do() {
    assert_eq!(Crowd::of(100).runs(50, lines(100.0)), None);
    assert_eq!(Crowd::of(1).runs(50, lines(15_000.0)), None);
    // Many messages, and few reads.
    let blocks = ConnectionCounts {
        writes_per_second: 100.0,
        messages_per_write: 50.0,
        bytes_per_message: 64.0,
    };
    assert_eq!(Crowd::of(100).runs(50, blocks), None);
}

#[test]
fn a_connection_in_bulk_is_not_delayed_among_many_that_are() {
    let mut crowd = Crowd::of(500);
    crowd.runs(10, lines(100.0));
    assert!(crowd.coalesce.is_busy());
    let (mut bulk, mut counts) = (Pace::default(), Counts::default());
    for _ in 0..20 {
        counts.reads += 100;
        counts.messages += 50_000;
        counts.bytes += 50_000 * 128;
        assert_eq!(crowd.coalesce.step(&mut bulk, counts, TICK), None);
    }
}

#[test]
fn delays_last_until_half_the_rate_that_began_them() {
    let mut crowd = Crowd::of(500);
    assert!(crowd.runs(10, lines(60.0)).is_some());
    // 15,000/s: it would not have begun here.
    assert!(crowd.runs(100, lines(30.0)).is_none() && crowd.coalesce.is_busy());
    let mut crowd = Crowd::of(250);
    assert!(crowd.runs(10, lines(100.0)).is_some());
    assert!(crowd.runs(100, lines(60.0)).is_some());
    assert!(crowd.runs(100, lines(30.0)).is_none());
    assert!(!crowd.coalesce.is_busy());
    assert_eq!(crowd.runs(100, lines(60.0)), None);
}

#[test]
fn several_messages_a_write_count_as_the_one_read_that_they_are() {
    let writes = ConnectionCounts {
        messages_per_write: 10.0,
        ..lines(100.0)
    };
    assert_eq!(Crowd::of(500).runs(50, writes), millis(50.0));
    let seldom = ConnectionCounts {
        messages_per_write: 10.0,
        ..lines(20.0)
    };
    assert_eq!(Crowd::of(2_000).runs(50, seldom), None);
}

#[test]
fn a_connection_that_goes_quiet_is_let_go_and_one_that_never_sends_is_never_held() {
    let mut crowd = Crowd::of(500);
    assert!(crowd.runs(10, lines(100.0)).is_some());
    let mut quiet = crowd.pace;
    let counts = crowd.counts;
    let released = (0..20).position(|_| crowd.coalesce.step(&mut quiet, counts, TICK).is_none());
    assert!(released.unwrap() < 10);
    let mut silent = Pace::default();
    for _ in 0..10 {
        assert_eq!(
            crowd.coalesce.step(&mut silent, Counts::default(), TICK),
            None
        );
    }
}

#[test]
fn odd_clocks_and_counters_decide_nothing() {
    let mut coalesce = Coalesce::new(MAX_DELAY, BUSY);
    let mut pace = Pace::default();
    let counts = Counts {
        reads: u64::MAX,
        messages: u64::MAX,
        bytes: u64::MAX,
    };
    assert_eq!(coalesce.step(&mut pace, counts, Duration::ZERO), None);
    assert_eq!(
        coalesce.step(&mut pace, Counts::default(), Duration::ZERO),
        None
    );
    assert_eq!(
        coalesce.step(&mut pace, Counts::default(), Duration::MAX),
        None
    );
    coalesce.end_tick();
    assert!(!coalesce.is_busy());
}
