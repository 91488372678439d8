//! A thread per connection that cannot leak, for any message type `T`.
//!
//! A [`Server`] gives each connection an OS thread that runs your **handler**: it reads from a
//! [`Connection`] and sends what it made of it into an [`Outbox`]. One thread runs your **consumer**: it
//! takes [`Delivery`]s from the [`Inbox`] and says which are done. Between the two stands a buffer that is
//! bounded in messages and in bytes, and around them everything that keeps threads, memory and
//! descriptors under a [`Bound`] that is known at start. See [`Server`] for how it is used.
//!
//! The room knows no framing, no sinks and no command line.

// What runs, what user code holds, and what both share: arrows go down this list only.
mod builder;
mod running;
mod threads;

mod ends;

mod state;

mod limits;

mod config;
mod deadline;
mod error;
mod ledger;
mod report;

pub use builder::{Builder, Server};
pub use config::{Config, FirstByteTimeout, Keepalive, OnPause, PauseAfter, TICK, WhenFull};
pub use error::{BoxError, ConfigError, Ended, LimitError, SendError, ServerError, StartError};
pub use ledger::{DropReason, EndReason, NotAcceptingReason, Reason, RejectReason, Spans, Tally};
pub(crate) use ledger::{counted, reasons};
pub(crate) use limits::BufferMemory;
pub use limits::{Bound, Malloc, MallocSetting};
pub use report::{ConnectionInfo, ConsumerInfo, NotAccepting, Report, Stats};

pub use ends::connection::Connection;
pub use ends::receiver::{Delivery, Inbox, Received};
pub use ends::sender::{Outbox, Weigh, heap_bytes};
pub use running::Handle;
pub use state::ThreadBody;
pub use state::logger::Journal;
