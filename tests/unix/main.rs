//! Unix sockets: a listener on a path takes and delivers, drains, limits and counts as one of TCP
//! does, says who its peers are, and leaves every file alone that is not its own.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod drain;
mod file;
mod overload;
mod peers;
#[cfg(feature = "cli")]
mod program;
mod replies;
mod storm;
