//! Each kind of overload ends as the design says: hours of it, in the decisions of the server
//! itself.

use std::time::Duration;

use drainline::policy::{Change, OverloadLevel};
use drainline::{Config, OnOverload, PauseAfter, WhenFull};

use super::super::super::workload::{ClientPace, Crowd, Workload};
use super::super::Simulated;
use super::{at, config, crowd, lost_for, simulate, stall, workload};

const HOUR: u64 = 3600;
const OWN_THREADS: u64 = 7;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn settings(when_full: WhenFull, buffer_messages: usize) -> Config {
    config(|config| {
        config.when_full = when_full;
        config.send_timeout = secs(30);
        config.pause_after = PauseAfter::After(secs(5));
        config.buffer_messages = buffer_messages;
        config.max_connections = Some(3_000);
        // A client that is not accepted loses what it sends meanwhile, and has no backlog later.
        config.on_overload = OnOverload::Close;
    })
}

/// From the start of the load to its end.
fn ten_a_second(clients: usize, from: u64, until: u64) -> Crowd {
    Crowd {
        from: secs(from),
        ..crowd(clients, ClientPace::Rate(10), until)
    }
}

/// Clients that send 10 messages a second each before a dead sink, whose buffer holds five seconds
/// of that, and newcomers after a minute. The sink heals, and is `times` as fast as all of them.
fn dead_sink(when_full: WhenFull, clients: usize, heals_at: u64, times: u64) -> Simulated {
    let newcomers = if clients > 50 { 100 } else { 10 };
    let end = heals_at + 120;
    let crowds = vec![
        ten_a_second(clients, 0, end),
        ten_a_second(newcomers, 60, end),
    ];
    let rate = times * 10 * (clients + newcomers) as u64;
    let workload = workload(crowds, Some(rate), &[stall(0, heals_at)]);
    simulate(&settings(when_full, 50 * clients), &workload)
}

fn levels(simulated: &Simulated) -> Vec<OverloadLevel> {
    simulated.changes.iter().map(|(_, to)| to.to).collect()
}

fn highest(simulated: &Simulated) -> OverloadLevel {
    let levels = levels(simulated).into_iter();
    levels.max().unwrap_or(OverloadLevel::Normal)
}

fn is_back_to_normal(simulated: &Simulated) -> bool {
    levels(simulated).last() == Some(&OverloadLevel::Normal)
}

/// The one pause: when it began, and how long after `healed` it ended.
#[track_caller]
fn only_pause(simulated: &Simulated, healed: u64) -> (Duration, Duration) {
    let [began, ended] = simulated.pauses[..] else {
        panic!("more than one pause: {:?}", simulated.pauses);
    };
    (began, ended - secs(healed))
}

/// Connections that were open at any point of these seconds: the most, and the fewest.
fn open(simulated: &Simulated, from: u64, until: u64) -> (u64, u64) {
    let points = simulated.timeline.iter();
    let within = points.filter(|point| (secs(from)..secs(until)).contains(&point.at));
    let open = within.map(|point| point.threads - OWN_THREADS);
    (open.clone().max().unwrap_or(0), open.min().unwrap_or(0))
}

fn a_dead_sink_under_abort(clients: usize, heals_at: u64) {
    let simulated = dead_sink(WhenFull::Abort, clients, heals_at, 2);
    // Full after 5 s, paused 5 s later, and the wave 30 s after the waits began.
    let (paused, opened_after) = only_pause(&simulated, heals_at);
    assert!(
        (secs(10)..secs(11)).contains(&paused),
        "paused at {paused:?}"
    );
    assert_eq!(open(&simulated, 20, 34), (clients as u64, clients as u64));
    // One wave takes everybody, and nobody is let in to be aborted.
    assert_eq!(open(&simulated, 46, heals_at), (0, 0));
    let before = lost_for(&simulated, "connection_closed");
    assert!(before >= clients as u64);
    let lost_by = |time| at(&simulated, secs(time)).lost;
    assert_eq!((lost_by(34), lost_by(46)), (0, before));

    assert!(opened_after <= secs(2), "open after {opened_after:?}");
    assert_eq!(lost_by(heals_at + 120), before, "healing cost somebody");
    assert!(is_back_to_normal(&simulated));
    let (_, in_the_end) = open(&simulated, heals_at + 60, heals_at + 119);
    let newcomers = if clients > 50 { 100 } else { 10 };
    assert_eq!(
        in_the_end,
        clients as u64 + newcomers,
        "everybody is let in again"
    );
}

#[test]
fn a_dead_sink_sheds_one_wave_of_10_and_then_stays_paused_until_it_heals() {
    a_dead_sink_under_abort(10, 2 * HOUR);
}

#[test]
fn a_dead_sink_sheds_one_wave_of_2_000_and_then_stays_paused_until_it_heals() {
    a_dead_sink_under_abort(2_000, 360);
}

#[test]
fn a_dead_sink_under_drop_stays_paused_and_keeps_its_connections() {
    let simulated = dead_sink(WhenFull::Drop, 50, HOUR, 2);
    let (_, opened_after) = only_pause(&simulated, HOUR);
    assert!(opened_after <= secs(2), "open after {opened_after:?}");
    assert_eq!(open(&simulated, 20, HOUR), (50, 50));
    assert_eq!(lost_for(&simulated, "connection_closed"), 0);
    let at_end = at(&simulated, secs(HOUR));
    assert_eq!(at_end.level, Some(OverloadLevel::Shedding));
    // Once nobody waits, nobody waits again: each second drops what each second brings.
    let lost_within = |from, until| {
        let (first, last) = (at(&simulated, secs(from)), at(&simulated, secs(until)));
        let seconds = (last.at - first.at).as_secs_f64();
        (last.lost - first.lost) as f64 / seconds
    };
    let a_second = lost_within(1_000, 3_000);
    assert!((495.0..505.0).contains(&a_second), "{a_second}");
    assert_eq!(lost_within(HOUR + 30, HOUR + 119), 0.0);
    assert!(is_back_to_normal(&simulated));
}

#[test]
fn a_dead_sink_stays_paused_when_nobody_sends_any_more() {
    for when_full in [WhenFull::Abort, WhenFull::Drop] {
        let workload = Workload {
            duration: secs(HOUR + 60),
            ..workload(vec![ten_a_second(10, 0, 20)], Some(100), &[stall(0, HOUR)])
        };
        let simulated = simulate(&settings(when_full, 500), &workload);
        // Nothing was lost and nobody waited for an hour: the first progress is enough.
        let (_, opened_after) = only_pause(&simulated, HOUR);
        assert!(
            opened_after <= Duration::from_millis(200),
            "{when_full:?}: {opened_after:?}"
        );
    }
}

#[test]
fn an_hour_of_wait_loses_nothing_and_opens_a_second_after_healing() {
    let simulated = dead_sink(WhenFull::Block, 50, HOUR, 100);
    assert_eq!(open(&simulated, 20, HOUR), (50, 50));
    // So fast that all who waited are served within a tick.
    let (_, opened_after) = only_pause(&simulated, HOUR);
    let about_a_second = Duration::from_millis(900)..=Duration::from_millis(1_200);
    assert!(about_a_second.contains(&opened_after), "{opened_after:?}");
    assert_eq!(simulated.metrics.lost(), 0);
    assert_eq!(highest(&simulated), OverloadLevel::Paused);
    assert!(is_back_to_normal(&simulated));
    let end = simulated.watched.at_end;
    assert_eq!((end.in_server, end.in_sockets, end.at_senders), (0, 0, 0));
}

#[test]
fn a_slow_sink_with_greedy_senders_stays_open_for_others() {
    let greedy = crowd(10, ClientPace::Greedy, 300 + HOUR);
    let others = Crowd {
        from: secs(300),
        ..crowd(20, ClientPace::Rate(1), 300 + HOUR)
    };
    let workload = workload(vec![greedy, others], Some(500), &[]);
    let simulated = simulate(&settings(WhenFull::Abort, 1_000), &workload);
    assert_eq!(simulated.pauses, []);
    assert_eq!(highest(&simulated), OverloadLevel::Backpressure);
    assert_eq!(lost_for(&simulated, "connection_closed"), 0);
    assert!(simulated.longest_wait() < secs(5));
    // Of those that have a rate, none has to wait to be read either.
    assert!(
        simulated.watched.most.late < secs(5),
        "{:?}",
        simulated.watched
    );
}

#[test]
fn healthy_bulk_never_leaves_normal() {
    let later = Crowd {
        from: secs(10),
        ..crowd(56, ClientPace::Greedy, 30)
    };
    let crowds = vec![crowd(8, ClientPace::Greedy, 30), later];
    let workload = workload(crowds, Some(5_000_000), &[]);
    let simulated = simulate(&settings(WhenFull::Abort, 100_000), &workload);
    assert_eq!(simulated.changes, []);
    assert_eq!(simulated.metrics.lost(), 0);
    let delivered = simulated.metrics.delivered;
    assert!(
        delivered > 5_000_000 * 29,
        "the sink was kept busy: {delivered}"
    );
}

#[test]
fn an_outage_of_half_of_send_timeout_loses_nothing() {
    for when_full in [WhenFull::Abort, WhenFull::Drop] {
        for pace in [ClientPace::Rate(100), ClientPace::Greedy] {
            // A read of 72 KiB brings about a hundred of these.
            let crowds = vec![Crowd {
                size: 700,
                ..crowd(50, pace, 135)
            }];
            let workload = workload(crowds, Some(10_000), &[stall(60, 15)]);
            let simulated = simulate(&settings(when_full, 10_000), &workload);
            assert_eq!(lost_for(&simulated, "connection_closed"), 0);
            assert_eq!(lost_for(&simulated, "full"), 0, "{when_full:?} {pace:?}");
            let (began, _) = only_pause(&simulated, 75);
            assert!(began > secs(60), "{when_full:?} {pace:?}: {began:?}");
        }
    }
}

#[test]
fn with_pause_off_new_clients_are_always_accepted_and_wave_follows_wave() {
    let mut config = settings(WhenFull::Abort, 500);
    config.pause_after = PauseAfter::Off;
    let workload = workload(vec![ten_a_second(10, 0, 600)], None, &[stall(0, 600)]);
    let simulated = simulate(&config, &workload);
    assert_eq!(simulated.pauses, []);
    let levels = levels(&simulated);
    let is = |wanted: OverloadLevel| levels.iter().filter(move |level| **level == wanted);
    assert_eq!(is(OverloadLevel::Paused).count(), 0);
    assert!(is(OverloadLevel::Shedding).count() > 10, "{levels:?}");
    assert!(lost_for(&simulated, "connection_closed") > 100);
}

#[test]
fn each_change_says_from_where_to_where_how_long_it_lasted_and_what_it_cost() {
    use OverloadLevel::{Backpressure, Normal, Paused, Shedding};
    let simulated = dead_sink(WhenFull::Abort, 10, 600, 2);
    let changes: Vec<Change> = simulated
        .changes
        .iter()
        .map(|(_, change)| *change)
        .collect();
    assert_eq!(
        levels(&simulated),
        [Backpressure, Paused, Shedding, Paused, Normal]
    );
    assert_eq!(changes[1].longest_wait, secs(5));
    let cost: u64 = changes.iter().map(|change| change.lost).sum();
    assert_eq!(cost, lost_for(&simulated, "connection_closed"));
    let mut since = Duration::ZERO;
    for (at, change) in &simulated.changes {
        assert_eq!(change.lasted, *at - since, "{change:?}");
        since = *at;
    }
}
