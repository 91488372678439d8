//! The scenarios, and what is to be reached in each.

use std::time::Duration;

use crate::figures::Metric::{
    BytesPerSecond, CpuNs, Delivered, IdleBytes, IdleBytesAfterBurst, LatencyP50Us, LatencyP99Us,
    ListenOverflows, PeakOfBound, Rate, Recovered, Seconds,
};
use crate::scenario::{Burst, Entrant, Scenario, Sink, Target, Work};
use crate::servers::Peer;

const DRAINLINE: Entrant = Entrant::new("drainline", Peer::Drainline);
/// Neither reads nor the consumer wait for more.
const OFF: Entrant =
    DRAINLINE
        .labelled("drainline, off")
        .with(&["--coalesce", "off", "--linger", "off"]);
const LINGER: Entrant =
    DRAINLINE
        .labelled("drainline, linger")
        .with(&["--coalesce", "off", "--linger", "auto"]);
const GO: Entrant = Entrant::new("go", Peer::Go);
const TOKIO: Entrant = Entrant::new("tokio, 2 workers", Peer::Tokio);
const TOKIO_1: Entrant = Entrant::new("tokio, 1 thread", Peer::TokioOneThread);
const FLOOR: Entrant = Entrant::new("floor", Peer::Floor);
const RSYSLOG: Entrant = Entrant::new("rsyslog", Peer::Rsyslog);
const SYSLOG_NG: Entrant = Entrant::new("syslog-ng", Peer::SyslogNg);
const IPERF3: Entrant = Entrant::new("iperf3", Peer::Iperf3);
const WRITE: Entrant = Entrant::new("write(2)", Peer::WriteCall);
const LIBRARY: Entrant = Entrant::new("drainline", Peer::Library);
const TO_NULL: Entrant = DRAINLINE.labelled("drainline, null").into(Sink::Null);

const ALL_SERVERS: &[Entrant] = &[DRAINLINE, GO, TOKIO, TOKIO_1, FLOOR, RSYSLOG, SYSLOG_NG];
const BULK: &[Entrant] = &[
    DRAINLINE, IPERF3, FLOOR, GO, TOKIO, TOKIO_1, RSYSLOG, SYSLOG_NG,
];
const TO_A_FILE: &[Entrant] = &[
    DRAINLINE, WRITE, TO_NULL, GO, TOKIO, TOKIO_1, RSYSLOG, SYSLOG_NG,
];
const LATENCY: &[Entrant] = &[DRAINLINE, GO, TOKIO, TOKIO_1];
const FRAMINGS: &[Entrant] = &[
    DRAINLINE.labelled("lines"),
    DRAINLINE.labelled("nul").framed("nul"),
    DRAINLINE.labelled("octet-counted").framed("octet-counted"),
    DRAINLINE
        .labelled("length-prefixed")
        .framed("length-prefixed"),
    DRAINLINE
        .labelled("syslog")
        .framed("syslog")
        .sent_as("lines"),
];
const SCALE: &[Entrant] = &[
    DRAINLINE.labelled("1 connection").over(1),
    DRAINLINE.labelled("8 connections").over(8),
    DRAINLINE.labelled("64 connections").over(64),
    DRAINLINE.labelled("512 connections").over(512),
    DRAINLINE.labelled("4096 connections").over(4096),
];
const SIZES: &[&str] = &[
    "1 connection",
    "8 connections",
    "64 connections",
    "512 connections",
    "4096 connections",
];
const BOTH_TOKIOS: &[&str] = &["tokio, 2 workers", "tokio, 1 thread"];
const GO_AND_TOKIOS: &[&str] = &["go", "tokio, 2 workers", "tokio, 1 thread"];

/// The longest that a read is delayed by default, in microseconds.
const MAX_READ_DELAY_US: f64 = 50_000.0;

const fn bulk(message_bytes: usize, milliseconds: u64) -> Work {
    Work::Bulk {
        connections: 8,
        message_bytes,
        duration: Duration::from_millis(milliseconds),
    }
}

const fn paced(connections: usize, rate: u32) -> Work {
    Work::Paced { connections, rate }
}

const TRICKLE: &[Target] = &[
    Target::at_most("drainline", CpuNs, 0.4, &["go"]),
    Target::at_most("drainline", CpuNs, 0.7, BOTH_TOKIOS),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]).plus(MAX_READ_DELAY_US),
    Target::is_at_least("drainline", Delivered, 1.0),
];
const FILE: &[Target] = &[
    Target::at_least(
        "drainline",
        BytesPerSecond,
        0.9,
        &["write(2)", "drainline, null"],
    ),
    Target::at_least("drainline", BytesPerSecond, 3.0, &["rsyslog"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];
const NO_SLOWER_THAN_GO: &[Target] = &[
    Target::at_most("drainline", LatencyP50Us, 1.0, &["go"]),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];
const IDLE: &[Target] = &[Target::at_most("drainline", IdleBytes, 1.02, &["go"])];

pub(crate) const ALL: &[Scenario] = &[
    Scenario {
        name: "bulk-128",
        what: "bulk: 8 connections, 128-byte lines, sink null",
        work: bulk(128, 2000),
        sink: Sink::Null,
        entrants: BULK,
        targets: &[
            Target::at_least("drainline", BytesPerSecond, 0.95, &["iperf3"]),
            Target::at_least("drainline", BytesPerSecond, 0.75, &["floor"]),
            Target::at_most("drainline", CpuNs, 0.22, &["go"]),
            Target::at_most("drainline", CpuNs, 0.1, &["rsyslog"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "bulk-32",
        what: "bulk: 8 connections, 32-byte lines, sink null",
        work: bulk(32, 2000),
        sink: Sink::Null,
        entrants: BULK,
        targets: &[
            Target::at_least("drainline", BytesPerSecond, 0.9, &["iperf3"]),
            Target::at_most("drainline", CpuNs, 0.12, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "bulk-file-tmpfs",
        what: "bulk to a file in memory: 8 connections, 128-byte lines",
        work: bulk(128, 1000),
        sink: Sink::Tmpfs,
        entrants: TO_A_FILE,
        targets: FILE,
    },
    Scenario {
        name: "bulk-file-disk",
        what: "bulk to a file on the disk: 8 connections, 128-byte lines",
        work: bulk(128, 1000),
        sink: Sink::Disk,
        entrants: TO_A_FILE,
        targets: FILE,
    },
    Scenario {
        name: "framings",
        what: "framings: 8 connections, 128-byte messages in bulk, sink null",
        work: bulk(128, 1500),
        sink: Sink::Null,
        entrants: FRAMINGS,
        targets: &[
            Target::at_least("octet-counted", BytesPerSecond, 0.5, &["lines"]),
            Target::at_least("length-prefixed", BytesPerSecond, 0.5, &["lines"]),
        ],
    },
    Scenario {
        name: "trickle-500x100",
        what: "trickle: 500 connections, 100 messages/s each; CPU and latency to the sink, defaults",
        work: paced(500, 100),
        sink: Sink::Fifo,
        entrants: ALL_SERVERS,
        targets: TRICKLE,
    },
    Scenario {
        name: "trickle-500x100-off",
        what: "the same, nothing waits for more; sink null, as the floor has none",
        work: paced(500, 100),
        sink: Sink::Null,
        entrants: &[OFF, FLOOR, GO],
        targets: &[Target::at_most("drainline, off", CpuNs, 1.4, &["floor"])],
    },
    Scenario {
        name: "trickle-500x100-linger",
        what: "the same, only the consumer lingers; sink null, as the floor has none",
        work: paced(500, 100),
        sink: Sink::Null,
        entrants: &[LINGER, FLOOR, GO],
        targets: &[Target::at_most(
            "drainline, linger",
            CpuNs,
            1.15,
            &["floor"],
        )],
    },
    Scenario {
        name: "trickle-50x1000",
        what: "trickle: 50 connections, 1,000 messages/s each; CPU and latency to the sink, defaults",
        work: paced(50, 1000),
        sink: Sink::Fifo,
        entrants: ALL_SERVERS,
        targets: TRICKLE,
    },
    Scenario {
        name: "trickle-50x1000-off",
        what: "the same, nothing waits for more; sink null, as the floor has none",
        work: paced(50, 1000),
        sink: Sink::Null,
        entrants: &[OFF, FLOOR, GO],
        targets: &[Target::at_most("drainline, off", CpuNs, 1.4, &["floor"])],
    },
    Scenario {
        name: "trickle-50x1000-linger",
        what: "the same, only the consumer lingers; sink null, as the floor has none",
        work: paced(50, 1000),
        sink: Sink::Null,
        entrants: &[LINGER, FLOOR, GO],
        targets: &[Target::at_most(
            "drainline, linger",
            CpuNs,
            1.15,
            &["floor"],
        )],
    },
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
        entrants: LATENCY,
        targets: &[
            Target::at_most("drainline", LatencyP50Us, 1.0, GO_AND_TOKIOS),
            Target::at_most("drainline", LatencyP99Us, 1.0, GO_AND_TOKIOS),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "latency-500x100",
        what: "latency to the sink: 500 connections, 100 messages/s each, defaults",
        work: paced(500, 100),
        sink: Sink::Fifo,
        entrants: LATENCY,
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
    Scenario {
        name: "request-response-1",
        what: "request and reply: 1 client",
        work: Work::Dialogue { clients: 1 },
        sink: Sink::Null,
        entrants: &[LIBRARY, GO, TOKIO, TOKIO_1],
        targets: NO_SLOWER_THAN_GO,
    },
    Scenario {
        name: "request-response-64",
        what: "request and reply: 64 clients",
        work: Work::Dialogue { clients: 64 },
        sink: Sink::Null,
        entrants: &[LIBRARY, GO, TOKIO, TOKIO_1],
        targets: NO_SLOWER_THAN_GO,
    },
    Scenario {
        name: "connect-close-8",
        what: "connect, a line, wait for the close: 8 clients",
        work: Work::Churn { clients: 8 },
        sink: Sink::Null,
        entrants: ALL_SERVERS,
        targets: &[
            Target::at_least("drainline", Rate, 1.2, &["go"]),
            Target::at_most("drainline", CpuNs, 0.8, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "connects-5000",
        what: "5,000 connects in sequence, each a line",
        work: Work::Crowd { connections: 5000 },
        sink: Sink::Fifo,
        entrants: LATENCY,
        targets: &[
            Target::at_most("drainline", Seconds, 1.1, &["go"]),
            Target::is_at_most("drainline", ListenOverflows, 0.0),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "idle-9000",
        what: "idle: 9,000 connections that sent a line",
        work: Work::Idle {
            connections: 9000,
            burst: None,
        },
        sink: Sink::Fifo,
        entrants: LATENCY,
        targets: IDLE,
    },
    Scenario {
        name: "idle-15000",
        what: "idle: 15,000 connections that sent a line",
        work: Work::Idle {
            connections: 15_000,
            burst: None,
        },
        sink: Sink::Fifo,
        entrants: LATENCY,
        targets: IDLE,
    },
    Scenario {
        name: "idle-burst-4000",
        what: "idle: 9,000 connections, quiet again after a burst of 60 KB on 4,000 of them",
        work: Work::Idle {
            connections: 9000,
            burst: Some(Burst {
                connections: 4000,
                bytes: 60_000,
            }),
        },
        sink: Sink::Fifo,
        entrants: LATENCY,
        targets: &[
            Target::at_most("drainline", IdleBytes, 1.02, &["go"]),
            Target::at_most("drainline", IdleBytesAfterBurst, 0.6, &["go"]),
        ],
    },
    Scenario {
        name: "stall-10s",
        what: "the sink stalls for 10 s under 1,000 senders that wait",
        work: Work::Stall { connections: 1000 },
        sink: Sink::Fifo,
        entrants: &[DRAINLINE.with(&["--when-full", "wait"])],
        targets: &[
            Target::is_at_most("drainline", PeakOfBound, 1.0),
            Target::is_at_least("drainline", Delivered, 1.0),
            Target::is_at_least("drainline", Recovered, 0.95),
        ],
    },
    Scenario {
        name: "scale",
        what: "scale: 1 to 4,096 connections, 128-byte lines in bulk, sink null",
        work: bulk(128, 2000),
        sink: Sink::Null,
        entrants: SCALE,
        targets: &[
            Target::at_least_of_best("1 connection", BytesPerSecond, 0.7, SIZES),
            Target::at_least_of_best("8 connections", BytesPerSecond, 0.7, SIZES),
            Target::at_least_of_best("64 connections", BytesPerSecond, 0.7, SIZES),
            Target::at_least_of_best("512 connections", BytesPerSecond, 0.7, SIZES),
            Target::at_least_of_best("4096 connections", BytesPerSecond, 0.7, SIZES),
        ],
    },
];
