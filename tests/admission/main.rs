//! Admission: no more connections, threads and descriptors than were promised, whoever comes and
//! however often; whoever is kept out waits or is told, as the operator chose, and is counted; and
//! a permit comes back when its thread was joined.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod first_byte;
#[cfg(feature = "cli")]
mod leak;
mod limit;
mod listeners;
mod pause;
mod per_address;
mod reuse;
#[cfg(feature = "cli")]
mod starting;
mod starvation;
#[cfg(feature = "cli")]
mod storm;
mod stress;
