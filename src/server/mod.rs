//! A thread per connection that cannot leak, for any message type `T`.
//!
//! A [`Server`] gives each connection an OS thread that runs your **handler**, which reads from a
//! [`Connection`] and sends messages through a [`Sender`]. One thread runs your **consumer**, which
//! takes [`Delivery`]s from the [`Receiver`] and acknowledges them. Between the two is a buffer
//! that is bounded in messages and in bytes, and around them is everything that keeps threads,
//! memory and descriptors under the [`ResourceLimits`] that are known at start. See [`Server`] for
//! examples.
//!
//! This module knows no framing, no sinks and no command line.

// What runs, what user code holds, and what both share: imports go down this list only.
mod builder;
mod listener;
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
mod listener_settings;
mod loss;
mod peer;
mod peers;
pub mod proxy_head;
pub mod ranges;
mod report;
#[cfg_attr(not(feature = "tls"), path = "tls/absent.rs")]
mod tls;
// Without TLS there is no session.
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod wire;

#[cfg(feature = "tls")]
pub use tls::in_memory as tls_in_memory;

pub use builder::Builder;
pub use config::{Config, FirstByteTimeout, Keepalive, OnOverload, PauseAfter, WhenFull};
pub(crate) use error::panic_message;
pub use error::{
    BoxError, ConfigError, Contradiction, Ended, Fatal, LimitError, RequestError, SendError,
    ServerError, StartError, TooHeavy, TrySendError,
};
pub use ledger::{
    Bytes, Counters, Discard, DropReason, EndReason, NotAcceptingReason, Reason, RejectReason,
    Spans,
};
pub(crate) use ledger::{counted, sealed};
pub(crate) use limits::{BufferMemory, OutputNeeds};
pub use limits::{Malloc, MallocSetting, ResourceLimits, heap_bytes};
pub use listener::Listener;
pub use peer::{Address, Peer};
pub use peers::{Peers, PeersParseError};
pub use report::{
    ConnectionInfo, ConsumerInfo, ListenerStats, NotAccepting, OutputRow, OutputStats, Report,
    SinkCounts, Stats,
};

pub(crate) use ends::assistant::Assistant;
pub use ends::connection::Connection;
pub(crate) use ends::notifier::Notices;
pub use ends::notifier::Notifier;
pub(crate) use ends::receiver::Noticed;
pub use ends::receiver::{Delivery, Received, Receiver};
pub use ends::reply::Reply;
pub use ends::sender::Sender;
pub use ends::weigh::Weigh;
pub use ends::writer::Writer;
pub(crate) use running::Layer;
pub use running::Server;
pub use state::ThreadBody;
pub use state::logger::Logger;
#[cfg(feature = "tls")]
pub(crate) use tls::server_words;
#[cfg(feature = "tls")]
pub use tls::{ClientAuth, Tls, TlsClient, TlsError, TlsErrorKind, TlsPart, TlsVersion};
pub(crate) use wire::MAX_PEER_NAME;
