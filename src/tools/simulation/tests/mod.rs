//! What has to hold whatever is simulated, in `books`; what is to come out of a certain load, here.

mod books;
mod overload;

use std::time::Duration;

use drainline::ingest::DEFAULT_MAX_MESSAGE;
use drainline::policy::OverloadLevel;
use drainline::{Config, OnOverload, WhenFull};

use super::super::metrics::{Ledger, Point, Recovery};
use super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};
use super::{MAX_STEPS, Scenario, Simulated, run};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

fn crowd(connections: usize, pace: ClientPace, seconds: u64) -> Crowd {
    Crowd::new(connections, 128, pace, SECOND * seconds as u32)
}

fn stall(at: u64, lasts: u64) -> Stall {
    Stall::new(Duration::from_secs(at), Duration::from_secs(lasts))
}

fn workload(crowds: Vec<Crowd>, rate: Option<u64>, stalls: &[Stall]) -> Workload {
    Workload::new(crowds, SinkPace::new(rate, stalls))
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config.check().expect("sound settings");
    config
}

#[track_caller]
fn simulate(config: &Config, workload: &Workload) -> Simulated {
    let simulated = run(&Scenario {
        config,
        max_message: DEFAULT_MAX_MESSAGE,
        workload,
        settle: MINUTE,
        max_steps: MAX_STEPS,
    });
    let metrics = &simulated.metrics;
    assert_eq!(metrics.ledger, Ledger::Closes, "{metrics:?}");
    simulated
}

/// Whether there is time for every case, and not only for as many as show each thing once.
pub(crate) fn is_long() -> bool {
    std::env::var_os("DRAINLINE_LONG").is_some()
}

/// How it stood at this time.
fn at(simulated: &Simulated, time: Duration) -> Point {
    let mut points = simulated.timeline.iter();
    *points.rfind(|point| point.at <= time).expect("a point")
}

fn lost_for(simulated: &Simulated, reason: &str) -> u64 {
    let mut lost = simulated.metrics.lost.iter();
    lost.find(|(name, _)| name == reason)
        .map_or(0, |(_, count)| *count)
}

#[test]
fn a_stall_that_the_buffer_holds_costs_nothing_and_holds_up_nobody() {
    let crowds = vec![crowd(50, ClientPace::Rate(100), 30)];
    let workload = workload(crowds, Some(20_000), &[stall(5, 10)]);
    let simulated = simulate(&Config::default(), &workload);
    let metrics = &simulated.metrics;
    assert_eq!((metrics.sent, metrics.delivered), (150_000, 150_000));
    assert_eq!((simulated.metrics.lost(), simulated.unseen), (0, 0));
    assert!(
        (49_000..52_000).contains(&metrics.peak_buffered),
        "{metrics:?}"
    );
    assert_eq!(simulated.longest_wait(), Duration::ZERO);
    // 50,000 messages, of which 15,000 more go than come in each second.
    let Recovery::After(time) = metrics.recovery else {
        panic!("{metrics:?}");
    };
    assert!((3.1..3.5).contains(&time.as_secs_f64()), "{time:?}");
    assert_eq!(metrics.peak_threads, metrics.threads_before + 50);
    assert_eq!(metrics.threads_left(), 0);
}

#[test]
fn a_longer_stall_holds_up_senders_and_those_that_waited_too_long_are_aborted() {
    let crowds = vec![crowd(50, ClientPace::Rate(100), 60)];
    let workload = workload(crowds, Some(20_000), &[stall(5, 20)]);
    let small = |when_full, seconds| {
        config(|config| {
            config.buffer_messages = 10_000;
            config.when_full = when_full;
            config.send_timeout = SECOND * seconds;
        })
    };
    let held = simulate(&small(WhenFull::Abort, 30), &workload);
    assert_eq!((held.metrics.lost(), held.unseen), (0, 0));
    let longest = held.longest_wait();
    assert!(
        longest > SECOND * 15 && longest < SECOND * 20,
        "{longest:?}"
    );
    let is_paused = |point: &Point| point.level == Some(OverloadLevel::Paused);
    assert!(held.timeline.iter().any(is_paused));

    let aborted = simulate(&small(WhenFull::Abort, 5), &workload);
    assert!(
        lost_for(&aborted, "connection_closed") > 0 && aborted.unseen > 0,
        "{:?}",
        aborted.metrics
    );
    let dropped = simulate(&small(WhenFull::Drop, 5), &workload);
    assert!(lost_for(&dropped, "full") > 0, "{:?}", dropped.metrics);
    assert_eq!(
        (lost_for(&dropped, "connection_closed"), dropped.unseen),
        (0, 0)
    );
    let waited = simulate(&small(WhenFull::Block, 5), &workload);
    assert_eq!((waited.metrics.lost(), waited.unseen), (0, 0));
    assert_eq!(waited.metrics.delivered, 50 * 100 * 60);
}

#[test]
fn under_a_dead_sink_one_wave_is_aborted_and_then_nobody_is_accepted() {
    let crowds = vec![crowd(20, ClientPace::Rate(1000), 120)];
    let workload = workload(crowds, Some(50_000), &[stall(1, 600)]);
    let config = config(|config| config.send_timeout = SECOND * 10);
    let simulated = simulate(&config, &workload);
    let end = at(&simulated, workload.duration);
    assert_eq!(end.level, Some(OverloadLevel::Paused));
    let later = simulated
        .timeline
        .iter()
        .filter(|point| point.at > SECOND * 40 && point.at < workload.duration);
    assert!(later.clone().count() > 100);
    for point in later {
        assert_eq!(point.level, Some(OverloadLevel::Paused), "{point:?}");
    }
    assert_eq!(simulated.metrics.recovery, Recovery::NotAsked);
}

#[test]
fn one_greedy_client_takes_no_more_than_its_turns() {
    let crowds = vec![
        crowd(1, ClientPace::Greedy, 20),
        crowd(10, ClientPace::Rate(10), 20),
    ];
    let workload = workload(crowds, Some(10_000), &[]);
    let config = config(|config| config.buffer_messages = 10_000);
    let simulated = simulate(&config, &workload);
    assert_eq!(simulated.metrics.lost(), 0);
    // The sink's rate is what both get together.
    let delivered = simulated.metrics.delivered;
    assert!(delivered >= 199_000, "{delivered}");
    let longest = simulated.longest_wait();
    assert!(longest < SECOND, "{longest:?}");
}

#[test]
fn who_sends_byte_by_byte_is_disconnected_and_comes_back() {
    let crowds = vec![crowd(5, ClientPace::Drip, 100)];
    let workload = workload(crowds, None, &[]);
    let aborted = simulate(&Config::default(), &workload);
    assert_eq!(
        aborted.metrics.delivered, 5,
        "what they had begun when they went"
    );
    let away = aborted
        .timeline
        .iter()
        .filter(|point| point.threads < aborted.metrics.peak_threads);
    assert!(away.count() >= 3, "disconnected each 30 s");
}

#[test]
fn clients_above_the_limit_wait_in_the_queue_or_are_turned_away() {
    let mut crowds = vec![crowd(30, ClientPace::Rate(10), 20)];
    crowds[0].reconnect = Some(SECOND);
    let workload = workload(crowds, None, &[]);
    let limited = |on_overload| {
        config(|config| {
            config.max_connections = Some(20);
            config.on_overload = on_overload;
        })
    };
    let queued = simulate(&limited(OnOverload::Backlog), &workload);
    assert_eq!(queued.metrics.delivered, queued.metrics.sent);
    assert!(queued.metrics.rejected.is_empty());
    assert_eq!(
        queued.metrics.peak_threads,
        queued.metrics.threads_before + 20
    );
    let closed = simulate(&limited(OnOverload::Close), &workload);
    assert_eq!(closed.metrics.rejected[0].0, "max_connections");
    assert!(closed.unseen > 0, "they sent before they knew");
    let refused = simulate(&limited(OnOverload::Refuse), &workload);
    assert_eq!(refused.unseen, 0);
    assert!(refused.metrics.rejected.is_empty(), "nobody sees them");
}

#[test]
fn the_same_seed_is_the_same_timeline() {
    let mut crowds = vec![crowd(40, ClientPace::Rate(50), 20)];
    crowds[0].reconnect = Some(SECOND);
    let mut workload = workload(crowds, Some(1_500), &[stall(3, 4)]);
    let config = config(|config| {
        config.buffer_messages = 2_000;
        config.send_timeout = SECOND * 2;
    });
    let first = simulate(&config, &workload);
    assert_eq!(first, simulate(&config, &workload));
    workload.seed = 2;
    assert_ne!(first, simulate(&config, &workload));
}

#[test]
fn a_rate_limit_holds_back_and_loses_nothing() {
    let crowds = vec![crowd(4, ClientPace::Rate(500), 10)];
    let workload = workload(crowds, None, &[]);
    let config = config(|config| config.rate_limit = Some(100));
    let simulated = simulate(&config, &workload);
    assert_eq!(simulated.metrics.lost(), 0);
    let delivered = at(&simulated, workload.duration).delivered;
    assert!((3_900..6_300).contains(&delivered), "{delivered}");
}

#[test]
fn what_a_rate_limit_holds_of_a_connection_that_was_left_is_in_sockets() {
    let mut crowds = vec![crowd(1, ClientPace::Rate(101), 4)];
    // It came back shortly before the end: the bucket of the connection that it left was empty
    // then.
    crowds[0].until = Duration::from_millis(3_240);
    crowds[0].reconnect = Some(Duration::from_millis(794));
    let mut workload = workload(crowds, None, &[]);
    workload.seed = 5;
    let config = config(|config| {
        config.rate_limit = Some(82);
        config.frame_timeout = None;
    });
    let watched = simulate(&config, &workload).watched;
    assert!(watched.at_end.closes(), "{:?}", watched.at_end);
    assert!(watched.most.in_sockets > 0, "{:?}", watched.most);
}

#[test]
fn an_hour_of_thousands_is_little_work() {
    let crowds = vec![crowd(5_000, ClientPace::Rate(10), 3_600)];
    let workload = workload(crowds, Some(80_000), &[stall(600, 1), stall(1_800, 1)]);
    let config = config(|config| config.max_connections = Some(6_000));
    let simulated = simulate(&config, &workload);
    assert_eq!(simulated.metrics.delivered, 180_000_000);
    assert_eq!(simulated.metrics.lost(), 0);
    assert!(simulated.steps < 200_000, "{}", simulated.steps);
    assert!(simulated.timeline.len() < 1_100);
}

#[test]
fn overload_is_bounded_work() {
    let crowds = vec![crowd(5_000, ClientPace::Rate(10), 120)];
    let workload = workload(crowds, Some(40_000), &[]);
    let config = config(|config| {
        config.max_connections = Some(6_000);
        config.when_full = WhenFull::Block;
    });
    let simulated = simulate(&config, &workload);
    assert!(simulated.metrics.stopped_at.is_none());
    assert!(simulated.steps < 2_500_000, "{}", simulated.steps);
    let delivered = simulated.metrics.delivered;
    assert!((4_700_000..7_300_000).contains(&delivered), "{delivered}");
}

#[test]
fn a_client_whose_socket_is_full_waits_for_a_good_part_of_it() {
    let workload = workload(vec![crowd(4, ClientPace::Greedy, 6)], Some(10_000), &[]);
    let config = config(|config| config.buffer_messages = 5_000);
    let simulated = simulate(&config, &workload);
    // A server of these settings was sent 183,049 messages, and its clients waited 4.7 s each time.
    let metrics = &simulated.metrics;
    assert!((165_000..200_000).contains(&metrics.sent), "{metrics:?}");
    let seconds = metrics.held_up_p99.as_secs_f64();
    assert!((3.8..5.6).contains(&seconds), "{seconds}");
}
