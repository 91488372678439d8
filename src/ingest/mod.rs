//! Bytes in, messages out: what most people want on top of the [server](crate::Server).
//!
//! [`Ingest`] is a server whose handlers split what they read into messages by a [`Framing`], and
//! whose consumer hands [`Batch`]es of them to a [`Sink`]. It replies to nobody. Beside the
//! server's ledger of messages it keeps one of [`Bytes`](crate::Bytes), and both close.
//!
//! [`ReadMessages`] gives the same messages to a handler of your own, which may reply:
//! `conn.messages(framing, max_message)`.

// In the order in which a message passes.
mod handler;

mod reader;

mod messages;

mod incoming;
mod stream_end;

pub mod framing;

mod batch;

mod envelope;

pub mod sink;

// What they share, and what is known of them.
mod builder;
mod ledger;
mod listener;
mod output;
mod shared;

pub use crate::server::Notifier;
pub use batch::Batch;
pub use batch::buffer::message_overhead_bytes;
pub use builder::{Ingest, IngestBuilder};
pub use envelope::{Envelope, Template, TemplateError};
pub use framing::input::{DEFAULT_MAX_MESSAGE, Framing, MAX_MESSAGE_RANGE, Oversize};
pub use framing::output::OutputFraming;
pub use framing::seen::Seen;
pub use framing::violation::Violation;
pub use listener::IngestListener;
pub use messages::{Messages, ReadMessages, messages_bytes};
pub use output::Output;
pub use sink::batches::Batches;
pub use sink::contract::{Resources, Sink, SinkError};
