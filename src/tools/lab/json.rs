//! What was found, for programs: everything, with the unit in each field's name.

use serde_json::{Map, Value, json};

use super::super::workload::{ClientPace, Crowd, Stall, Workload};
use super::columns::COLUMNS;
use super::outcome::{Findings, Metrics, Outcome, Point, Recovery};

pub(crate) fn json(findings: &Findings) -> Value {
    json!({
        "load": findings.load,
        "workload": workload(&findings.workload),
        "command": findings.command,
        "strategies": findings.outcomes.iter().map(outcome).collect::<Vec<_>>(),
    })
}

fn workload(workload: &Workload) -> Value {
    json!({
        "connections": workload.connections(),
        "crowds": workload.crowds.iter().map(crowd).collect::<Vec<_>>(),
        "sink_messages_per_second": workload.sink.rate,
        "stalls": workload.sink.stalls.iter().map(stall).collect::<Vec<_>>(),
        "duration_seconds": workload.duration.as_secs_f64(),
        "seed": workload.seed,
    })
}

fn crowd(crowd: &Crowd) -> Value {
    let (pace, rate) = match crowd.pace {
        ClientPace::Rate(rate) => ("rate", Some(rate)),
        ClientPace::Greedy => ("greedy", None),
        ClientPace::Drip => ("drip", None),
    };
    json!({
        "connections": crowd.connections,
        "message_bytes": crowd.size,
        "pace": pace,
        "messages_per_second_each": rate,
        "from_seconds": crowd.from.as_secs_f64(),
        "until_seconds": crowd.until.as_secs_f64(),
        "reconnect_seconds": crowd.reconnect.map(|stay| stay.as_secs_f64()),
    })
}

fn stall(stall: &Stall) -> Value {
    json!({
        "at_seconds": stall.at.as_secs_f64(),
        "lasts_seconds": stall.lasts.as_secs_f64(),
    })
}

fn outcome(outcome: &Outcome) -> Value {
    json!({
        "strategy": outcome.strategy,
        "flags": outcome.flags,
        "by_hand": outcome.by_hand(),
        "sentence": outcome.sentence,
        "metrics": metrics(&outcome.metrics),
        "simulated": outcome.simulated.as_ref().map(metrics),
        "timeline": outcome.timeline.iter().map(point).collect::<Vec<_>>(),
    })
}

/// Those of the table, and what they were made of.
fn metrics(of: &Metrics) -> Value {
    let columns = COLUMNS
        .iter()
        .map(|column| (column.key, (column.value)(of)));
    let recovered = match of.recovery {
        Recovery::NotAsked => Value::Null,
        Recovery::After(_) => json!(true),
        Recovery::Never => json!(false),
    };
    let parts = [
        ("threads_before", json!(of.threads_before)),
        ("threads_after", json!(of.threads_after)),
        ("peak_descriptors", json!(of.peak_descriptors)),
        ("peak_buffered_messages", json!(of.peak_buffered)),
        ("sent_messages", json!(of.sent)),
        ("lost_messages_by_reason", by_reason(&of.lost)),
        ("rejected_clients_by_reason", by_reason(&of.rejected)),
        ("recovered", recovered),
        ("stopped_at", json!(of.stopped_at)),
        ("died", json!(of.died)),
    ];
    let fields = columns.chain(parts);
    fields
        .map(|(key, value)| (key.to_owned(), value))
        .collect::<Map<_, _>>()
        .into()
}

fn by_reason(counts: &[(String, u64)]) -> Value {
    let fields = counts
        .iter()
        .map(|(reason, count)| (reason.clone(), json!(count)));
    fields.collect::<Map<_, _>>().into()
}

fn point(point: &Point) -> Value {
    json!({
        "at_seconds": point.at.as_secs_f64(),
        "threads": point.threads,
        "memory_bytes": point.memory_bytes,
        "descriptors": point.descriptors,
        "buffered_messages": point.buffered,
        "longest_wait_seconds": point.longest_wait.as_secs_f64(),
        "delivered_messages": point.delivered,
        "lost_messages": point.lost,
        "rejected_clients": point.rejected,
        "overload": point.level.map(drainline::policy::OverloadLevel::name),
    })
}

#[cfg(test)]
mod tests {
    use super::super::fake;
    use super::*;

    #[test]
    fn everything_is_in_it() {
        let findings = fake::findings();
        let value = json(&findings);
        assert_eq!(value["load"], "slow-sink");
        assert_eq!(value["workload"]["connections"], 200);
        assert_eq!(
            value["workload"]["crowds"][0]["messages_per_second_each"],
            100
        );
        assert_eq!(value["workload"]["stalls"][0]["lasts_seconds"], 2.0);
        for (outcome, told) in findings.outcomes.iter().zip(
            value["strategies"]
                .as_array()
                .expect("an array of strategies"),
        ) {
            let metrics = &outcome.metrics;
            assert_eq!(told["strategy"], outcome.strategy);
            assert_eq!(told["metrics"]["threads_left"], metrics.threads_left());
            assert_eq!(told["metrics"]["lost_messages"], metrics.lost());
            let points = told["timeline"].as_array().map(Vec::len);
            assert_eq!(points, Some(outcome.timeline.len()));
            assert_eq!(
                told["timeline"][20]["threads"], outcome.timeline[20].threads,
                "{}",
                outcome.strategy
            );
        }
        let layered = &value["strategies"][fake::STRATEGIES.len() - 1];
        assert_eq!(
            layered["metrics"]["lost_messages_by_reason"]["connection_closed"],
            1480
        );
        assert_eq!(layered["metrics"]["ledger_closes"], true);
        assert_eq!(layered["timeline"][0]["overload"], "normal");
    }
}
