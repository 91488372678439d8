//! Behind a balancer: the head of the PROXY protocol is read whole or not at all, its client is the
//! peer that limits, lists and the log see, and nothing is lost or counted twice because of it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../heads/mod.rs"]
mod heads;

mod behind;
#[cfg(feature = "cli")]
mod haproxy;
mod head;
mod lists;
mod opening;
#[cfg(feature = "cli")]
mod program;
mod unix;
mod waits;
