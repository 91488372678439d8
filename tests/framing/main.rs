//! Framing: however a stream is split on its way, the same messages come of it, to the byte, in
//! each framing; no byte is unaccounted for, and hostile input costs little.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;
#[path = "../streams/mod.rs"]
mod streams;

mod corpus;
mod reports;
mod round_trip;
mod socket;
mod split;
