//! Programs that embed drainline, whole and short: what an embedder writes. Each has a `start` for
//! the tests and a `main` as it would be run.

pub mod ports;
pub mod pubsub;
pub mod resp;
pub mod sqlite;
pub mod statsd;
pub mod tls;
pub mod two_ports;
