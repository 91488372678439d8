//! Thousands that come at once, leave at once, or come back at once.

use super::{DRAINLINE, GO, GO_AND_TOKIO};
use crate::figures::Metric::{
    CleanExits, ConnectSeconds, CpuNs, Delivered, ExitSeconds, JoinedSeconds, Overflowed,
    SynRetries, UnhinderedSeconds,
};
use crate::scenario::{Batches, Scenario, Sink, Target};

/// The largest crowd: server and clients each need that many descriptors, and a system may allow a
/// process no more than 20,000.
const FULL: usize = 16_000;

const ARRIVAL: &[Target] = &[
    Target::at_most("drainline", ConnectSeconds, 1.1, &["go"]),
    Target::at_most("drainline", Overflowed, 1.0, &["go"]),
    Target::at_most("drainline", UnhinderedSeconds, 1.5, &["go"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];

const fn crowd_in(name: &'static str, what: &'static str, connections: usize) -> Scenario {
    Scenario {
        name,
        what,
        work: Batches::CrowdIn { connections },
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: ARRIVAL,
    }
}

pub(super) const ALL: &[Scenario] = &[
    crowd_in(
        "crowd-in-5000",
        "5,000 connects in sequence, a line each, by a client that does nothing else",
        5000,
    ),
    crowd_in("crowd-in-9000", "the same, 9,000", 9000),
    crowd_in("crowd-in-14000", "the same, 14,000", 14_000),
    crowd_in("crowd-in-16000", "the same, 16,000", FULL),
    Scenario {
        name: "herd-16000",
        what: "16,000 connections come back with a line each after a restart of the server",
        work: Batches::Herd { connections: FULL },
        sink: Sink::Fifo,
        entrants: GO_AND_TOKIO,
        targets: &[
            Target::at_most("drainline", SynRetries, 1.0, &["go"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "crowd-out-9000",
        what: "9,000 connections are closed at once, until nothing is left of them",
        work: Batches::CrowdOut { connections: 9000 },
        sink: Sink::Fifo,
        entrants: &[DRAINLINE, GO],
        targets: &[
            Target::is_at_most("drainline", JoinedSeconds, 0.5).if_busy(2.0),
            Target::at_most("drainline", CpuNs, 0.4, &["drainline (before)"]),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
    Scenario {
        name: "crowd-drain-9000",
        what: "SIGTERM with 9,000 connections that are quiet",
        work: Batches::CrowdDrain { connections: 9000 },
        sink: Sink::Fifo,
        entrants: &[DRAINLINE],
        targets: &[
            Target::is_at_most("drainline", ExitSeconds, 3.0),
            Target::is_at_least("drainline", CleanExits, 1.0),
            Target::is_at_least("drainline", Delivered, 1.0),
        ],
    },
];
