//! What integration tests share: tagged messages and their checker, a child process that cannot
//! outlive its test, readings of /proc, clients, and waits with a deadline.
//!
//! Every wait here is bounded by [`wait::DEADLINE`] unless its documentation says otherwise, and
//! everything listens and connects on loopback only.

// Each test file compiles this module anew and uses a part of it, so what one leaves out is not
// dead.
#![allow(dead_code)]
// `pub` here means: for the tests. A test file exports nothing.
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, clippy::print_stderr)]

pub mod certificates;
pub mod checker;
pub mod child;
pub mod client;
pub mod corpus;
pub mod crowd;
pub mod echo;
pub mod embedded;
pub mod executable;
pub mod exit;
pub mod fifo;
pub mod guard;
pub mod handlers;
pub mod http_peer;
pub mod idle;
pub mod launch;
pub mod ledger;
pub mod limits;
pub mod mount;
pub mod page;
pub mod port;
pub mod proc;
pub mod programs;
pub mod puppets;
#[cfg(feature = "redis")]
pub mod redis;
pub mod relay;
pub mod root;
pub mod rsyslog;
pub mod small;
pub mod tagged;
pub mod told;
pub mod tool;
pub mod unix;
pub mod valve;
pub mod wait;
