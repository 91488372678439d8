//! Where messages begin and end. No sockets here: bytes in, events out.

mod input;

mod decoder;

mod delimited;

mod syslog;

mod counted;

mod between;
mod truncate;

mod event;

mod output;

// For the log.
mod seen;
mod unfinished;
mod violation;

pub(super) use counted::{Count, Header};
pub use decoder::Decoder;
pub use event::{End, Event, Take};
pub use input::{DEFAULT_MAX_MESSAGE, Framing, MAX_MESSAGE_RANGE, Oversize};
pub(super) use input::{MAX_MESSAGE, check_max_message};
pub use output::OutputFraming;
pub use seen::Seen;
pub(super) use seen::protocol_of;
pub(super) use unfinished::Unfinished;
pub use violation::Violation;
