//! Which silent connections give way while clients are kept out at the limit.

use std::time::Duration;

use super::{Activity, Finding, Sample, Watch};
use crate::policy::Breach;

/// Who has said nothing for this long gives way.
const SILENT: Duration = Duration::from_secs(60);
/// Ends in one tick at most.
const MAX_PER_TICK: usize = 64;

/// Ends only as many as are needed. Nobody knows how many clients are kept out, so the number in a
/// tick begins with one, and doubles where that was not enough, never before anybody was due; those
/// that are on their way out count. Who is honest, early and quiet keeps the connection while
/// permits are free, and the oldest of the silent go first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Eviction {
    per_tick: usize,
    left: usize,
    /// The tick before ended somebody.
    has_ended: bool,
}

impl Eviction {
    /// Begins a tick: whether clients are kept out at the limit, and how many threads still hold
    /// the permits of connections that were ended.
    pub fn begin_tick(&mut self, is_kept_out: bool, leaving: usize) {
        let grown = if self.has_ended { 2 } else { 1 };
        self.per_tick = if is_kept_out {
            (self.per_tick * grown).clamp(1, MAX_PER_TICK)
        } else {
            0
        };
        self.has_ended = false;
        self.left = self.per_tick.saturating_sub(leaving);
    }

    /// What becomes of a connection, whose watch found `finding`. Asked for the oldest first.
    pub fn judge(&mut self, finding: Finding, watch: &Watch, now: &Sample) -> Finding {
        let gives_way = self.left > 0
            && finding == Finding::Fine
            && now.activity == Activity::Reading
            && watch.silent() >= SILENT;
        if !gives_way {
            return finding;
        }
        self.left -= 1;
        self.has_ended = true;
        Finding::DeadlinePassed(Breach::FirstByte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::WatchLimits;

    const TICK: Duration = Duration::from_millis(100);
    const OFF: WatchLimits = WatchLimits {
        frame: None,
        idle: None,
        first_byte: None,
        write: None,
        handshake: Duration::MAX,
        warn_after: Duration::MAX,
    };
    const SAYS_NOTHING: Sample = Sample {
        activity: Activity::Reading,
        turns: 1,
        bytes: 0,
        wire_bytes: 0,
        frames: 0,
        inside: false,
    };

    fn waited(sample: Sample, ticks: u32) -> Watch {
        let mut watch = Watch::default();
        for _ in 0..=ticks {
            assert_eq!(watch.step(sample, TICK, &OFF), Finding::Fine);
        }
        watch
    }

    /// How many of a thousand silent ones are ended in each tick, where as many leave only in the
    /// next.
    fn ended(eviction: &mut Eviction, is_kept_out: bool, leaving: usize) -> usize {
        let watch = waited(SAYS_NOTHING, 600);
        eviction.begin_tick(is_kept_out, leaving);
        (0..1000)
            .filter(|_| eviction.judge(Finding::Fine, &watch, &SAYS_NOTHING) != Finding::Fine)
            .count()
    }

    #[test]
    fn only_while_clients_are_kept_out_and_only_as_many_as_are_needed() {
        let mut eviction = Eviction::default();
        assert_eq!(ended(&mut eviction, false, 0), 0);
        assert_eq!(ended(&mut eviction, true, 0), 1);
        assert_eq!(ended(&mut eviction, true, 1), 1);
        assert_eq!(ended(&mut eviction, true, 0), 4);
        assert_eq!(ended(&mut eviction, false, 0), 0);
        assert_eq!(ended(&mut eviction, true, 0), 1);
        for _ in 0..10 {
            assert!(ended(&mut eviction, true, 0) <= MAX_PER_TICK);
        }
    }

    /// However long clients are kept out before anybody has been silent for long enough.
    #[test]
    fn it_begins_with_one_when_the_first_one_is_due() {
        let mut eviction = Eviction::default();
        let early = waited(SAYS_NOTHING, 500);
        for _ in 0..100 {
            eviction.begin_tick(true, 0);
            let finding = eviction.judge(Finding::Fine, &early, &SAYS_NOTHING);
            assert_eq!(finding, Finding::Fine);
        }
        assert_eq!(ended(&mut eviction, true, 0), 1);
        assert_eq!(ended(&mut eviction, true, 1), 1);
    }

    /// Of a session that makes nothing of them yet.
    #[test]
    fn bytes_of_the_wire_put_off_who_is_silent_and_do_not_make_anybody_stay() {
        let comes = Sample {
            wire_bytes: 1,
            ..SAYS_NOTHING
        };
        let mut watch = waited(SAYS_NOTHING, 599);
        let mut eviction = Eviction::default();
        for (ticks, expected) in [
            (600, Finding::Fine),
            (1, Finding::DeadlinePassed(Breach::FirstByte)),
        ] {
            for _ in 0..ticks {
                assert_eq!(watch.step(comes, TICK, &OFF), Finding::Fine);
            }
            eviction.begin_tick(true, 0);
            assert_eq!(eviction.judge(Finding::Fine, &watch, &comes), expected);
        }
    }

    #[test]
    fn who_has_said_something_or_came_a_moment_ago_or_is_not_waited_for_keeps_the_connection() {
        let mut eviction = Eviction::default();
        let spoke = Sample {
            bytes: 1,
            ..SAYS_NOTHING
        };
        let works = Sample {
            activity: Activity::Working,
            ..SAYS_NOTHING
        };
        for (sample, ticks) in [(spoke, 6000), (SAYS_NOTHING, 599), (works, 6000)] {
            eviction.begin_tick(true, 0);
            let watch = waited(sample, ticks);
            assert_eq!(
                eviction.judge(Finding::Fine, &watch, &sample),
                Finding::Fine
            );
        }
        let watch = waited(SAYS_NOTHING, 600);
        let passed = Finding::DeadlinePassed(Breach::FirstByte);
        assert_eq!(eviction.judge(Finding::Fine, &watch, &SAYS_NOTHING), passed);
    }
}
