//! Clients that others wrote, against the real binary: what each sends arrives whole and is
//! counted.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

#[cfg(feature = "cli")]
mod programs;
#[cfg(feature = "cli")]
mod python;
#[cfg(feature = "cli")]
mod rsyslog;
#[cfg(feature = "cli")]
mod syslog_ng;
#[cfg(all(feature = "cli", feature = "tls"))]
mod tls;
