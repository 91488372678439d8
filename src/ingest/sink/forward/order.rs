//! At which receiver a try to connect begins.

use std::time::{Duration, Instant};

/// A connection that was written to and ends sooner has not shown that its receiver is well: a
/// balancer with no server behind it accepts, looks for one for some seconds, and closes.
const TRIAL: Duration = Duration::from_secs(30);
/// More than both kernels hold by default: a receiver that was sent so much has read.
const SURELY_READ: u64 = 8 << 20;
/// A connection that lasted so long starts the waits anew, too; also the longest wait, unless
/// `return_after` is longer.
const HOUR: Duration = Duration::from_secs(3600);

/// The order of preference, in which a receiver that accepts connections and then fails stands
/// back for a while: whoever can connect to it says nothing of its health.
#[derive(Debug)]
pub(super) struct Order {
    all: usize,
    return_after: Duration,
    /// Where a try begins until then. Later it begins at the first.
    stands_back: Option<(usize, Instant)>,
    /// How long those before stand back after the next failure.
    wait: Duration,
}

/// How a connection ended.
#[derive(Debug)]
pub(super) struct Ending {
    pub(super) target: usize,
    pub(super) lasted: Duration,
    pub(super) written: u64,
    /// It was of no use for long, or nothing was acknowledged for `ack_timeout`.
    pub(super) is_failure: bool,
}

impl Order {
    pub(super) fn new(all: usize, return_after: Duration) -> Order {
        Order {
            all,
            return_after,
            stands_back: None,
            wait: return_after,
        }
    }

    /// The receiver that a try begins with; behind the last one it goes on with the first.
    pub(super) fn first(&self, now: Instant) -> usize {
        match self.stands_back {
            Some((first, until)) if now < until => first,
            _ => 0,
        }
    }

    /// When receivers before `current`, which was just connected to, are tried.
    pub(super) fn returns_at(&self, current: usize, now: Instant) -> Option<Instant> {
        let until = self.stands_back.map(|(_, until)| until);
        let at = until.filter(|&until| now < until);
        (current > 0).then(|| at.unwrap_or(now + self.return_after))
    }

    /// A connection has ended. If its receiver failed, the next try begins behind it, and those up
    /// to it wait for longer each time: a hung one takes messages at each return.
    pub(super) fn ended(&mut self, ending: &Ending, now: Instant) {
        if ending.written > SURELY_READ || ending.lasted > HOUR {
            self.wait = self.return_after;
        }
        let is_failure = ending.is_failure || (ending.written > 0 && ending.lasted < TRIAL);
        let next = ending.target + 1;
        if is_failure && next < self.all {
            self.stands_back = Some((next, now + self.wait));
            self.wait = (self.wait * 2).min(HOUR.max(self.return_after));
        } else if is_failure {
            self.stands_back = None;
        }
    }

    /// Somebody says that things have changed: the first is the first again.
    pub(super) fn forget(&mut self) {
        *self = Order::new(self.all, self.return_after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RETURN: Duration = Duration::from_secs(30);
    const MS: Duration = Duration::from_millis(1);

    fn failure(target: usize) -> Ending {
        Ending {
            target,
            lasted: Duration::from_secs(60),
            written: 400_000,
            is_failure: true,
        }
    }

    #[test]
    fn a_failed_receiver_stands_back_twice_as_long_each_time_up_to_an_hour() {
        let mut order = Order::new(2, RETURN);
        let mut now = Instant::now();
        let mut wait = RETURN;
        for _ in 0..10 {
            assert_eq!(order.first(now), 0);
            order.ended(&failure(0), now);
            assert_eq!(order.first(now + wait - MS), 1);
            assert_eq!(order.returns_at(1, now), Some(now + wait));
            now += wait;
            wait = (wait * 2).min(HOUR);
        }
        let read = Ending {
            written: SURELY_READ + 1,
            ..failure(0)
        };
        order.ended(&read, now);
        assert_eq!(order.first(now + RETURN), 0);
        order.ended(&failure(0), now);
        order.forget();
        assert_eq!(order.first(now), 0);
    }

    #[test]
    fn behind_the_last_comes_the_first_and_one_alone_is_always_the_first() {
        let now = Instant::now();
        let mut order = Order::new(3, RETURN);
        for next in [1, 2, 0] {
            order.ended(&failure(order.first(now)), now);
            assert_eq!(order.first(now), next);
        }
        let mut order = Order::new(1, RETURN);
        order.ended(&failure(0), now);
        assert_eq!(order.first(now), 0);
        assert_eq!(order.returns_at(0, now), None);
    }

    #[test]
    fn one_that_closes_idle_or_after_long_use_has_not_failed() {
        let now = Instant::now();
        for (written, lasted, next) in [(0, TRIAL - MS, 0), (1, TRIAL, 0), (1, TRIAL - MS, 1)] {
            let mut order = Order::new(2, RETURN);
            let ending = Ending {
                target: 0,
                lasted,
                written,
                is_failure: false,
            };
            order.ended(&ending, now);
            assert_eq!(order.first(now), next, "{ending:?}");
        }
    }
}
