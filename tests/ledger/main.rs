//! The ledger: it closes to the last message and byte at every moment, whatever peers, sinks,
//! embedders and the end do.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod embedded;
mod listeners;
#[cfg(feature = "cli")]
mod oversize;
mod own_sink;
#[cfg(feature = "cli")]
mod peers;
#[cfg(feature = "cli")]
mod shutdown;
#[cfg(feature = "cli")]
mod sinks;
