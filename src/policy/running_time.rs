//! Time as far as the process ran: it stands still while the process is stopped.

use std::time::Duration;

use super::watch::MAX_TICK;

/// A clock that ticks move, each by a fifth of a second at most: however long a machine or a
/// process stood still, the clock has not moved further.
///
/// Between two ticks the clock runs on, within the same limit, so it is as exact as whoever asks,
/// and it never goes backwards. Where ticks come late the clock is late, never early.
#[derive(Clone, Copy, Debug)]
pub struct RunningTime {
    ran: Duration,
    ticked_at: Duration,
}

impl RunningTime {
    /// A clock that shows zero at time `now`.
    pub fn new(now: Duration) -> Self {
        RunningTime {
            ran: Duration::ZERO,
            ticked_at: now,
        }
    }

    /// Ticks, at time `now`.
    pub fn tick(&mut self, now: Duration) {
        self.ran = self.at(now);
        self.ticked_at = self.ticked_at.max(now);
    }

    /// What the clock shows at time `now`.
    pub fn at(&self, now: Duration) -> Duration {
        self.ran + now.saturating_sub(self.ticked_at).min(MAX_TICK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn while_it_ticks_it_is_exact_at_and_between_ticks() {
        let mut clock = RunningTime::new(SECOND);
        let mut now = SECOND;
        for _ in 0..1000 {
            now += TICK / 3;
            assert_eq!(clock.at(now), now - SECOND);
            now += TICK;
            clock.tick(now);
            assert_eq!(clock.at(now), now - SECOND);
        }
    }

    #[test]
    fn a_stop_of_any_length_counts_for_one_tick_at_most_and_whoever_asks_first_sees_that() {
        for stop in [SECOND, SECOND * 3600] {
            for asks_first in [true, false] {
                let mut clock = RunningTime::new(Duration::ZERO);
                clock.tick(TICK);
                let woken = TICK + stop;
                if asks_first {
                    assert_eq!(clock.at(woken), TICK + MAX_TICK);
                }
                clock.tick(woken);
                assert_eq!(clock.at(woken), TICK + MAX_TICK);
                assert_eq!(clock.at(woken + TICK), TICK + MAX_TICK + TICK);
            }
        }
    }

    #[test]
    fn it_never_goes_backwards_whatever_order_the_times_come_in() {
        let mut clock = RunningTime::new(SECOND);
        let mut shown = Duration::ZERO;
        for now in [3, 2, 5, 5, 1, 9, 4, 10].map(|tenths| SECOND + TICK * tenths) {
            clock.tick(now);
            let shows = clock.at(now);
            assert!(shows >= shown, "{shows:?} after {shown:?}");
            shown = shows;
        }
    }
}
