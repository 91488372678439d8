//! A TCP message server that cannot leak. Linux only.
//!
//! One OS thread per connection reads a blocking socket and sends messages into one bounded buffer.
//! One consumer thread drains it. While the consumer falls behind, senders are slowed; then no new
//! client is accepted; then connections that waited too long are closed, or whatever you chose
//! instead. **Threads, memory and descriptors stay under [`ResourceLimits`] that are known at
//! start.** Every message is accounted for: delivered, or dropped for a named reason.
//!
//! - [`Server`]: for messages of your own type, with replies. Begin here to embed drainline.
//! - [`ingest::Ingest`]: lines in, batches out to a [`Sink`](ingest::Sink), as the program does it.
//!
//! An echo of lines:
//!
//! ```
//! use std::io::{Read, Write};
//! use std::net::{Shutdown, TcpStream};
//! use std::time::Duration;
//!
//! use drainline::ingest::{Framing, ReadMessages};
//! use drainline::{BoxError, Server};
//!
//! # fn main() -> Result<(), BoxError> {
//! let server = Server::builder::<()>()
//!     .listen("127.0.0.1:0".parse()?)
//!     .serve(|conn| {
//!         let mut lines = conn.messages(Framing::Lines, 4096);
//!         while let Some(line) = lines.next_message()? {
//!             lines.write_all(&line)?;
//!             lines.write_all(b"\n")?;
//!         }
//!         Ok(())
//!     })?;
//!
//! let mut client = TcpStream::connect(server.local_addrs()[0])?;
//! client.write_all(b"hello\n")?;
//! client.shutdown(Shutdown::Write)?;
//! let mut answer = String::new();
//! client.read_to_string(&mut answer)?;
//! assert_eq!(answer, "hello\n");
//!
//! assert!(server.shutdown(Duration::from_secs(5)).is_balanced());
//! # Ok(())
//! # }
//! ```
//!
//! Long texts:
//!
//! - [`design`]: the terms, the threads, the way of a message, the order of a shutdown.
//! - [`limits`]: what is guaranteed, and what cannot be.
//! - [`recipes`]: small programs for common needs.
//! - [`configuration`]: the file, the environment, and which value counts.
//! - [`tuning`]: what each setting trades for what.
//! - [`senders`]: which sender needs which framing.
//! - [`sinks`]: files, rotation, terminals.
//! - [`leaks`]: how servers leak, and which cure is for whom.
//! - [`comparison`]: what rsyslog, syslog-ng, Vector and Fluent Bit have and do.
//! - [`benchmarks`]: figures, and where drainline loses.
//! - [`contributing`]: how to add a flag, a reason, a framing, a sink.
//!
//! The library installs no signal handler and no logger. Its only global state is what the servers
//! of the process have promised to need at most.

pub mod ingest;
#[doc(hidden)]
pub mod policy;
mod server;

#[doc = include_str!("docs/design.md")]
pub mod design {}

#[doc = include_str!("docs/limits.md")]
pub mod limits {}

#[doc = include_str!("docs/recipes.md")]
pub mod recipes {}

#[doc = include_str!("docs/configuration.md")]
pub mod configuration {}

#[doc = include_str!("docs/tuning.md")]
pub mod tuning {}

#[doc = include_str!("docs/senders.md")]
pub mod senders {}

#[doc = include_str!("docs/sinks.md")]
pub mod sinks {}

#[doc = include_str!("docs/leaks.md")]
pub mod leaks {}

#[doc = include_str!("docs/comparison.md")]
pub mod comparison {}

#[doc = include_str!("docs/benchmarks.md")]
pub mod benchmarks {}

#[doc = include_str!("docs/contributing.md")]
pub mod contributing {}

/// The README's Rust blocks are tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub use ipnet::IpNet;
pub use log::Level;
pub use policy::{Activity, OverloadLevel, Weight};
#[doc(hidden)]
pub use server::proxy_head;
#[cfg(feature = "tls")]
#[doc(hidden)]
pub use server::tls_in_memory;
pub use server::{
    Address, BoxError, Builder, Bytes, Config, ConfigError, Connection, ConnectionInfo,
    ConsumerInfo, Contradiction, Counters, Delivery, Discard, DropReason, EndReason, Ended, Fatal,
    FirstByteTimeout, Keepalive, LimitError, Listener, ListenerStats, Logger, Malloc,
    MallocSetting, NotAccepting, NotAcceptingReason, OnOverload, OutputRow, OutputStats,
    PauseAfter, Peer, Peers, PeersParseError, Reason, Received, Receiver, RejectReason, Reply,
    Report, RequestError, ResourceLimits, SendError, Sender, Server, ServerError, SinkCounts,
    Spans, StartError, Stats, ThreadBody, TooHeavy, TrySendError, Weigh, WhenFull, Writer,
    heap_bytes, ranges,
};
#[cfg(feature = "tls")]
pub use server::{ClientAuth, Tls, TlsClient, TlsError, TlsErrorKind, TlsPart, TlsVersion};
