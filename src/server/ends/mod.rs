//! What user code holds: a handler has its connection and the sending end of the buffer, the
//! consumer has the receiving end.

pub(crate) mod assistant;
mod busy_read;
pub(crate) mod connection;
pub(crate) mod notifier;
pub(crate) mod rate_limit;
pub(crate) mod receiver;
pub(crate) mod reply;
pub(crate) mod sender;
pub(crate) mod transport;
pub(crate) mod weigh;
pub(crate) mod writer;
