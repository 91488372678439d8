//! As much as goes through: to different sinks, in different framings, from few and from many.

use std::time::Duration;

use super::{DRAINLINE, FLOOR, GO, RSYSLOG, SYSLOG_NG, TOKIO, TOKIO_1};
use crate::figures::Metric::{BytesPerSecond, CpuNs, Delivered, PeakOfLimit, Recovered};
use crate::peer::Peer;
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

const IPERF3: Entrant = Entrant::new("iperf3", Peer::Iperf3);
const WRITE: Entrant = Entrant::new("write(2)", Peer::WriteCall);
const TO_NULL: Entrant = DRAINLINE.labelled("drainline, null").into(Sink::Null);

const BULK: &[Entrant] = &[
    DRAINLINE, IPERF3, FLOOR, GO, TOKIO, TOKIO_1, RSYSLOG, SYSLOG_NG,
];
const TO_A_FILE: &[Entrant] = &[
    DRAINLINE, WRITE, TO_NULL, FLOOR, GO, TOKIO, TOKIO_1, RSYSLOG, SYSLOG_NG,
];

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

const fn bulk(message_bytes: usize, milliseconds: u64) -> Batches {
    Batches::Bulk {
        connections: 8,
        message_bytes,
        duration: Duration::from_millis(milliseconds),
    }
}

pub(super) const ALL: &[Scenario] = &[
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
        name: "bulk-unix",
        what: "bulk by a Unix socket: 8 connections, 128-byte lines, sink null",
        work: bulk(128, 2000),
        sink: Sink::Null,
        entrants: &[
            DRAINLINE.labelled("unix").over_unix(),
            DRAINLINE.labelled("tcp"),
        ],
        targets: &[
            Target::at_least("unix", BytesPerSecond, 1.8, &["tcp"]),
            Target::at_most("unix", CpuNs, 0.7, &["tcp"]),
            Target::is_at_least("unix", Delivered, 1.0),
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
        name: "stall-10s",
        what: "the sink stalls for 10 s under 1,000 senders that wait",
        work: Batches::Stall { connections: 1000 },
        sink: Sink::Fifo,
        entrants: &[DRAINLINE.with(&["--when-full", "block"])],
        targets: &[
            Target::is_at_most("drainline", PeakOfLimit, 1.0),
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
