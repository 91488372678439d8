//! The tools: load sends what it says, verify finds what is missing, lab shows the leak and its
//! cures, and a server keeps what plan promises.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod lab;
#[cfg(feature = "cli")]
mod lab_page;
#[cfg(feature = "cli")]
mod load;
#[cfg(feature = "cli")]
mod load_ends;
#[cfg(feature = "cli")]
mod plan;
#[cfg(feature = "cli")]
mod plan_in_lab;
#[cfg(feature = "cli")]
mod verify;
