//! Outputs that pass messages on: to a server that ends, is killed, is away, refuses or takes
//! nothing, and to a command. What is lost is what was promised to be, no message is torn or
//! doubled, and an end is never held up.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod dead;
mod exec;
mod failover;
mod forward;
#[cfg(feature = "http")]
mod http;
#[cfg(feature = "http")]
mod http_early;
#[cfg(feature = "http")]
mod http_ends;
#[cfg(feature = "http")]
mod http_refused;
#[cfg(feature = "http")]
mod http_servers;
#[cfg(feature = "http")]
mod http_size;
#[cfg(feature = "http")]
mod http_tls;
#[cfg(feature = "cli")]
mod names;
#[cfg(feature = "cli")]
mod program;
#[cfg(feature = "cli")]
mod receivers;
#[cfg(all(feature = "cli", feature = "tls"))]
mod tls;
