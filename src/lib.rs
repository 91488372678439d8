//! A TCP message server that cannot leak.
//!
//! One OS thread per connection reads a blocking socket and sends what it makes of it into one bounded
//! buffer. One consumer thread drains it. When the consumer falls behind, senders are slowed, then held at
//! the gate, then cut off, in an order that you chose; and **threads, memory and descriptors stay under a
//! [`ResourceLimits`] that is known at start**. Every message is accounted for: delivered, or dropped for a named
//! reason.
//!
//! - [`Server`]: for any message type of your own, replies included. Begin here to embed it.
//! - [`ingest::Ingest`]: lines in, batches out to a [`Sink`](ingest::Sink). What the program does.
//! - [`design`]: the threads, the way of a message, the shutdown order.
//! - [`tuning`]: what trades one thing for another, and what it costs.
//! - [`leaks`]: how servers leak, and which cure is for whom.
//! - [`policy`]: the decisions, pure.
//!
//! The library installs no signal handler and no logger, and keeps no global state but
//! what its servers have promised to need at most. It is for Linux.

pub mod ingest;
pub mod policy;
pub mod server;

#[doc = include_str!("docs/design.md")]
pub mod design {}

#[doc = include_str!("docs/tuning.md")]
pub mod tuning {}

#[doc = include_str!("docs/senders.md")]
pub mod senders {}

#[doc = include_str!("docs/leaks.md")]
pub mod leaks {}

/// The README's Rust blocks are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use policy::OverloadLevel;
pub use server::{
    BoxError, Builder, Bytes, Config, ConfigError, Connection, ConnectionInfo, ConsumerInfo,
    Counters, Delivery, Discard, DropReason, EndReason, Ended, FirstByteTimeout, Keepalive,
    LimitError, Logger, Malloc, MallocSetting, NotAccepting, NotAcceptingReason, OnOverload,
    PauseAfter, Reason, Received, Receiver, RejectReason, Report, ResourceLimits, SendError,
    Sender, Server, ServerError, SinkCounts, Spans, StartError, Stats, ThreadBody, Weigh, WhenFull,
};
