//! Outputs to Kafka with the least and the most that they may have under way, one and several,
//! before brokers that are away, say nothing, or take their time.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rdkafka::mocking::MockCluster;

use super::cell::{Cell, Step};
use super::outputs::{HUGE, LONGEST, Load, MUCH, TINY, cell, output};
use super::peers;

const AWAY: &str = "127.0.0.1:NOBODY";
const DEAF: &str = "127.0.0.1:PEER";
const SMALL: Load = Load { size: 1, ..TINY };
/// What is under way is in the buffer, too, so a large queue takes a large buffer to fill.
const MANY: Load = Load {
    buffer_bytes: 64 << 20,
    messages: 1_000_000,
    size: 1,
    ..MUCH
};
const LARGE: Load = Load {
    buffer_bytes: 256 << 20,
    ..MUCH
};

/// librdkafka's own mock, 20 ms away: for all cells, and until the process ends.
fn slow() -> String {
    static BROKERS: OnceLock<String> = OnceLock::new();
    let start = || {
        let cluster = Box::leak(Box::new(MockCluster::new(3).unwrap()));
        cluster.create_topic("topic", 4, 3).unwrap();
        for broker in 1..=3 {
            let trip = Duration::from_millis(20);
            cluster.broker_round_trip_time(broker, trip).unwrap();
        }
        cluster.bootstrap_servers()
    };
    BROKERS.get_or_init(start).clone()
}

/// So many outputs, each of which takes all.
fn of(count: usize, brokers: &str, rows: &str, load: Load) -> Cell {
    let output = |nth: usize| {
        let sink = format!("kafka://{brokers}/topic");
        output(&sink, &format!("name = 'n{nth}'\n{rows}"))
    };
    let outputs: String = (0..count).map(output).collect();
    let name = format!("kafka, {count} x {brokers}, {rows:?}");
    cell(&name, &outputs, peers::never_reads, load)
}

/// Until the queues are full and the senders wait.
fn full(count: usize, brokers: &str, rows: &str, load: Load) -> Cell {
    let steps = move || {
        vec![
            Step::Connect(load.connections, load.script()),
            Step::Push,
            Step::Settle,
        ]
    };
    Cell {
        steps: Arc::new(steps),
        ..of(count, brokers, rows, load)
    }
}

pub fn all() -> Vec<Cell> {
    let slow = &slow();
    let large = "queue_bytes = '256MiB'\n";
    let largest = "queue_bytes = '64MiB'\nmessage_max_bytes = '20MiB'\n";
    let many = "queue_messages = 1000000\nkey = 'host'\n";
    let aside = format!(
        "{}{}",
        output("null", ""),
        output(
            "kafka://127.0.0.1:NOBODY/topic",
            "required = false\nbuffer_bytes = '128KiB'\nenvelope = 'json'"
        )
    );
    vec![
        full(1, AWAY, "", MANY),
        full(1, DEAF, many, MANY),
        full(4, AWAY, "queue_messages = 1\n", LONGEST),
        full(4, AWAY, "", Load { size: 100, ..MANY }),
        full(1, DEAF, "queue_bytes = '1MiB'\n", LONGEST),
        full(1, AWAY, "queue_bytes = '1MiB'\n", MANY),
        full(1, DEAF, large, LARGE),
        full(1, DEAF, largest, HUGE),
        full(2, AWAY, "envelope = 'json'\n", MANY),
        cell("kafka, best effort", &aside, peers::reads, SMALL),
        of(1, slow, "linger = '0s'\n", SMALL),
        of(4, slow, "compression = 'lz4'\nlinger = '100ms'\n", MUCH),
        of(1, slow, large, LARGE),
        of(1, slow, largest, HUGE),
        of(4, slow, "queue_messages = 1\nmax_brokers = 3\n", TINY),
    ]
}
