//! A stream of Redis as the sink, in bulk and far away.

use std::time::Duration;

use super::DRAINLINE;
use crate::figures::Metric::{Behind, Delivered, Offered, Rate};
use crate::peer::Peer;
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "redis-bulk",
        what: "8 connections, 128-byte lines in bulk into a stream of Redis",
        work: Batches::Bulk {
            connections: 8,
            message_bytes: 128,
            duration: Duration::from_millis(3000),
        },
        sink: Sink::Redis,
        entrants: &[
            DRAINLINE,
            Entrant::new("redis-benchmark -P 512 -c 1", Peer::RedisBenchmark),
        ],
        targets: &[
            Target::at_least("drainline", Rate, 1.0, &["redis-benchmark -P 512 -c 1"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "redis-20ms",
        what: "10,000 one-message batches a second into a stream of Redis, 20 ms away",
        work: Batches::Far {
            connections: 100,
            rate: 100,
            round_trip: Duration::from_millis(20),
        },
        sink: Sink::Redis,
        entrants: &[DRAINLINE],
        targets: &[
            Target::is_at_most("drainline", Behind, 999.0),
            Target::is_at_least("drainline", Offered, 0.95),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
];
