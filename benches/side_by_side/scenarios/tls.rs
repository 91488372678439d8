//! The same over TLS 1.3 with AES-128-GCM: in bulk, at a pace, from handshake to handshake, and
//! what a quiet session holds.

use std::time::Duration;

use super::{DRAINLINE, GO, RSYSLOG};
use crate::figures::Metric::{
    BytesPerSecond, CpuNs, Delivered, IdleBytes, IdleBytesAfterBurst, Rate,
};
use crate::peer::Peer;
use crate::scenario::{Batches, Burst, Entrant, Scenario, Sink, Target};

const OURS: Entrant = DRAINLINE.over_tls();
const GO_TLS: Entrant = GO.over_tls();
const FLOOR_TLS: Entrant = Entrant::new("floor", Peer::FloorTls).over_tls();
const RSYSLOG_OSSL: Entrant = RSYSLOG.over_tls();

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "tls-bulk",
        what: "TLS in bulk: 8 connections, 128-byte lines, AES-128-GCM, sink null",
        work: Batches::Bulk {
            connections: 8,
            message_bytes: 128,
            duration: Duration::from_millis(2000),
        },
        sink: Sink::Null,
        entrants: &[OURS, FLOOR_TLS, GO_TLS, RSYSLOG_OSSL],
        targets: &[
            Target::at_least("drainline", BytesPerSecond, 0.85, &["floor"]),
            Target::at_most("drainline", CpuNs, 1.2, &["floor"]),
            Target::at_least("drainline", BytesPerSecond, 2.5, &["go"]),
            Target::at_most("drainline", CpuNs, 0.3, &["go"]),
            Target::at_least("drainline", BytesPerSecond, 10.0, &["rsyslog"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "tls-trickle",
        what: "TLS trickle: 500 connections, 100 messages/s each; CPU and latency to the sink",
        work: Batches::Paced {
            connections: 500,
            rate: 100,
        },
        sink: Sink::Fifo,
        entrants: &[OURS, GO_TLS],
        targets: &[
            Target::at_most("drainline", CpuNs, 0.45, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "tls-handshake",
        what: "TLS: connect, full handshake, a line, wait for the close: 8 clients",
        work: Batches::Churn { clients: 8 },
        sink: Sink::Null,
        entrants: &[OURS, GO_TLS, FLOOR_TLS],
        targets: &[
            Target::at_most("drainline", CpuNs, 0.65, &["go"]),
            Target::at_least("drainline", Rate, 1.0, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "tls-idle",
        what: "TLS idle: 4,000 connections that sent a line; then quiet again after 60 KB on 2,000",
        work: Batches::Idle {
            connections: 4000,
            burst: Some(Burst {
                connections: 2000,
                bytes: 60_000,
            }),
        },
        sink: Sink::Fifo,
        entrants: &[OURS, GO_TLS],
        targets: &[
            Target::at_most("drainline", IdleBytes, 1.0, &["go"]),
            Target::at_most("drainline", IdleBytesAfterBurst, 1.0, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
];
