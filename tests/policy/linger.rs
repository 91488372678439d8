//! When the consumer lingers: stepped through, without a clock or a channel.

use std::time::Duration;

use drainline::policy::Linger;

const BUSY: f64 = 20_000.0;
const SMALL: u64 = 700;
const SLEEP: Duration = Duration::from_micros(500);

/// An hour of looks that find so many items each, with so much time between them. How many looks
/// were followed by a sleep once it has run for a second.
fn sleeps_in(looks: u64, every: Duration, items: u64, bytes: u64) -> u64 {
    let mut linger = Linger::new(BUSY, SLEEP);
    let mut now = Duration::ZERO;
    let mut sleeps = 0;
    for _ in 0..looks {
        now += every;
        (0..items).for_each(|_| linger.took(bytes));
        let sleeps_now = linger.found_nothing(now);
        sleeps += u64::from(sleeps_now == Some(SLEEP) && now > Duration::from_secs(1));
    }
    sleeps
}

#[test]
fn it_sleeps_where_many_small_items_come_several_at_a_time() {
    // 50,000/s.
    let looks = 100_000;
    let before = 25_000;
    assert_eq!(
        sleeps_in(looks, Duration::from_micros(40), 2, SMALL),
        looks - before
    );
    assert_eq!(
        sleeps_in(10_000, Duration::from_millis(1), 50, SMALL),
        10_000 - 1_000
    );
}

#[test]
fn it_waits_where_each_look_finds_one() {
    assert_eq!(sleeps_in(100_000, Duration::from_micros(20), 1, SMALL), 0);
}

#[test]
fn it_waits_where_little_comes() {
    // 10,000/s, also after a busy time.
    assert_eq!(sleeps_in(100_000, Duration::from_micros(200), 2, SMALL), 0);
    let mut linger = Linger::new(BUSY, SLEEP);
    let mut look = |millis: u64, items: u64| {
        (0..items).for_each(|_| linger.took(SMALL));
        linger
            .found_nothing(Duration::from_millis(millis))
            .is_some()
    };
    assert!(!look(1, 2));
    assert!(look(101, 5_000));
    assert!(look(150, 2));
    assert!(!look(160, 0), "nothing was there at the last look");
    assert!(!look(1_101, 2), "it was not busy any more");
}

#[test]
fn it_waits_where_items_are_large() {
    assert_eq!(
        sleeps_in(100_000, Duration::from_micros(40), 2, 64 << 10),
        0
    );
}
