//! A thread per connection that cannot leak, for any message type `T`.
//!
//! A [`Server`] gives each connection an OS thread that runs your **handler**: it reads from a
//! [`Connection`] and sends what it made of it into an [`Sender`]. One thread runs your **consumer**: it
//! takes [`Delivery`]s from the [`Receiver`] and says which are done. Between the two stands a buffer that is
//! bounded in messages and in bytes, and around them everything that keeps threads, memory and
//! descriptors under a [`ResourceLimits`] that is known at start. See [`Server`] for how it is used.
//!
//! The room knows no framing, no sinks and no command line.

// What runs, what user code holds, and what both share: arrows go down this list only.
mod builder;
mod listen;
mod parts;
mod running;
mod threads;

mod ends;

mod state;

mod limits;

mod config;
mod deadline;
mod error;
mod ledger;
mod loss;
pub mod ranges;
mod report;

pub use builder::Builder;
pub use config::{Config, FirstByteTimeout, Keepalive, OnOverload, PauseAfter, WhenFull};
pub use error::{
    BoxError, ConfigError, Contradiction, Ended, Fatal, LimitError, RequestError, SendError,
    ServerError, StartError, TrySendError,
};
pub use ledger::{
    Bytes, Counters, Discard, DropReason, EndReason, NotAcceptingReason, Reason, RejectReason,
    Spans,
};
pub(crate) use ledger::{counted, sealed};
pub(crate) use limits::BufferMemory;
pub use limits::{Malloc, MallocSetting, ResourceLimits};
pub use listen::Listen;
pub use report::{ConnectionInfo, ConsumerInfo, NotAccepting, Report, SinkCounts, Stats};

pub use ends::connection::Connection;
pub use ends::receiver::{Delivery, Received, Receiver};
pub use ends::reply::Reply;
pub use ends::sender::Sender;
pub use ends::weigh::{Weigh, heap_bytes};
pub use ends::writer::Writer;
pub(crate) use running::Layer;
pub use running::Server;
pub use state::ThreadBody;
pub use state::logger::Logger;
