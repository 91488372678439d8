//! When a handler looks for bytes before its read sleeps: stepped through, without a clock or a
//! socket. Whatever a peer does, looks in vain are bounded by what looks found.

use std::collections::HashMap;
use std::time::Duration;

use drainline::policy::{BusyPoll, Crowding, max_lookers};

const TICK: Duration = Duration::from_millis(100);

/// What became of reads.
#[derive(Debug, Default)]
struct Reads {
    all: u64,
    found: u64,
    in_vain: u64,
}

impl Reads {
    fn looks(&self) -> u64 {
        self.found + self.in_vain
    }
}

/// Lets a peer make requests; `true`: soon enough for a look to find it.
fn read(policy: &mut BusyPoll, is_soon: impl IntoIterator<Item = bool>) -> Reads {
    let mut reads = Reads::default();
    for is_soon in is_soon {
        reads.all += 1;
        match (policy.may_look(), is_soon) {
            (false, _) => {}
            (true, true) => {
                reads.found += 1;
                policy.found();
            }
            (true, false) => {
                reads.in_vain += 1;
                policy.found_nothing();
            }
        }
    }
    reads
}

fn repeated(is_soon: bool, reads: usize) -> impl Iterator<Item = bool> {
    std::iter::repeat_n(is_soon, reads)
}

#[test]
fn a_peer_that_answers_at_once_is_looked_for_before_every_read_but_the_first() {
    let reads = read(&mut BusyPoll::default(), repeated(true, 1000));
    assert_eq!((reads.found, reads.in_vain), (1000 - 15, 0));
}

#[test]
fn a_short_connection_is_not_looked_for() {
    let reads = read(&mut BusyPoll::default(), repeated(false, 15));
    assert_eq!(reads.looks(), 0);
}

#[test]
fn a_peer_whose_gaps_are_longer_than_a_look_costs_one_look_in_1_024_reads() {
    let mut policy = BusyPoll::default();
    let begin = read(&mut policy, repeated(false, 2048));
    assert!(begin.in_vain <= 8, "{begin:?}");
    // A thousand requests a second, for an hour.
    let hour = read(&mut policy, repeated(false, 3600 * 1000));
    assert!(hour.in_vain <= hour.all / 1024 + 1, "{hour:?}");
}

#[test]
fn a_peer_that_becomes_quick_is_looked_for_within_1_024_reads() {
    let mut policy = BusyPoll::default();
    read(&mut policy, repeated(false, 1_000_000));
    read(&mut policy, repeated(true, 1024));
    let reads = read(&mut policy, repeated(true, 1000));
    assert_eq!(reads.found, 1000);
}

#[test]
fn a_quick_peer_that_is_late_now_and_then_is_looked_for_before_every_read() {
    let mut policy = BusyPoll::default();
    read(&mut policy, repeated(true, 100));
    for every in [4, 10, 100] {
        let reads = read(&mut policy, (1..=10_000).map(|at| at % every != 0));
        assert_eq!(reads.looks(), 10_000, "{every}: {reads:?}");
    }
}

#[test]
fn a_peer_that_is_late_every_other_time_is_not() {
    let mut policy = BusyPoll::default();
    for late in [1, 2, 3] {
        read(&mut policy, repeated(true, 100));
        let reads = read(&mut policy, (0..100_000).map(|at| at % (late + 1) == 0));
        assert!(reads.looks() < 1000, "{late}: {reads:?}");
    }
}

#[test]
fn in_every_pattern_of_long_and_short_gaps_looks_in_vain_are_paid_for() {
    for soon in 0..40 {
        for late in 0..40 {
            let pattern = repeated(true, soon).chain(repeated(false, late));
            let pattern: Vec<bool> = pattern.collect();
            let reads = read(
                &mut BusyPoll::default(),
                pattern.iter().copied().cycle().take(20_000),
            );
            assert!(
                reads.in_vain <= reads.found + reads.all / 1024 + 12,
                "{soon} soon, {late} late: {reads:?}"
            );
        }
    }
}

/// The worst that a peer can do that knows what the handler knows, and is late or not for each look
/// as it likes: found by trying out every state that can be reached, for so many looks.
#[test]
fn a_peer_that_knows_the_policy_makes_no_more_looks_in_vain_than_it_lets_find_something() {
    // By the state at a look: the most looks in vain, less those that found something, less one for
    // each 1,024 reads.
    let mut worst = HashMap::from([(BusyPoll::default(), 0.0_f64)]);
    for _ in 0..2000 {
        let mut next = HashMap::new();
        for (state, excess) in worst {
            let mut at_look = state;
            let mut reads = 1.0;
            while !at_look.may_look() {
                reads += 1.0;
            }
            for (is_soon, more) in [(true, -1.0), (false, 1.0)] {
                let mut after = at_look;
                match is_soon {
                    true => after.found(),
                    false => after.found_nothing(),
                }
                let excess = excess + more - reads / 1024.0;
                let known = next.entry(after).or_insert(f64::MIN);
                *known = known.max(excess);
            }
        }
        worst = next;
        assert!(worst.values().all(|&excess| excess <= 12.0), "{worst:?}");
    }
}

#[test]
fn connections_are_a_crowd_when_more_are_active_than_may_look() {
    for max_active in [1, 2, 16] {
        let mut crowding = Crowding::new(max_active);
        for active in [0, 1, 2, 3, 8, 17, 1000] {
            (0..active).for_each(|_| crowding.step(10, TICK));
            // Nobody else counts, whoever is connected.
            (0..9000).for_each(|_| crowding.step(0, TICK));
            (0..100).for_each(|_| crowding.step(4, TICK));
            assert_eq!(crowding.end_tick(), active > max_active, "{active}");
        }
    }
}

#[test]
fn half_of_the_processors_look_and_a_single_one_does_not() {
    let processors = [0, 1, 2, 3, 4, 64];
    assert_eq!(processors.map(max_lookers), [0, 0, 1, 1, 2, 32]);
}
