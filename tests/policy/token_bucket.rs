//! The token bucket: however takes are split and spread, the rate holds.

use drainline::policy::TokenBucket;
use proptest::prelude::*;
use std::time::Duration;

/// Takes of any size, each after a rest that the sender chose itself.
fn any_takes() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let rest_ms = prop_oneof![4 => Just(0), 1 => 0..50u64, 1 => 0..5_000u64];
    let size = prop_oneof![4 => 1..10u64, 1 => 1..1_000u64];
    prop::collection::vec((size, rest_ms), 1..200)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_split_of_takes_stays_within_rate_and_burst_and_never_waits_longer_than_it_must(
        rate in 1..100_000u64,
        takes in any_takes(),
    ) {
        let rate = rate as f64;
        let burst = (rate / 10.0).max(1.0);
        let mut now = Duration::ZERO;
        let mut bucket = TokenBucket::new(rate, now);
        let (mut taken, mut waited) = (0u64, Duration::ZERO);
        // Beside it: the sums since the last moment at which the bucket can have been full.
        let mut windows: Vec<(Duration, u64)> = Vec::new();
        for (size, rest) in takes {
            now += Duration::from_millis(rest);
            let wait = bucket.wait(now);
            if !wait.is_zero() {
                let just_before = now + wait.saturating_sub(Duration::from_micros(1));
                if wait > Duration::from_micros(2) {
                    prop_assert!(bucket.clone().wait(just_before) > Duration::ZERO, "told too long");
                }
            }
            now += wait;
            waited += wait;
            prop_assert_eq!(bucket.wait(now), Duration::ZERO, "told to wait twice");

            // From any earlier moment up to now, before this take: no more than the rate and a
            // burst. One token of it is what this take is let in for.
            for &(since, before) in &windows {
                let allowed = (now - since).as_secs_f64() * rate + burst;
                prop_assert!((taken - before) as f64 <= allowed - 1.0 + 1e-3, "above the rate");
            }
            windows.push((now, taken));
            bucket.take(size, now);
            taken += size;
        }
        // Nobody waits for more than what was taken costs.
        prop_assert!(waited.as_secs_f64() <= taken as f64 / rate + 1e-3);
    }

    #[test]
    fn below_its_rate_nobody_ever_waits(rate in 1..1_000u64, sizes in prop::collection::vec(1..20u64, 1..200)) {
        let mut now = Duration::ZERO;
        let mut bucket = TokenBucket::new(rate as f64, now);
        for size in sizes {
            prop_assert_eq!(bucket.wait(now), Duration::ZERO);
            bucket.take(size, now);
            now += Duration::from_secs_f64(size as f64 / rate as f64 * 1.001);
        }
    }
}

#[test]
fn after_the_wait_that_it_was_told_nobody_is_told_another() {
    for rate in [3, 7, 1_024, 99_999, 1_000_000_000] {
        let mut bucket = TokenBucket::new(rate as f64, Duration::ZERO);
        let mut now = Duration::ZERO;
        for size in 1..2_000 {
            bucket.take(size, now);
            now += bucket.wait(now);
            assert_eq!(bucket.wait(now), Duration::ZERO, "{size} at {rate}/s");
        }
    }
}

#[test]
fn a_clock_that_steps_back_gives_nothing_twice() {
    let mut bucket = TokenBucket::new(100.0, Duration::ZERO);
    let later = Duration::from_secs(10);
    bucket.take(110, later);
    let wait = bucket.wait(later);
    assert_eq!(wait.as_millis(), 1_010);
    assert_eq!(bucket.wait(Duration::from_secs(9)), wait);
    assert_eq!(bucket.wait(later), wait);
}

#[test]
fn a_debt_that_overflows_every_duration_is_still_a_wait() {
    let mut bucket = TokenBucket::new(1e-9, Duration::ZERO);
    bucket.take(u64::MAX, Duration::ZERO);
    assert_eq!(bucket.wait(Duration::ZERO), Duration::MAX);
}
