//! Connections themselves: short ones, quiet ones, and those that wait for replies.

use super::{DRAINLINE, FLOOR, GO, GO_AND_TOKIO, RSYSLOG, SYSLOG_NG, TOKIO, TOKIO_1};
use crate::figures::Metric::{
    CpuNs, Delivered, IdleBytes, IdleBytesAfterBurst, KernelBytes, LatencyP50Us, LatencyP99Us, Rate,
};
use crate::peer::Peer;
use crate::scenario::{Batches, Burst, Entrant, Scenario, Sink, Target};

/// The library, in a server that replies.
const LIBRARY: Entrant = Entrant::new("drainline", Peer::Library);

/// Its threads end with their connections.
const NO_REUSE: Entrant = DRAINLINE
    .labelled("drainline, no reuse")
    .with(&["--reuse-threads", "off"]);

const BEFORE: &[&str] = &["drainline (before)"];

const IDLE: &[Target] = &[
    Target::at_most("drainline", IdleBytes, 1.02, &["go"]),
    Target::is_at_most("drainline", IdleBytes, 10.6 * 1024.0),
    Target::at_most("drainline", KernelBytes, 1.0, BEFORE),
];

/// Nobody else is there: a reply costs no wake-up.
const LONE_CLIENT: &[Target] = &[
    Target::at_most("drainline", LatencyP50Us, 1.1, &["go"]),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]),
    Target::at_least("drainline", Rate, 0.95, &["go"]),
    Target::at_most("drainline", CpuNs, 1.25, &["go"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];
/// What is done for a lone client harms no others.
const SEVERAL_CLIENTS: &[Target] = &[
    Target::at_least("drainline", Rate, 0.95, BEFORE),
    Target::at_most("drainline", CpuNs, 1.05, BEFORE),
    Target::at_most("drainline", LatencyP50Us, 1.0, &["go"]),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];

const fn dialogue(
    name: &'static str,
    what: &'static str,
    clients: usize,
    targets: &'static [Target],
) -> Scenario {
    Scenario {
        name,
        what,
        work: Batches::Dialogue { clients },
        sink: Sink::Null,
        entrants: &[LIBRARY, GO, TOKIO, TOKIO_1],
        targets,
    }
}

pub(super) const ALL: &[Scenario] = &[
    dialogue(
        "request-response-1",
        "request and reply: 1 client",
        1,
        LONE_CLIENT,
    ),
    dialogue(
        "request-response-8",
        "request and reply: 8 clients",
        8,
        SEVERAL_CLIENTS,
    ),
    dialogue(
        "request-response-64",
        "request and reply: 64 clients",
        64,
        SEVERAL_CLIENTS,
    ),
    Scenario {
        name: "connect-close-8",
        what: "connect, a line, wait for the close: 8 clients",
        work: Batches::Churn { clients: 8 },
        sink: Sink::Null,
        entrants: &[
            DRAINLINE, NO_REUSE, GO, TOKIO, TOKIO_1, FLOOR, RSYSLOG, SYSLOG_NG,
        ],
        targets: &[
            Target::at_least("drainline", Rate, 1.3, &["go"]),
            Target::at_most("drainline", CpuNs, 0.8, &["go"]),
            Target::at_most(
                "drainline, no reuse",
                CpuNs,
                0.6,
                &["drainline, no reuse (before)"],
            ),
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
