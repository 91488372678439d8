//! The harness of all other tests: each fault that it is there to find is found, each wait ends,
//! and no child is left behind. And what the design says of the sources is so, and what the index
//! says of the tests.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod checker;
mod design;
mod index;
mod processes;
