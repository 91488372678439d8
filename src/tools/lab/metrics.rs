//! What was seen, made into metrics.

use serde_json::Value;

use super::super::workload::Workload;
use super::clients::Sent;
use super::outcome::{Ledger, Metrics, Point, Recovery};

/// One run, as it was seen from outside and as the server told it.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    pub(super) threads_before: u64,
    pub(super) threads_after: u64,
    pub(super) peak_memory_bytes: u64,
    pub(super) timeline: Vec<Point>,
    /// What came out of the sink's end.
    pub(super) delivered: u64,
    /// The ledger, where the server keeps one and could still tell it.
    pub(super) ledger: Option<Value>,
    pub(super) has_ledger: bool,
    pub(super) stopped_at: Option<String>,
    /// It ended before it was asked to.
    pub(super) died: Option<String>,
}

pub(super) fn metrics(workload: &Workload, seen: &Seen, sent: &Sent) -> Metrics {
    let peak = |of: fn(&Point) -> u64| seen.timeline.iter().map(of).max().unwrap_or(0);
    let ledger = seen.ledger.as_ref();
    let is_balanced = ledger.and_then(|ledger| ledger["balanced"].as_bool());
    Metrics {
        peak_threads: peak(|point| point.threads).max(seen.threads_before),
        threads_before: seen.threads_before,
        threads_after: seen.threads_after,
        peak_memory_bytes: seen.peak_memory_bytes,
        peak_descriptors: peak(|point| point.descriptors),
        peak_buffered: peak(|point| point.buffered),
        sent: sent.messages,
        delivered: seen.delivered,
        lost: ledger
            .map(|ledger| counts(&ledger["dropped"]))
            .unwrap_or_default(),
        rejected: ledger
            .map(|ledger| counts(&ledger["connections"]["rejected"]))
            .unwrap_or_default(),
        held_up_p99: sent.held_up.quantile(0.99),
        recovery: recovery(workload, &seen.timeline),
        ledger: match (seen.has_ledger, is_balanced) {
            (false, _) => Ledger::None,
            (true, Some(true)) => Ledger::Closes,
            (true, _) => Ledger::Open,
        },
        stopped_at: seen.stopped_at.clone(),
        died: seen.died.clone(),
    }
}

fn counts(value: &Value) -> Vec<(String, u64)> {
    let fields = value.as_object().into_iter().flatten();
    let counts = fields.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// From the end of the last stall to the first look at which nobody waits and the buffer is all but
/// empty.
fn recovery(workload: &Workload, timeline: &[Point]) -> Recovery {
    let Some(end) = workload.recovers_at() else {
        return Recovery::NotAsked;
    };
    let mut most = 0;
    let well = timeline.iter().find(|point| {
        most = most.max(point.buffered);
        point.at >= end && point.is_calm(most)
    });
    well.map_or(Recovery::Never, |point| Recovery::After(point.at - end))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::tools::workload::{SinkPace, Stall};

    fn workload(stalls: Vec<Stall>) -> Workload {
        Workload {
            duration: Duration::from_secs(5),
            ..Workload::new(Vec::new(), SinkPace::new(None, &stalls))
        }
    }

    fn point(millis: u64, buffered: u64, wait_millis: u64) -> Point {
        Point {
            at: Duration::from_millis(millis),
            buffered,
            longest_wait: Duration::from_millis(wait_millis),
            ..Point::default()
        }
    }

    #[test]
    fn recovery_is_when_the_buffer_is_empty_and_nobody_waits() {
        let seconds = Duration::from_secs;
        let stall = |at, lasts| Stall::new(seconds(at), seconds(lasts));
        let timeline = [
            point(500, 0, 0),
            point(2000, 20_000, 900),
            point(3100, 500, 0),
            point(3200, 10, 200),
            point(3300, 10, 100),
        ];
        let stalled = workload(vec![stall(1, 2)]);
        let after = Recovery::After(Duration::from_millis(300));
        assert_eq!(recovery(&stalled, &timeline), after);
        assert_eq!(recovery(&stalled, &timeline[..4]), Recovery::Never);
        assert_eq!(recovery(&workload(vec![]), &timeline), Recovery::NotAsked);
        let dead = workload(vec![stall(1, 9)]);
        assert_eq!(recovery(&dead, &timeline), Recovery::NotAsked);
    }

    #[test]
    fn a_server_that_was_to_tell_its_ledger_and_did_not_has_an_open_one() {
        let told = serde_json::json!({
            "balanced": true, "dropped": {"connection_closed": 3, "shutdown": 0},
            "connections": {"rejected": {"paused": 2}}
        });
        let mut seen = Seen {
            has_ledger: true,
            ledger: Some(told),
            ..Seen::default()
        };
        let of = |seen: &Seen| metrics(&workload(vec![]), seen, &Sent::default());
        let metrics = of(&seen);
        assert_eq!(metrics.ledger, Ledger::Closes);
        assert_eq!(metrics.lost, [("connection_closed".to_owned(), 3)]);
        assert_eq!(metrics.rejected, [("paused".to_owned(), 2)]);
        seen.ledger = None;
        assert_eq!(of(&seen).ledger, Ledger::Open);
        seen.has_ledger = false;
        assert_eq!(of(&seen).ledger, Ledger::None);
    }
}
