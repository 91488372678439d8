//! The threads of a server, one file for each kind. Threads share what is in
//! [`state`](crate::server::state). User code runs in two of them, the handlers and the consumer,
//! and holds only what is in [`ends`](crate::server::ends).

pub(crate) mod acceptor;
pub(crate) mod consumer;
pub(crate) mod handler;
pub(crate) mod reaper;
pub(crate) mod watchdog;
