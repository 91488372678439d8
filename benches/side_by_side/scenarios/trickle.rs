//! Many connections that send a little each: what a message costs, and how long it takes to the
//! sink.

use super::{ALL_SERVERS, DRAINLINE, FLOOR, GO, GO_AND_TOKIO, NO_SLOWER_THAN_GO, TOKIO, TOKIO_1};
use crate::figures::Metric::{CpuNs, Delivered, LatencyP50Us, LatencyP99Us};
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

/// Neither reads nor the consumer wait for more.
const OFF: Entrant = DRAINLINE
    .labelled("drainline, off")
    .with(&["--coalesce", "off"]);

const BOTH_TOKIOS: &[&str] = &["tokio, 2 workers", "tokio, 1 thread"];
const EVERYBODY_ELSE: &[&str] = &["go", "tokio, 2 workers", "tokio, 1 thread"];

/// The longest that a read is delayed by default, in microseconds.
const MAX_READ_DELAY_US: f64 = 50_000.0;

const TRICKLE: &[Target] = &[
    Target::at_most("drainline", CpuNs, 0.4, &["go"]),
    Target::at_most("drainline", CpuNs, 0.7, BOTH_TOKIOS),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]).plus(MAX_READ_DELAY_US),
    Target::is_at_least("drainline", Delivered, 1.0),
];

const NEAR_THE_FLOOR: &[Target] = &[Target::at_most("drainline, off", CpuNs, 1.4, &["floor"])];
const fn paced(connections: usize, rate: u32) -> Batches {
    Batches::Paced { connections, rate }
}

/// The floor has no sink, and neither has who is held against it.
const fn off(name: &'static str, work: Batches) -> Scenario {
    Scenario {
        name,
        what: "the same, nothing waits for more; sink null, as the floor has none",
        work,
        sink: Sink::Null,
        entrants: &[OFF, FLOOR, GO],
        targets: NEAR_THE_FLOOR,
    }
}

const fn defaults(name: &'static str, what: &'static str, work: Batches) -> Scenario {
    Scenario {
        name,
        what,
        work,
        sink: Sink::Fifo,
        entrants: ALL_SERVERS,
        targets: TRICKLE,
    }
}

pub(super) const ALL: &[Scenario] = &[
    defaults(
        "trickle-500x100",
        "trickle: 500 connections, 100 messages/s each; CPU and latency to the sink, defaults",
        paced(500, 100),
    ),
    off("trickle-500x100-off", paced(500, 100)),
    defaults(
        "trickle-50x1000",
        "trickle: 50 connections, 1,000 messages/s each; CPU and latency to the sink, defaults",
        paced(50, 1000),
    ),
    off("trickle-50x1000-off", paced(50, 1000)),
    Scenario {
        name: "trickle-2000x10",
        what: "trickle: 2,000 connections, 10 messages/s each, defaults",
        work: paced(2000, 10),
        sink: Sink::Fifo,
        entrants: &[
            DRAINLINE,
            DRAINLINE
                .labelled("drainline, not coalescing")
                .with(&["--coalesce", "off"]),
            GO,
        ],
        targets: &[Target::at_most(
            "drainline",
            CpuNs,
            1.15,
            &["drainline, not coalescing"],
        )],
    },
    Scenario {
        name: "latency-100x100",
        what: "latency to the sink: 100 connections, 100 messages/s each, defaults",
        work: paced(100, 100),
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: &[
            Target::at_most("drainline", LatencyP50Us, 1.0, &["go"]),
            Target::at_most("drainline", LatencyP50Us, 1.5, &["tokio, 1 thread"]),
            Target::at_most("drainline", CpuNs, 1.1, &["drainline (before)"]),
            Target::at_most("drainline", LatencyP99Us, 1.0, EVERYBODY_ELSE),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "latency-500x100",
        what: "latency to the sink: 500 connections, 100 messages/s each, defaults",
        work: paced(500, 100),
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: &[
            Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]).plus(MAX_READ_DELAY_US),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "latency-500x100-off",
        what: "the same, nothing waits for more",
        work: paced(500, 100),
        sink: Sink::Fifo,
        entrants: &[OFF.labelled("drainline"), GO, TOKIO, TOKIO_1],
        targets: NO_SLOWER_THAN_GO,
    },
];
