//! A thread per connection that cannot leak, for any message type `T`.
//!
//! A [`Server`] gives each connection an OS thread that runs your **handler**: it reads from a
//! [`Connection`] and sends what it made of it into an [`Outbox`]. One thread runs your **consumer**: it
//! takes [`Delivery`]s from the [`Inbox`] and says which are done. Between the two stands a buffer that is
//! bounded in messages and in bytes, and around them everything that keeps threads, memory and
//! descriptors under a [`Bound`] that is known at start. See [`Server`] for how it is used.
//!
//! The room knows no framing, no sinks and no command line.

// In the order in which a message passes.
mod accepting;
mod acceptor;
mod listener;
mod queued;

mod bell;
mod gate;

mod connection;
mod handler;
mod record;
mod table;
mod worker;

mod outbox;

mod budget;
mod running;

mod consumer;
mod inbox;
mod pulse;

mod exits;
mod reaper;

mod watchdog;

mod journal;

// What they share, and what is known of them.
mod builder;
mod config;
mod crowd_lock;
mod deadline;
mod error;
mod handle;
mod ledger;
mod lifecycle;
mod limits;
mod report;
mod shared;

pub use builder::{Builder, Server};
pub use config::{Config, FirstByteTimeout, Keepalive, OnPause, PauseAfter, TICK, WhenFull};
pub use connection::Connection;
pub use error::{BoxError, ConfigError, Ended, LimitError, SendError, ServerError, StartError};
pub use handle::Handle;
pub use inbox::{Delivery, Inbox, Received};
pub use journal::Journal;
pub use ledger::{DropReason, EndReason, NotAcceptingReason, Reason, RejectReason, Spans, Tally};
pub(crate) use ledger::{counted, reasons};
pub(crate) use limits::BufferMemory;
pub use limits::{Bound, Malloc, MallocSetting};
pub use outbox::{Outbox, Weigh, heap_bytes};
pub use report::{ConnectionInfo, ConsumerInfo, NotAccepting, Report, Stats};
pub use shared::ThreadBody;
