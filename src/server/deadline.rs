//! A point in time by which a wait ends, computed once and passed down.

use std::time::{Duration, Instant};

/// The longest park of a wait without a deadline. What ends such a wait wakes the thread, so this
/// only limits the damage of a missed wake-up.
pub(super) const MAX_PARK: Duration = Duration::from_secs(3600);

/// A deadline. `None` stands for never, as does a time that overflows the clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) const NEVER: Deadline = Deadline(None);

    pub(super) fn after(wait: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(wait))
    }

    pub(super) fn at(at: Instant) -> Deadline {
        Deadline(Some(at))
    }

    /// The time left, at most `cap`; `None` once the deadline has passed.
    pub(super) fn remaining(self, cap: Duration) -> Option<Duration> {
        let left = match self.0 {
            None => cap,
            Some(at) => at.saturating_duration_since(Instant::now()).min(cap),
        };
        (!left.is_zero()).then_some(left)
    }

    pub(super) fn has_passed(self) -> bool {
        self.0.is_some_and(|at| Instant::now() >= at)
    }

    /// The instant `grace` after the deadline; `None` for never.
    pub(super) fn past(self, grace: Duration) -> Option<Instant> {
        self.0?.checked_add(grace)
    }

    pub(super) fn sooner(self, other: Deadline) -> Deadline {
        match (self.0, other.0) {
            (Some(a), Some(b)) => Deadline(Some(a.min(b))),
            (a, b) => Deadline(a.or(b)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn what_is_left_is_capped_and_nothing_is_left_once_it_has_passed() {
        let passed = Deadline::after(Duration::ZERO);
        assert!(passed.has_passed() && passed.remaining(HOUR).is_none());
        let far = Deadline::after(HOUR * 2);
        assert!(!far.has_passed());
        assert_eq!(far.remaining(HOUR), Some(HOUR));
        assert!(far.remaining(HOUR * 3) <= Some(HOUR * 2));
    }

    #[test]
    fn what_overflows_the_clock_is_never() {
        for never in [Deadline::NEVER, Deadline::after(Duration::MAX)] {
            assert!(!never.has_passed());
            assert_eq!(never.remaining(HOUR), Some(HOUR));
            assert_eq!(never.past(HOUR), None);
        }
        let near = Deadline::after(HOUR);
        assert_eq!(near.past(Duration::MAX), None);
    }

    #[test]
    fn the_sooner_of_two_is_never_only_if_both_are() {
        let (near, far) = (Deadline::after(HOUR), Deadline::after(HOUR * 2));
        for (a, b) in [
            (near, far),
            (far, near),
            (near, Deadline::NEVER),
            (Deadline::NEVER, near),
        ] {
            assert_eq!(a.sooner(b).past(HOUR), near.past(HOUR));
        }
        assert_eq!(Deadline::NEVER.sooner(Deadline::NEVER).past(HOUR), None);
    }
}
