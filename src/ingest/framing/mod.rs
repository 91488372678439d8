//! Where messages begin and end, for whoever decodes bytes without a server. No sockets here: bytes
//! go into a [`Decoder`], and [`Event`]s come out.

pub(super) mod input;

mod decoder;

mod delimited;

mod syslog;

mod counted;

mod between;
mod truncate;

mod event;

pub(super) mod output;

// For the log.
pub(super) mod seen;
mod unfinished;
pub(super) mod violation;

pub(super) use counted::{Count, Header};
pub use decoder::Decoder;
pub use event::{End, Event, Take};
pub(super) use input::{DEFAULT_MAX_MESSAGE, Framing, MAX_MESSAGE, Oversize, check_max_message};
pub(super) use output::OutputFraming;
pub(super) use seen::{Protocol, Seen, protocol_of};
pub(super) use unfinished::Unfinished;
pub(super) use violation::Violation;
