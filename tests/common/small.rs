//! Small servers: the tests of a binary share a process, and the servers of a process promise their
//! limits together. With 1,024 connections each, as by default, those that start last would find
//! too few descriptors left on many machines.

use drainline::ingest::{Ingest, IngestBuilder};
use drainline::{Builder, Config, Server, Weigh};

/// More than most tests need.
const MAX_CONNECTIONS: usize = 64;

/// The default settings, but for [`MAX_CONNECTIONS`].
pub fn config() -> Config {
    let mut config = Config::default();
    config.max_connections = Some(MAX_CONNECTIONS);
    config
}

pub fn server<T: Weigh + Send + 'static>() -> Builder<T> {
    Server::builder().config(config())
}

pub fn ingest() -> IngestBuilder {
    Ingest::builder().config(config())
}
