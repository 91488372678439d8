//! A thread per connection that cannot leak, for any message type `T`.

mod config;
mod deadline;
mod error;
mod ledger;
#[allow(dead_code)] // until the builder calls it
mod limits;

pub use config::{Config, Keepalive, OnPause, PauseAfter, TICK, WhenFull};
pub use error::{BoxError, ConfigError, Ended, SendError, ServerError, StartError};
pub(crate) use ledger::reasons;
pub use ledger::{DropReason, EndReason, Reason, RejectReason, Tally};
pub use limits::{Bound, LimitError};
