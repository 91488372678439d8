//! Bytes in, messages out: what most people want on top of the [`server`](crate::server) room.
//!
//! [`Ingest`] is a server whose handlers cut what they read into messages by a [`Framing`], and whose
//! consumer hands [`Batch`]es of them to a [`Sink`]. Nothing here replies. Beside the server's ledger of
//! messages it keeps one of [`Bytes`], and both close.

// In the order in which a message passes.
mod handler;

mod reader;

pub mod framing;

mod batch;

pub mod sink;

// What they share, and what is known of them.
mod builder;
mod ledger;
mod shared;

pub use batch::Batch;
pub use builder::{Ingest, IngestBuilder, message_overhead_bytes};
pub use framing::{Framing, OutputFraming, Oversize, Violation};
pub use sink::{Batches, Sink, SinkError};
