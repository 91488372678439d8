//! The overload against the design's table. What a whole server does under each kind of overload is
//! in the simulation's tests (`src/tools/simulation/tests/overload.rs`).

use drainline::policy::{Change, Observation, Overload, OverloadLevel, OverloadSettings};
use proptest::prelude::*;
use std::time::Duration;

const TICK: Duration = Duration::from_millis(100);

/// One step of an overload: what was seen, and how long after the step before.
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
    fn any_history_stands_on_the_level_that_the_table_says(
        steps in prop::collection::vec(any_step(), 1..150),
        pause_after in prop::option::weighted(0.9, Just(1_000u64)),
    ) {
        let settings = OverloadSettings { tick: TICK, pause_after: pause_after.map(Duration::from_millis) };
        let began = Duration::from_secs(7);
        let mut overload = Overload::new(settings, began);
        let mut history = Vec::new();
        let (mut now, mut seen) = (0, Observation::default());
        let (mut level, mut paused) = (OverloadLevel::Normal, false);
        let (mut level_since, mut lost_at_level) = (0, 0);
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
                lasted: Duration::from_millis(now - level_since),
                longest_wait: seen.longest_wait,
                lost: seen.lost - lost_at_level,
            });
            prop_assert_eq!(change, expected);
            prop_assert_eq!((overload.level(), overload.is_paused()), (to, is_paused));
            prop_assert_eq!(overload.overload_seconds(), overload_seconds.map(Duration::from_millis));
            if to != level {
                (level, level_since, lost_at_level) = (to, now, seen.lost);
            }
        }
    }
}
