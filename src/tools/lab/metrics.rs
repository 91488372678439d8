//! What a ledger and a timeline come to.

use serde_json::Value;

use super::super::workload::Workload;
use super::outcome::{Ledger, Metrics, Point, Recovery};

/// Keeps what the server's ledger says; `None`: it could not tell any more.
pub(super) fn keep_ledger(metrics: &mut Metrics, told: Option<Value>) {
    let told = told.unwrap_or_default();
    metrics.lost = counts(&told["dropped"]);
    metrics.rejected = counts(&told["connections"]["rejected"]);
    metrics.ledger = match told["balanced"].as_bool() {
        Some(true) => Ledger::Closes,
        _ => Ledger::Open,
    };
}

fn counts(value: &Value) -> Vec<(String, u64)> {
    let fields = value.as_object().into_iter().flatten();
    let counts = fields.map(|(reason, count)| (reason.clone(), count.as_u64().unwrap_or(0)));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// From the end of the last stall to the first look at which nobody waits and the buffer is all but
/// empty.
pub(super) fn recovery(workload: &Workload, timeline: &[Point]) -> Recovery {
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
        let mut metrics = Metrics::default();
        assert_eq!(metrics.ledger, Ledger::None);
        keep_ledger(&mut metrics, Some(told));
        assert_eq!(metrics.ledger, Ledger::Closes);
        assert_eq!(metrics.lost, [("connection_closed".to_owned(), 3)]);
        assert_eq!(metrics.rejected, [("paused".to_owned(), 2)]);
        keep_ledger(&mut metrics, None);
        assert_eq!(metrics.ledger, Ledger::Open);
    }
}
