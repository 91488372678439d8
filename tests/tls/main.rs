//! TLS changes nothing but who can read along: what is sent arrives, however records are cut and
//! clients leave; who may not come in stays out and is told why; and the ledger closes.
#![cfg(feature = "tls")]
#![allow(clippy::unwrap_used, clippy::print_stderr)]
// `pub` in a module here means: for the other modules.
#![allow(unreachable_pub)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../records/mod.rs"]
mod records;

// The program's tests use all of it.
#[cfg_attr(not(feature = "cli"), allow(dead_code))]
mod authority;
mod certificates;
mod deadlines;
mod handshake;
mod memory;
mod program;
mod reload;
mod replies;
mod splits;
mod stream;
