//! Which level of overload the server stands on, and whether new clients are accepted.
//!
//! Three latches, each set by one observation and cleared by a calm second. The level shown is the
//! highest one set; **the pause latch alone keeps new clients out, whatever the level**. A wait
//! means that the buffer is full for that sender, so how full the buffer is decides nothing: at
//! tens of millions of messages a second a healthy buffer is full thousands of times a second, for
//! microseconds.

use std::time::Duration;

/// The time without an event after which a latch clears.
const CALM: Duration = Duration::from_secs(1);

/// How far overload has gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OverloadLevel {
    /// Nobody is held up.
    #[default]
    Normal,
    /// Some sender waited longer than a tick for the buffer: TCP flow control is slowing it down.
    Backpressure,
    /// Some sender has waited so long that no new client is accepted.
    Paused,
    /// Something was aborted or dropped because the buffer was full.
    Shedding,
}

impl OverloadLevel {
    /// Every level, lowest first.
    pub const ALL: [OverloadLevel; 4] = [
        OverloadLevel::Normal,
        OverloadLevel::Backpressure,
        OverloadLevel::Paused,
        OverloadLevel::Shedding,
    ];

    /// The level's name, as in logs and reports.
    pub fn name(self) -> &'static str {
        match self {
            OverloadLevel::Normal => "normal",
            OverloadLevel::Backpressure => "backpressure",
            OverloadLevel::Paused => "paused",
            OverloadLevel::Shedding => "shedding",
        }
    }
}

/// What [`Overload`] is told once.
#[derive(Clone, Copy, Debug)]
pub struct OverloadSettings {
    /// A wait longer than this sets the backpressure latch.
    pub tick: Duration,
    /// A wait this long sets the pause latch. `None`: never paused.
    pub pause_after: Option<Duration>,
}

/// What [`Overload`] is told at every step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Observation {
    /// The longest that any sender has been waiting in one send, now.
    pub longest_wait: Duration,
    /// Messages and handlers lost to a full buffer so far: only growth counts.
    pub lost: u64,
    /// What the consumer has finished so far: only growth counts.
    pub finished: u64,
    /// Nothing is in the buffer, nor in the consumer's hands.
    pub empty: bool,
}

/// One change of level, to be logged once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The level that was left.
    pub from: OverloadLevel,
    /// The level that was reached.
    pub to: OverloadLevel,
    /// How long the level that was left had lasted.
    pub lasted: Duration,
    /// The longest wait seen at this step.
    pub longest_wait: Duration,
    /// What was lost on the level that was left.
    pub lost: u64,
}

/// A latch: when it was last given a reason to be set.
#[derive(Clone, Copy, Debug, Default)]
struct Latch(Option<Duration>);

impl Latch {
    fn set(&mut self, now: Duration) {
        self.0 = Some(now);
    }

    fn is_set(self) -> bool {
        self.0.is_some()
    }

    /// Clears after a calm second.
    fn settle(&mut self, now: Duration) {
        if self.0.is_some_and(|last| now.saturating_sub(last) >= CALM) {
            self.0 = None;
        }
    }
}

/// Decides how overloaded the server is. Feed [`step`](Overload::step) once a tick.
#[derive(Clone, Debug)]
pub struct Overload {
    settings: OverloadSettings,
    backpressure: Latch,
    pause: Latch,
    shedding: Latch,
    level: OverloadLevel,
    level_since: Duration,
    lost_at_level: u64,
    overload_seconds: [Duration; 4],
    last_step: Duration,
    lost: u64,
    finished: u64,
    finished_at: Option<Duration>,
}

impl Overload {
    /// Starts on the lowest level at time `now`.
    pub fn new(settings: OverloadSettings, now: Duration) -> Self {
        Overload {
            settings,
            backpressure: Latch::default(),
            pause: Latch::default(),
            shedding: Latch::default(),
            level: OverloadLevel::Normal,
            level_since: now,
            lost_at_level: 0,
            overload_seconds: [Duration::ZERO; 4],
            last_step: now,
            lost: 0,
            finished: 0,
            finished_at: None,
        }
    }

    /// Takes in what was seen at time `now`; says which level that is, if it is another one.
    pub fn step(&mut self, now: Duration, seen: Observation) -> Option<Change> {
        self.overload_seconds[self.level as usize] += now.saturating_sub(self.last_step);
        self.last_step = now;

        let lost_more = seen.lost > self.lost;
        self.lost = seen.lost;
        if seen.finished > self.finished {
            self.finished = seen.finished;
            self.finished_at = Some(now);
        }

        if seen.longest_wait > self.settings.tick {
            self.backpressure.set(now);
        }
        if lost_more {
            self.shedding.set(now);
        }
        if let Some(pause_after) = self.settings.pause_after {
            // Once paused, half the wait or any loss keeps it so: a pause must not flap on its own
            // cure.
            let stays_paused =
                self.pause.is_set() && (seen.longest_wait > pause_after / 2 || lost_more);
            if seen.longest_wait >= pause_after || stays_paused {
                self.pause.set(now);
            }
        }

        self.backpressure.settle(now);
        self.shedding.settle(now);
        // A dead sink has quiet seconds too, once its waiters were aborted: only progress, or a
        // buffer with nothing left to do, ends the pause.
        let progress = self
            .finished_at
            .is_some_and(|at| now.saturating_sub(at) <= CALM);
        if progress || seen.empty {
            self.pause.settle(now);
        }

        let level = self.highest();
        if level == self.level {
            return None;
        }
        let change = Change {
            from: self.level,
            to: level,
            lasted: now.saturating_sub(self.level_since),
            longest_wait: seen.longest_wait,
            lost: self.lost.saturating_sub(self.lost_at_level),
        };
        self.level = level;
        self.level_since = now;
        self.lost_at_level = self.lost;
        Some(change)
    }

    /// Whether the pause latch is set: no new client is accepted.
    pub fn is_paused(&self) -> bool {
        self.pause.is_set()
    }

    /// The level shown: the highest whose latch is set.
    pub fn level(&self) -> OverloadLevel {
        self.level
    }

    /// Time spent on each level up to the last step, lowest first.
    pub fn overload_seconds(&self) -> [Duration; 4] {
        self.overload_seconds
    }

    fn highest(&self) -> OverloadLevel {
        if self.shedding.is_set() {
            OverloadLevel::Shedding
        } else if self.pause.is_set() {
            OverloadLevel::Paused
        } else if self.backpressure.is_set() {
            OverloadLevel::Backpressure
        } else {
            OverloadLevel::Normal
        }
    }
}
