//! What `drainline plan` promises of its settings, a real server keeps under the same load.

use crate::common::tool::run;
use serde_json::Value;

/// Connections, messages a second on each, their size, what the sink takes, its stall in
/// milliseconds.
const LOADS: [(u64, u64, u64, u64, u64); 4] = [
    (50, 100, 200, 50_000, 1000),
    (20, 50, 4000, 5_000, 1200),
    // The sink never keeps up.
    (100, 40, 1000, 3_000, 500),
    (10, 400, 1000, 8_000, 1500),
];

fn json(args: &[String]) -> Value {
    let (exit, stdout) = run(args);
    exit.assert_code(0);
    serde_json::from_str(&stdout).unwrap()
}

#[test]
fn where_a_plan_promises_to_lose_nothing_the_lab_loses_nothing() {
    for (connections, each, size, sink, stall) in LOADS {
        let same = [
            format!("--connections={connections}"),
            format!("--size={size}"),
            format!("--sink-rate={sink}"),
        ];
        let of_plan = [
            "plan".to_owned(),
            "--json=-".to_owned(),
            format!("--rate={}", connections * each),
            format!("--stall={stall}ms"),
        ];
        let plan = json(&[&of_plan[..], &same].concat());
        assert_eq!(plan["promise"]["loses_nothing"], true, "{plan}");
        let command = plan["command"].as_str().unwrap();
        let flags = command.strip_prefix("drainline ").unwrap().split(' ');
        let of_lab = [
            "lab",
            "--json=-",
            "--preset=slow-sink",
            "--duration=4s",
            "--reconnect=off",
            "--strategies=custom",
        ];
        let load = [
            format!("--rate={each}"),
            format!("--stall={stall}ms@1s"),
            "--".to_owned(),
        ];
        let of_lab = of_lab.map(str::to_owned);
        let flags: Vec<String> = flags.map(str::to_owned).collect();
        let lab = json(&[&of_lab[..], &same, &load, &flags].concat());
        let metrics = &lab["strategies"][0]["metrics"];
        assert!(metrics["sent_messages"].as_u64() > Some(1000), "{metrics}");
        assert_eq!(
            metrics["delivered_messages"], metrics["sent_messages"],
            "{command}: {metrics}"
        );
        assert_eq!(metrics["lost_messages"], 0, "{command}: {metrics}");
        assert_eq!(metrics["ledger_closes"], true, "{command}: {metrics}");
    }
}
