//! Behind a balancer: the head of the PROXY protocol is read whole or not at all, its client is the
//! peer that limits, lists and the log see, and nothing is lost or counted twice because of it.
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../heads/mod.rs"]
mod heads;

#[cfg(feature = "tls")]
#[path = "../tls/authority.rs"]
// A part of it is used here.
#[allow(dead_code)]
mod authority;
#[cfg(any(feature = "cli", feature = "tls"))]
mod before;
mod behind;
#[cfg(feature = "cli")]
mod haproxy;
mod head;
mod lists;
mod opening;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "tls")]
mod tls;
mod unix;
mod waits;
