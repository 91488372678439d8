//! The overload in a simulated server: each kind of overload ends as the design says.

use crate::sim::{Load, Settings, Sim, TICK, WhenFull};
use drainline::policy::{Change, Observation, Overload, OverloadLevel, OverloadSettings};
use proptest::prelude::*;
use std::time::Duration;

const HOUR: Duration = secs(3600);
const GREEDY: Duration = Duration::ZERO;

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn settings(when_full: WhenFull, buffer_messages: u64) -> Settings {
    Settings {
        when_full,
        send_timeout: secs(30),
        pause_after: Some(secs(5)),
        buffer_messages,
    }
}

/// Clients that send 10 messages a second each, before a dead sink; the buffer holds five seconds
/// of that.
fn before_a_dead_sink(when_full: WhenFull, clients: usize) -> Sim {
    let mut sim = Sim::new(settings(when_full, 50 * clients as u64));
    sim.add(clients, every_second(10));
    sim
}

fn every_second(messages: u64) -> Load {
    Load {
        messages,
        every: secs(1),
    }
}

fn greedy(messages: u64) -> Load {
    Load {
        messages,
        every: GREEDY,
    }
}

/// The sink lives again, so many times as fast as all clients together; how long the gate stayed
/// shut then.
fn heal(sim: &mut Sim, times: u64) -> Duration {
    let healed = sim.now;
    sim.sink_rate = times * 10 * sim.clients.len() as u64;
    sim.run(secs(60));
    let (opened, what) = *sim.gate.last().unwrap();
    assert_eq!(what, "open");
    assert_eq!(
        sim.overload.level(),
        OverloadLevel::Normal,
        "back to normal"
    );
    assert_eq!(sim.inside(), sim.clients.len(), "everybody is let in again");
    opened - healed
}

fn a_dead_sink_under_abort(clients: usize) {
    let mut sim = before_a_dead_sink(WhenFull::Abort, clients);
    sim.run(secs(60));
    // Full after 5 s, shut 5 s later, and the wave 30 s after the waits began.
    let (shut, _) = sim.gate[0];
    assert!((secs(10)..secs(11)).contains(&shut), "shut at {shut:?}");
    assert_eq!(sim.aborts.len(), clients, "one wave takes everybody");
    let (first, last) = (sim.aborts[0], sim.aborts[clients - 1]);
    assert!(first >= secs(34) && last <= secs(37), "{first:?}..{last:?}");

    sim.add(100, every_second(10));
    sim.run(if clients > 100 { secs(600) } else { 2 * HOUR });
    assert_eq!(sim.aborts.len(), clients, "a second wave");
    assert_eq!(sim.inside(), 0, "somebody was let in to be aborted");
    assert_eq!(sim.gate, [(shut, "shut")]);
    assert_eq!(sim.overload.level(), OverloadLevel::Paused);

    let opened_after = heal(&mut sim, 2);
    assert!(opened_after <= secs(2), "open after {opened_after:?}");
    assert_eq!(sim.aborts.len(), clients, "healing cost somebody");
}

#[test]
fn a_dead_sink_sheds_one_wave_of_10_and_then_stays_shut_until_it_heals() {
    a_dead_sink_under_abort(10);
}

#[test]
fn a_dead_sink_sheds_one_wave_of_2_000_and_then_stays_shut_until_it_heals() {
    a_dead_sink_under_abort(2_000);
}

#[test]
fn a_dead_sink_under_drop_stays_shut_and_keeps_its_connections() {
    let mut sim = before_a_dead_sink(WhenFull::Drop, 50);
    sim.run(secs(60));
    sim.add(10, every_second(10));
    sim.run(HOUR);
    assert_eq!(sim.gate.len(), 1, "{:?}", sim.gate);
    assert_eq!(sim.inside(), 50);
    assert_eq!(sim.aborts, []);
    assert_eq!(sim.overload.level(), OverloadLevel::Shedding);
    // Once nobody waits, nobody waits again: each second drops what each second brings.
    let before = sim.dropped;
    sim.run(secs(100));
    assert_eq!(sim.dropped - before, 100 * 50 * 10);

    let opened_after = heal(&mut sim, 2);
    assert!(opened_after <= secs(2), "open after {opened_after:?}");
    let before = sim.dropped;
    sim.run(secs(60));
    assert_eq!(sim.dropped, before);
}

#[test]
fn a_dead_sink_stays_shut_when_nobody_sends_any_more() {
    for when_full in [WhenFull::Abort, WhenFull::Drop] {
        let mut sim = before_a_dead_sink(when_full, 10);
        sim.run(secs(20));
        sim.hush();
        sim.run(HOUR);
        assert_eq!(sim.gate.len(), 1, "{when_full:?}: {:?}", sim.gate);
        // Nothing was lost and nobody waited for an hour: the first progress is enough.
        sim.sink_rate = 100;
        sim.run(TICK);
        assert!(!sim.overload.is_paused(), "{when_full:?}");
    }
}

#[test]
fn an_hour_of_wait_loses_nothing_and_opens_a_second_after_healing() {
    let mut sim = before_a_dead_sink(WhenFull::Block, 50);
    sim.run(secs(60));
    sim.add(10, every_second(10));
    sim.run(HOUR);
    assert_eq!(sim.gate.len(), 1, "{:?}", sim.gate);
    assert_eq!(sim.inside(), 50);

    // So fast that all who waited are served within a tick.
    let opened_after = heal(&mut sim, 20);
    let about_a_second = Duration::from_millis(900)..=Duration::from_millis(1_200);
    assert!(about_a_second.contains(&opened_after), "{opened_after:?}");
    assert_eq!(sim.lost(), 0);
    assert_eq!(sim.highest, OverloadLevel::Paused);
    sim.hush();
    sim.run(secs(60));
    assert_eq!(sim.delivered, sim.received, "everything arrives in the end");
}

#[test]
fn a_slow_sink_with_greedy_senders_stays_open_for_others() {
    let mut sim = Sim::new(settings(WhenFull::Abort, 1_000));
    sim.sink_rate = 500;
    sim.add(10, greedy(125));
    sim.run(secs(300));
    sim.add(20, every_second(1));
    sim.run(HOUR);
    assert_eq!(sim.gate, [], "paused");
    assert_eq!(sim.highest, OverloadLevel::Backpressure);
    assert_eq!(sim.lost(), 0);
    for client in &sim.clients[10..] {
        assert!(client.sent > 500, "{client:?}");
        assert!(client.longest_wait < secs(5), "{client:?}");
    }
}

#[test]
fn healthy_bulk_never_leaves_normal() {
    let mut sim = Sim::new(settings(WhenFull::Abort, 100_000));
    sim.sink_rate = 10_000_000;
    sim.add(8, greedy(12_500));
    sim.run(secs(60));
    sim.add(56, greedy(1_000));
    sim.run(secs(120));
    assert_eq!(sim.changes, []);
    assert_eq!(sim.lost(), 0);
    assert!(sim.delivered > 1_700_000_000, "the sink was kept busy");
}

#[test]
fn an_outage_of_half_of_send_timeout_loses_nothing() {
    for when_full in [WhenFull::Abort, WhenFull::Drop] {
        for load in [every_second(100), greedy(100)] {
            let mut sim = Sim::new(settings(when_full, 10_000));
            sim.sink_rate = 10_000;
            sim.add(50, load);
            sim.run(secs(60));
            assert_eq!(sim.gate, []);
            sim.sink_rate = 0;
            sim.run(secs(15));
            sim.sink_rate = 10_000;
            sim.run(secs(60));
            assert_eq!(sim.lost(), 0, "{when_full:?} {load:?}");
            assert_eq!(sim.gate.len(), 2, "shut and open: {:?}", sim.gate);
        }
    }
}

#[test]
fn with_pause_off_the_gate_never_shuts_and_wave_follows_wave() {
    let mut sim = Sim::new(Settings {
        pause_after: None,
        ..settings(WhenFull::Abort, 500)
    });
    sim.add(10, every_second(10));
    sim.run(secs(600));
    assert_eq!(sim.gate, []);
    assert!(sim.aborts.len() > 100, "{}", sim.aborts.len());
    assert!(
        sim.changes
            .iter()
            .all(|change| change.to != OverloadLevel::Paused)
    );
    assert_eq!(sim.highest, OverloadLevel::Shedding);
}

#[test]
fn each_change_says_from_where_to_where_how_long_it_lasted_and_what_it_cost() {
    let mut sim = before_a_dead_sink(WhenFull::Abort, 10);
    sim.run(secs(600));
    let lost = sim.lost();
    heal(&mut sim, 2);
    let way: Vec<_> = sim.changes.iter().map(|change| change.to).collect();
    let (normal, held, paused, shed) = (
        OverloadLevel::Normal,
        OverloadLevel::Backpressure,
        OverloadLevel::Paused,
        OverloadLevel::Shedding,
    );
    assert_eq!(way, [held, paused, shed, paused, normal]);
    assert_eq!(sim.changes[1].longest_wait, secs(5));
    assert_eq!(
        sim.changes.iter().map(|change| change.lost).sum::<u64>(),
        lost
    );
    let overload_seconds = sim.overload.overload_seconds();
    let lasted = |level| {
        let left = sim.changes.iter().filter(|change| change.from == level);
        left.map(|change| change.lasted).sum::<Duration>()
    };
    assert_eq!(overload_seconds[held as usize], lasted(held));
    assert_eq!(overload_seconds[paused as usize], lasted(paused));
    assert_eq!(overload_seconds[shed as usize], lasted(shed));
}

/// One step of a overload: what was seen, and how long after the step before.
#[derive(Clone, Copy, Debug)]
struct Step {
    wait_ms: u64,
    lost: u64,
    finished: u64,
    empty: bool,
    elapsed_ms: u64,
}

fn any_step() -> impl Strategy<Value = Step> {
    let wait = prop_oneof![
        4 => Just(0u64),
        4 => prop_oneof![Just(100), Just(101), Just(500), Just(501), Just(999), Just(1_000)],
        1 => 0..2_000u64,
    ];
    let rarely = || prop_oneof![7 => Just(0u64), 1 => 1..5u64];
    let elapsed = prop_oneof![6 => Just(100u64), 1 => 1..300u64, 1 => Just(1_000u64)];
    (wait, rarely(), rarely(), prop::bool::weighted(0.1), elapsed).prop_map(
        |(wait_ms, lost, finished, empty, elapsed_ms)| Step {
            wait_ms,
            lost,
            finished,
            empty,
            elapsed_ms,
        },
    )
}

/// The design's table of latches, read off the whole history at every step.
fn level_by_the_table(
    history: &[(u64, Step)],
    was_paused: bool,
    pause_after: Option<u64>,
) -> (OverloadLevel, bool) {
    let (now, last) = *history.last().unwrap();
    let within = |millis: u64, inclusive: bool| {
        let recent = move |at: u64| now - at < millis || (inclusive && now - at == millis);
        history
            .iter()
            .filter(move |(at, _)| recent(*at))
            .map(|(_, step)| step)
    };
    let held_up = within(1_000, false).any(|step| step.wait_ms > 100);
    let shedding = within(1_000, false).any(|step| step.lost > 0);
    let paused = pause_after.is_some_and(|pause_after| {
        let calm =
            within(1_000, false).all(|step| 2 * step.wait_ms <= pause_after && step.lost == 0);
        let progress = last.empty || within(1_000, true).any(|step| step.finished > 0);
        last.wait_ms >= pause_after || (was_paused && !(calm && progress))
    });
    let level = match (shedding, paused, held_up) {
        (true, ..) => OverloadLevel::Shedding,
        (_, true, _) => OverloadLevel::Paused,
        (.., true) => OverloadLevel::Backpressure,
        _ => OverloadLevel::Normal,
    };
    (level, paused)
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 256,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn any_history_stands_on_the_rung_that_the_table_says(
        steps in prop::collection::vec(any_step(), 1..150),
        pause_after in prop::option::weighted(0.9, Just(1_000u64)),
    ) {
        let settings = OverloadSettings { tick: TICK, pause_after: pause_after.map(Duration::from_millis) };
        let began = secs(7);
        let mut overload = Overload::new(settings, began);
        let mut history = Vec::new();
        let (mut now, mut seen) = (0, Observation::default());
        let (mut level, mut paused) = (OverloadLevel::Normal, false);
        let (mut rung_since, mut lost_at_rung) = (0, 0);
        let mut overload_seconds = [0; 4];
        for step in steps {
            now += step.elapsed_ms;
            overload_seconds[level as usize] += step.elapsed_ms;
            history.push((now, step));
            seen = Observation {
                longest_wait: Duration::from_millis(step.wait_ms),
                lost: seen.lost + step.lost,
                finished: seen.finished + step.finished,
                empty: step.empty,
            };
            let change = overload.step(began + Duration::from_millis(now), seen);

            let (to, is_paused) = level_by_the_table(&history, paused, pause_after);
            paused = is_paused;
            let expected = (to != level).then(|| Change {
                from: level,
                to,
                lasted: Duration::from_millis(now - rung_since),
                longest_wait: seen.longest_wait,
                lost: seen.lost - lost_at_rung,
            });
            prop_assert_eq!(change, expected);
            prop_assert_eq!((overload.level(), overload.is_paused()), (to, is_paused));
            prop_assert_eq!(overload.overload_seconds(), overload_seconds.map(Duration::from_millis));
            if to != level {
                (level, rung_since, lost_at_rung) = (to, now, seen.lost);
            }
        }
    }
}
