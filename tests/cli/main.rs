//! The program: what it checks and says before it serves, what it does at signals, what its log and
//! its reports say, and how it ends.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod bad_outputs;
#[cfg(feature = "cli")]
mod check;
#[cfg(feature = "cli")]
mod config;
#[cfg(feature = "cli")]
mod deaf_stderr;
#[cfg(feature = "cli")]
mod documents;
#[cfg(feature = "cli")]
mod exit;
#[cfg(all(feature = "cli", target_env = "gnu"))]
mod malloc;
#[cfg(feature = "cli")]
mod operators;
#[cfg(feature = "cli")]
mod outputs;
#[cfg(feature = "cli")]
mod refused_outputs;
#[cfg(feature = "cli")]
mod secrets;
#[cfg(feature = "cli")]
mod serve;
#[cfg(feature = "cli")]
mod signal_stacks;
#[cfg(feature = "cli")]
mod start;
#[cfg(feature = "cli")]
mod systemd;
#[cfg(feature = "cli")]
mod told_peers;
