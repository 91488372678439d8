//! The sinks that come with drainline, and what helps to write another.

mod drive;

pub(super) mod batches;

mod fan_out;

mod feed;
mod held;
mod render;
mod share;

pub(super) mod contract;

mod retry;
mod state;

// The sinks.
mod stdout;

mod file;

mod forward;

mod exec;
#[cfg(feature = "kafka")]
mod kafka;

mod null;

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "redis")]
mod redis;

// What several have in common.
mod cursor;
#[cfg_attr(
    not(any(feature = "http", feature = "redis")),
    allow(dead_code, reason = "for sinks whose end may meet the resolver")
)]
mod lookup;
#[cfg(any(feature = "http", feature = "redis"))]
mod secrets;

// What stdout and files have in common.
mod fd_writer;
mod unlinked;

pub(super) use contract::Sink;
pub(super) use drive::drive;
pub use exec::{Exec, WordsError, split_words};
pub(super) use fan_out::{Lane, hand_out};
pub use fd_writer::FdWriter;
pub(super) use feed::Feed;
pub use file::{File, FileOptions, Fsync};
pub use forward::{Forward, ForwardTo, Target, TargetParseError};
#[cfg(feature = "http")]
pub use http::dialect::{BulkAction, Dialect, SplunkFields};
#[cfg(feature = "http")]
pub use http::{Http, HttpOptions};
#[cfg(feature = "kafka")]
pub use kafka::{Kafka, KafkaCompression, KafkaKey, KafkaOptions};
pub use null::Null;
#[cfg(feature = "redis")]
pub use redis::Redis;
pub(super) use render::Form;
pub use retry::Backoff;
pub(super) use state::SinkState;
pub use stdout::Stdout;
