//! The harness of all other tests: each fault that it is there to find is found, each wait ends,
//! and no child is left behind.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod checker;
mod processes;
