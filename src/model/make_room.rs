//! Which silent connections give way while clients are kept out at the limit.

use std::time::Duration;

use super::{Activity, Sample, Verdict, Watch};
use crate::model::Breach;

/// Who has said nothing for this long gives way.
const SILENT: Duration = Duration::from_secs(60);
/// Ends in one tick at most.
const MAX_PER_TICK: usize = 64;

/// Ends only as many as are needed. How many clients are kept out nobody knows, so it begins with one in a tick, and
/// doubles while clients are still kept out; those that are on their way out count. Who is honest, early and quiet keeps
/// the connection while there is room, and the oldest of the silent go first.
#[derive(Clone, Copy, Debug, Default)]
pub struct MakeRoom {
    per_tick: usize,
    left: usize,
}

impl MakeRoom {
    /// Begins a tick: whether clients are kept out at the limit, and how many connections were ended and still take room.
    pub fn begin_tick(&mut self, is_kept_out: bool, leaving: usize) {
        self.per_tick = if is_kept_out {
            (self.per_tick * 2).clamp(1, MAX_PER_TICK)
        } else {
            0
        };
        self.left = self.per_tick.saturating_sub(leaving);
    }

    /// The verdict on a connection, asked for the oldest first.
    pub fn judge(&mut self, verdict: Verdict, watch: &Watch, now: &Sample) -> Verdict {
        let gives_way = self.left > 0
            && verdict == Verdict::Fine
            && now.activity == Activity::Reading
            && watch.silent() >= SILENT;
        if !gives_way {
            return verdict;
        }
        self.left -= 1;
        Verdict::Cut(Breach::FirstByte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WatchLimits;

    const TICK: Duration = Duration::from_millis(100);
    const OFF: WatchLimits = WatchLimits {
        frame: None,
        idle: None,
        first_byte: None,
        write: None,
        warn_after: Duration::MAX,
    };
    const SAYS_NOTHING: Sample = Sample {
        activity: Activity::Reading,
        turns: 1,
        bytes: 0,
        frames: 0,
        inside: false,
    };

    fn waited(sample: Sample, ticks: u32) -> Watch {
        let mut watch = Watch::default();
        for _ in 0..=ticks {
            assert_eq!(watch.step(sample, TICK, &OFF), Verdict::Fine);
        }
        watch
    }

    /// How many of a thousand silent ones are ended in each tick, where as many leave only in the next.
    fn ended(room: &mut MakeRoom, is_kept_out: bool, leaving: usize) -> usize {
        let watch = waited(SAYS_NOTHING, 600);
        room.begin_tick(is_kept_out, leaving);
        (0..1000)
            .filter(|_| room.judge(Verdict::Fine, &watch, &SAYS_NOTHING) != Verdict::Fine)
            .count()
    }

    #[test]
    fn only_while_clients_are_kept_out_and_only_as_many_as_are_needed() {
        let mut room = MakeRoom::default();
        assert_eq!(ended(&mut room, false, 0), 0);
        assert_eq!(ended(&mut room, true, 0), 1);
        assert_eq!(ended(&mut room, true, 1), 1);
        assert_eq!(ended(&mut room, true, 0), 4);
        assert_eq!(ended(&mut room, false, 0), 0);
        assert_eq!(ended(&mut room, true, 0), 1);
        for _ in 0..10 {
            assert!(ended(&mut room, true, 0) <= MAX_PER_TICK);
        }
    }

    #[test]
    fn who_has_said_something_or_came_a_moment_ago_or_is_not_waited_for_keeps_the_connection() {
        let mut room = MakeRoom::default();
        let spoke = Sample {
            bytes: 1,
            ..SAYS_NOTHING
        };
        let works = Sample {
            activity: Activity::Working,
            ..SAYS_NOTHING
        };
        for (sample, ticks) in [(spoke, 6000), (SAYS_NOTHING, 599), (works, 6000)] {
            room.begin_tick(true, 0);
            let watch = waited(sample, ticks);
            assert_eq!(room.judge(Verdict::Fine, &watch, &sample), Verdict::Fine);
        }
        let watch = waited(SAYS_NOTHING, 600);
        let cut = Verdict::Cut(Breach::FirstByte);
        assert_eq!(room.judge(Verdict::Fine, &watch, &SAYS_NOTHING), cut);
    }
}
