//! A TCP message server that cannot leak.

pub mod ingest;
pub mod model;
pub mod server;

pub use server::{
    Bound, BoxError, Builder, Config, ConfigError, Connection, ConnectionInfo, Delivery,
    DropReason, EndReason, Ended, Handle, Inbox, Journal, Keepalive, LimitError, OnPause, Outbox,
    PauseAfter, Reason, Received, RejectReason, Report, SendError, Server, ServerError, StartError,
    Stats, Tally, Weigh, WhenFull,
};
