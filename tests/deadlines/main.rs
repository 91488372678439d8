//! Deadlines: no connection waits on its peer for ever, nobody is disconnected for time that
//! the server itself took, and whatever is stuck is named.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod keepalive;
mod listeners;
mod rate;
#[cfg(feature = "cli")]
mod slow_loris;
mod timeouts;
mod watchdog;
