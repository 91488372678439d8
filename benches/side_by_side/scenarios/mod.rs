//! The scenarios, and what is to be reached in each.

mod bulk;
mod connections;
mod crowds;
mod kafka;
mod outputs;
mod redis;
mod tls;
mod trickle;

use crate::figures::Metric::{Delivered, LatencyP50Us, LatencyP99Us};
use crate::peer::Peer;
use crate::scenario::{Entrant, Scenario, Target};

pub(crate) fn all() -> impl Iterator<Item = &'static Scenario> {
    [
        bulk::ALL,
        trickle::ALL,
        connections::ALL,
        crowds::ALL,
        tls::ALL,
        redis::ALL,
        kafka::ALL,
        outputs::ALL,
    ]
    .into_iter()
    .flatten()
}

// Who takes part in several of them.
const DRAINLINE: Entrant = Entrant::new("drainline", Peer::Drainline);
const GO: Entrant = Entrant::new("go", Peer::Go);
const TOKIO: Entrant = Entrant::new("tokio, 2 workers", Peer::Tokio);
const TOKIO_1: Entrant = Entrant::new("tokio, 1 thread", Peer::TokioOneThread);
const FLOOR: Entrant = Entrant::new("floor", Peer::Floor);
const RSYSLOG: Entrant = Entrant::new("rsyslog", Peer::Rsyslog);
const SYSLOG_NG: Entrant = Entrant::new("syslog-ng", Peer::SyslogNg);
const ALL_SERVERS: &[Entrant] = &[DRAINLINE, GO, TOKIO, TOKIO_1, FLOOR, RSYSLOG, SYSLOG_NG];
const GO_AND_TOKIO: &[Entrant] = &[DRAINLINE, GO, TOKIO, TOKIO_1];

// Named by their labels in targets of several of them.
const NO_SLOWER_THAN_GO: &[Target] = &[
    Target::at_most("drainline", LatencyP50Us, 1.0, &["go"]),
    Target::at_most("drainline", LatencyP99Us, 1.0, &["go"]),
    Target::is_at_least("drainline", Delivered, 1.0),
];
