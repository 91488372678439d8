//! What runs: a file for each kind of thread that a server has. They share what is in
//! [`state`](crate::server::state), and user code runs in two of them, behind the
//! [`ends`](crate::server::ends) that it holds.

pub(crate) mod acceptor;
pub(crate) mod consumer;
pub(crate) mod handler;
pub(crate) mod reaper;
pub(crate) mod watchdog;
