//! Sinks: a file, a FIFO, stdout and sinks of one's own, full, slow, rotated, gone and back: no
//! message is torn, lost or written twice, and an end is never held up.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "../common/mod.rs"]
mod common;

mod envelope;

#[cfg(feature = "cli")]
mod fifo;
#[cfg(feature = "cli")]
mod full_disk;
#[cfg(feature = "cli")]
mod logrotate;
mod own;
mod pipelined;
#[cfg(feature = "cli")]
mod reload;
mod rotated;
mod rotated_faults;
#[cfg(feature = "cli")]
mod rotation;
mod several;
#[cfg(feature = "cli")]
mod stdout;
#[cfg(feature = "cli")]
mod terminal;
#[cfg(feature = "cli")]
mod torn_tail;
