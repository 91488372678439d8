//! What outputs cost: passed on to another server.

use std::time::Duration;

use super::DRAINLINE;
use crate::figures::Metric::{BytesPerSecond, Delivered};
use crate::scenario::{Batches, Entrant, Scenario, Sink, Target};

const FORWARD: Entrant = DRAINLINE.labelled("forward").into(Sink::Drainline);
const NULL: Entrant = DRAINLINE.labelled("null").into(Sink::Null);

const fn bulk(milliseconds: u64) -> Batches {
    Batches::Bulk {
        connections: 8,
        message_bytes: 128,
        duration: Duration::from_millis(milliseconds),
    }
}

pub(super) const ALL: &[Scenario] = &[Scenario {
    name: "forward",
    what: "8 connections, 128-byte lines in bulk, passed on over TCP to a drainline with sink null, \
           until that has all, against sink null at once",
    work: bulk(2000),
    sink: Sink::Drainline,
    entrants: &[FORWARD, NULL],
    targets: &[
        Target::at_least("forward", BytesPerSecond, 0.6, &["null"]),
        Target::is_at_least("forward", Delivered, 1.0),
    ],
}];
