//! How many threads may wait for a client: stepped through, tick by tick.

use drainline::policy::{IDLE_LIMIT_TICKS as TICKS, IdleLimit, MIN_IDLE};

const SIZES: [usize; 6] = [1, 63, 64, 65, 400, 9_000];

fn come(limit: &mut IdleLimit, clients: usize) {
    (0..clients).for_each(|_| limit.came());
}

fn tick(limit: &mut IdleLimit, ticks: usize) {
    (0..ticks).for_each(|_| limit.end_tick());
}

#[test]
fn a_wave_of_short_connections_may_wait_whole_however_far_waves_are_apart() {
    for size in SIZES {
        for stays in 0..TICKS {
            for apart in [0, 1, 2, 3, 4, 5, 10, 36_000] {
                let mut limit = IdleLimit::default();
                for _ in 0..5 {
                    come(&mut limit, size);
                    tick(&mut limit, stays);
                    assert!(limit.max_idle() >= size, "{size}, {stays}, {apart}");
                    tick(&mut limit, apart);
                }
            }
        }
    }
}

#[test]
fn a_crowd_that_has_stayed_may_not_wait() {
    for size in SIZES {
        let mut limit = IdleLimit::default();
        come(&mut limit, size);
        tick(&mut limit, TICKS);
        assert_eq!(limit.max_idle(), MIN_IDLE, "{size}");
    }
}

#[test]
fn a_few_that_come_while_a_crowd_leaves_do_not_make_the_crowd_wait() {
    let mut limit = IdleLimit::default();
    come(&mut limit, 9_000);
    for _ in 0..100 {
        tick(&mut limit, 1);
        come(&mut limit, 20);
    }
    assert_eq!(limit.max_idle(), 20 * TICKS);
}

#[test]
fn never_more_may_wait_than_came_within_so_many_ticks() {
    // Waves of each size at each distance, against a sum over the clients of each tick.
    for size in SIZES {
        for every in 1..3 * TICKS {
            let (mut limit, mut each) = (IdleLimit::default(), Vec::new());
            for at in 0..50 {
                let came = if at % every == 0 { size } else { 0 };
                come(&mut limit, came);
                each.push(came);
                let lately: usize = each.iter().rev().take(TICKS).sum();
                assert_eq!(limit.max_idle(), lately.max(MIN_IDLE));
                limit.end_tick();
            }
        }
    }
}
