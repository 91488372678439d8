//! A point in time by which a wait ends, computed once and passed down.

use std::time::{Duration, Instant};

/// `None` inside: never. What overflows the clock is never, too.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

impl Deadline {
    pub(super) const NEVER: Deadline = Deadline(None);

    pub(super) fn after(wait: Duration) -> Deadline {
        Deadline(Instant::now().checked_add(wait))
    }

    /// What is left, at most `cap`; `None` once it has passed.
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

    /// The instant `grace` after it; `None` if never.
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
