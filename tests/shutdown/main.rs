//! Shutdown: it ends in its time whatever peers, handlers and sinks do, delivers what it can, and
//! says what it left; a server that cannot go on ends by itself and says why.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod drain;
mod drain_reads;
mod in_time;
mod leave;
mod silent_log;
mod start_stop;
