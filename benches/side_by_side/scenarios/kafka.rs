//! A topic of Kafka as the sink, in bulk and far away.

use std::time::Duration;

use super::DRAINLINE;
use crate::figures::Metric::{Behind, Delivered, Offered, Rate};
use crate::peer::Peer;
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

const BASE: Entrant = Entrant::new("rdkafka loop, BaseProducer", Peer::KafkaLoop);
const THREADED: Entrant = Entrant::new("rdkafka loop, ThreadedProducer", Peer::KafkaLoop);

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "kafka-bulk",
        what: "8 connections, 128-byte lines in bulk into a topic of librdkafka's mock cluster, until \
               all reports have come, against loops of rdkafka that send one record from memory, again \
               and again",
        work: Batches::Bulk {
            connections: 8,
            message_bytes: 128,
            duration: Duration::from_millis(3000),
        },
        sink: Sink::Kafka,
        entrants: &[
            DRAINLINE,
            BASE.with(&["--producer", "base"]),
            THREADED.with(&["--producer", "threaded"]),
        ],
        targets: &[
            Target::at_least_of_best(
                "drainline",
                Rate,
                1.0,
                &[
                    "rdkafka loop, BaseProducer",
                    "rdkafka loop, ThreadedProducer",
                ],
            ),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "kafka-20ms",
        what: "10,000 one-message batches a second into a topic of the mock cluster, 20 ms away",
        work: Batches::Far {
            connections: 100,
            rate: 100,
            round_trip: Duration::from_millis(20),
        },
        sink: Sink::Kafka,
        entrants: &[DRAINLINE],
        targets: &[
            Target::is_at_most("drainline", Behind, 999.0),
            Target::is_at_least("drainline", Offered, 0.95),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
];
