//! The library as an embedder meets it: what handlers and consumers are given, and whole programs.
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[allow(dead_code)]
#[path = "../streams/encode.rs"]
mod encode;

mod connection;
mod consumer;
mod listeners;
mod messages;
mod paths;
mod requests;
mod signal_stacks;
mod thread_locals;
mod writers;

use drainline::{Builder, Config, Server, Weigh};

/// A server on a free port of loopback. Small: the servers of a process promise their limits
/// together.
fn builder<T: Weigh + Send + 'static>(change: impl FnOnce(&mut Config)) -> Builder<T> {
    let mut config = Config::default();
    config.max_connections = Some(10);
    change(&mut config);
    Server::builder()
        .config(config)
        .listen(common::handlers::anywhere())
}
