//! The buffer: it holds what it may and no more; who finds it full waits in line and is slowed by
//! TCP; what follows when the wait is long is what the operator chose; nothing else is lost, and
//! order is kept.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod backpressure;
mod capacity;
mod coalesce;
#[cfg(feature = "cli")]
mod fairness;
#[cfg(feature = "cli")]
mod overload;
mod when_full;
