//! Connections themselves: short ones, quiet ones, and those that wait for replies.

use super::{ALL_SERVERS, GO, GO_AND_TOKIO, NO_SLOWER_THAN_GO, TOKIO, TOKIO_1};
use crate::figures::Metric::{CpuNs, Delivered, IdleBytes, IdleBytesAfterBurst, Rate};
use crate::peer::Peer;
use crate::scenario::{Batches, Burst, Entrant, Scenario, Sink, Target};

/// The library, in a server that replies.
const LIBRARY: Entrant = Entrant::new("drainline", Peer::Library);

const IDLE: &[Target] = &[Target::at_most("drainline", IdleBytes, 1.02, &["go"])];

const fn dialogue(name: &'static str, what: &'static str, clients: usize) -> Scenario {
    Scenario {
        name,
        what,
        work: Batches::Dialogue { clients },
        sink: Sink::Null,
        entrants: &[LIBRARY, GO, TOKIO, TOKIO_1],
        targets: NO_SLOWER_THAN_GO,
    }
}

pub(super) const ALL: &[Scenario] = &[
    dialogue("request-response-1", "request and reply: 1 client", 1),
    dialogue("request-response-64", "request and reply: 64 clients", 64),
    Scenario {
        name: "connect-close-8",
        what: "connect, a line, wait for the close: 8 clients",
        work: Batches::Churn { clients: 8 },
        sink: Sink::Null,
        entrants: ALL_SERVERS,
        targets: &[
            Target::at_least("drainline", Rate, 1.2, &["go"]),
            Target::at_most("drainline", CpuNs, 0.8, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "idle-9000",
        what: "idle: 9,000 connections that sent a line",
        work: Batches::Idle {
            connections: 9000,
            burst: None,
        },
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: IDLE,
    },
    Scenario {
        name: "idle-15000",
        what: "idle: 15,000 connections that sent a line",
        work: Batches::Idle {
            connections: 15_000,
            burst: None,
        },
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: IDLE,
    },
    Scenario {
        name: "idle-burst-4000",
        what: "idle: 9,000 connections, quiet again after a burst of 60 KB on 4,000 of them",
        work: Batches::Idle {
            connections: 9000,
            burst: Some(Burst {
                connections: 4000,
                bytes: 60_000,
            }),
        },
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: &[
            Target::at_most("drainline", IdleBytes, 1.02, &["go"]),
            Target::at_most("drainline", IdleBytesAfterBurst, 0.6, &["go"]),
        ],
    },
];
