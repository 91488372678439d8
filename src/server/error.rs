//! Errors of the server and its ends, one type per operation.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::ledger::{EndReason, counted};
use super::peer::Address;
use crate::policy::Weight;

/// Whatever a handler or a consumer fails with.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A setting that is out of range, or contradicts another.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConfigError {
    /// The setting, by its field's name in [`Config`](super::Config).
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// What would be accepted.
    pub expected: String,
    /// The setting that the value contradicts, if the value itself is in range; `expected` tells
    /// how the two must compare.
    pub contradicts: Option<Box<Contradiction>>,
    /// The listener whose own setting it is, by its name, or by its address if it has none. `None`:
    /// the server's setting.
    pub listener: Option<String>,
    /// That listener's index: how many the builder was given before it.
    pub listener_index: Option<usize>,
}

/// The other of two settings that contradict each other.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Contradiction {
    /// Its name.
    pub setting: &'static str,
    /// Its value.
    pub value: String,
    /// Why the first setting must not have its value beside this one.
    pub why: &'static str,
}

impl ConfigError {
    /// A value outside its own range.
    pub(crate) fn out_of_range(setting: &'static str, value: String, expected: String) -> Self {
        ConfigError {
            setting,
            value,
            expected,
            contradicts: None,
            listener: None,
            listener_index: None,
        }
    }

    /// The error of a listener's own setting.
    pub(crate) fn of_listener(self, index: usize, listener: &str) -> Self {
        ConfigError {
            listener: Some(listener.to_owned()),
            listener_index: Some(index),
            ..self
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ConfigError {
            setting,
            value,
            expected,
            contradicts,
            listener,
            ..
        } = self;
        write!(f, "invalid value '{value}' for {setting}")?;
        if let Some(listener) = listener {
            write!(f, " of listener {listener}")?;
        }
        write!(f, ": expected {expected}")?;
        match contradicts {
            None => Ok(()),
            Some(other) => write!(f, " {} ({}), {}", other.setting, other.value, other.why),
        }
    }
}

impl std::error::Error for ConfigError {}

/// A `max_connections` that a limit of the system does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LimitError {
    /// The limit, by the name under which an operator finds it. If several limits are too low, the
    /// one that allows the fewest connections.
    pub limit: String,
    /// What it limits: `"descriptors"`, `"threads"`, `"memory mappings"`, `"bytes of address
    /// space"`.
    pub unit: &'static str,
    /// The value of the limit.
    pub allows: u64,
    /// What would be needed, including what is in use already.
    pub needed: u64,
    /// The connections that would need it: what was asked for, or 1 if nothing was.
    pub max_connections: usize,
    /// The largest `max_connections` that every limit allows; 0 if there is none.
    pub fits: usize,
}

impl LimitError {
    /// The error's text, with `max_connections` called as the program's user knows it: by its flag.
    pub fn naming(&self, max_connections: &str) -> String {
        let begin = format!(
            "{max_connections} {} needs {} {}, but {} is {}; ",
            self.max_connections, self.needed, self.unit, self.limit, self.allows
        );
        begin
            + &match self.fits {
                0 => "not even one connection fits".to_owned(),
                fits => format!("the most that fits is {fits}"),
            }
    }
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.naming("max_connections"))
    }
}

impl std::error::Error for LimitError {}

/// Why a server did not start. Nothing is left running.
#[derive(Debug)]
#[non_exhaustive]
pub enum StartError {
    /// A setting is out of range, or contradicts another.
    Config(ConfigError),
    /// A limit of the system does not allow what was asked for.
    Limit(LimitError),
    /// Neither [`listen`](super::Builder::listen) nor [`listener`](super::Builder::listener) was
    /// called.
    NoListener,
    /// An address could not be listened on.
    Listen {
        /// The address, as asked for.
        address: Address,
        /// What the system said.
        source: io::Error,
    },
    /// The system had no thread or descriptor for the server itself.
    System {
        /// What the thread or descriptor was for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => error.fmt(f),
            StartError::Limit(error) => error.fmt(f),
            StartError::NoListener => f.write_str("no address to listen on was given"),
            StartError::Listen { address, source } => {
                write!(f, "cannot listen on {address}: {source}")
            }
            StartError::System { what, source } => write!(f, "cannot get {what}: {source}"),
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            StartError::Config(error) => Some(error),
            StartError::Limit(error) => Some(error),
            StartError::NoListener => None,
            StartError::Listen { source, .. } | StartError::System { source, .. } => Some(source),
        }
    }
}

impl From<ConfigError> for StartError {
    fn from(error: ConfigError) -> Self {
        StartError::Config(error)
    }
}

impl From<LimitError> for StartError {
    fn from(error: LimitError) -> Self {
        StartError::Limit(error)
    }
}

/// The error that ended a running server.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// The consumer returned an error.
    ConsumerFailed {
        /// The text of the error, as the consumer's thread had it.
        message: String,
        /// The error itself.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The consumer panicked: its message.
    ConsumerPanicked(String),
    /// The consumer returned `Ok` although its receiver was not closed.
    ConsumerLeft,
    /// A listener failed in a way that a retry does not cure.
    ListenerFailed {
        /// The listener's address.
        address: Address,
        /// What the system said.
        source: Arc<io::Error>,
    },
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::ConsumerFailed { message, .. } => {
                write!(f, "the consumer failed: {message}")
            }
            ServerError::ConsumerPanicked(message) => write!(f, "the consumer panicked: {message}"),
            ServerError::ConsumerLeft => {
                f.write_str("the consumer returned before its receiver was closed")
            }
            ServerError::ListenerFailed { address, source } => {
                write!(f, "the listener on {address} failed: {source}")
            }
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServerError::ConsumerFailed { source, .. } => Some(&**source),
            ServerError::ListenerFailed { source, .. } => Some(&**source),
            ServerError::ConsumerPanicked(_) | ServerError::ConsumerLeft => None,
        }
    }
}

/// An error of a consumer that cannot go on: [`start_each`](crate::Builder::start_each) stops the
/// server because of it, as when any consumer ends.
#[derive(Debug)]
pub struct Fatal(pub BoxError);

impl fmt::Display for Fatal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Fatal {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Why an item was not sent at once. The error returns the item, which is not counted.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TrySendError<T> {
    /// The buffer has too little space now, or other sends wait for space.
    Full(T),
    /// The item is heavier than the whole buffer and can never be sent.
    TooHeavy(TooHeavy<T>),
    /// The connection or the server has ended: end the handler.
    Ended(T),
}

impl<T> TrySendError<T> {
    /// The item that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            TrySendError::Full(item) | TrySendError::Ended(item) => item,
            TrySendError::TooHeavy(error) => error.item,
        }
    }
}

impl<T> fmt::Debug for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TrySendError::Full(_) => "Full(..)",
            TrySendError::TooHeavy(_) => "TooHeavy(..)",
            TrySendError::Ended(_) => "Ended(..)",
        })
    }
}

impl<T> fmt::Display for TrySendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::Full(_) => f.write_str("the buffer is full"),
            TrySendError::TooHeavy(error) => error.fmt(f),
            TrySendError::Ended(_) => f.write_str("the connection has ended"),
        }
    }
}

impl<T> std::error::Error for TrySendError<T> {}

/// An item that alone is heavier than the whole buffer, and can never be sent.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooHeavy<T> {
    /// The item.
    pub item: T,
    /// What the item weighs, its place in the buffer included.
    pub weight: Weight,
    /// What the buffer holds: `buffer_messages` and `buffer_bytes`.
    pub limit: Weight,
}

impl<T> fmt::Debug for TooHeavy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TooHeavy")
            .field("weight", &self.weight)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for TooHeavy<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (weight, limit) = (self.weight, self.limit);
        let (counts, holds, setting) = match weight.bytes > limit.bytes {
            true => (counted(weight.bytes, "byte"), limit.bytes, "buffer_bytes"),
            false => {
                let messages = counted(weight.messages, "message");
                (messages, limit.messages, "buffer_messages")
            }
        };
        write!(
            f,
            "the item weighs {counts}, and the whole buffer holds {holds}: raise {setting}"
        )
    }
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RequestError {
    /// The buffer stayed full. The connection may go on.
    Full,
    /// The request alone is heavier than the whole buffer. The connection may go on.
    TooHeavy(TooHeavy<()>),
    /// The consumer dropped the request without an answer, or failed. The connection may go on.
    Unanswered,
    /// The connection or the server has ended: return from the handler.
    Ended(Ended),
}

impl fmt::Display for RequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RequestError::Full => f.write_str("the buffer is full"),
            RequestError::TooHeavy(error) => error.fmt(f),
            RequestError::Unanswered => f.write_str("the consumer gave no answer"),
            RequestError::Ended(ended) => ended.fmt(f),
        }
    }
}

impl std::error::Error for RequestError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            RequestError::Ended(ended) => Some(ended),
            RequestError::Full | RequestError::TooHeavy(_) | RequestError::Unanswered => None,
        }
    }
}

/// Why an item was not sent. The error returns the item, which is already counted as dropped: do
/// not count the item again.
///
/// `?` alone ends the connection, whatever the error is. A handler that is to go on where an item
/// was dropped, as with [`WhenFull::Drop`](super::WhenFull::Drop), says so:
///
/// ```
/// # use drainline::{BoxError, SendError, Sender};
/// fn send(out: &Sender<String>, line: String) -> Result<(), BoxError> {
///     Ok(out.send(line).or_else(SendError::unless_dropped)?)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendError<T> {
    /// The buffer stayed full, and `when_full` is [`WhenFull::Drop`](super::WhenFull::Drop). The
    /// connection may go on.
    Full(T),
    /// The item alone is heavier than the whole buffer. The connection may go on.
    TooHeavy(TooHeavy<T>),
    /// The connection was ended: it waited `send_timeout` for the buffer, missed another deadline,
    /// or was aborted. Return from the handler.
    Aborted(T),
    /// The buffer takes no more messages: the server shuts down, or its consumer failed. Return
    /// from the handler.
    Closed(T),
}

impl<T> SendError<T> {
    /// The item that was not sent.
    pub fn into_inner(self) -> T {
        match self {
            SendError::Full(item) | SendError::Aborted(item) | SendError::Closed(item) => item,
            SendError::TooHeavy(error) => error.item,
        }
    }

    /// Only an error after which the handler has to return: `Ok` where the item was dropped and the
    /// connection may go on. Write `out.send(item).or_else(SendError::unless_dropped)?`.
    ///
    /// # Errors
    /// The error itself, if it [is final](SendError::is_final).
    pub fn unless_dropped(self) -> Result<(), Self> {
        match self.is_final() {
            true => Err(self),
            false => Ok(()),
        }
    }

    /// Whether the handler has to return: after [`Full`](SendError::Full) and
    /// [`TooHeavy`](SendError::TooHeavy) the connection may go on.
    pub fn is_final(&self) -> bool {
        matches!(self, SendError::Aborted(_) | SendError::Closed(_))
    }
}

/// Without the item: payloads stay out of logs.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SendError::Full(_) => "Full(..)",
            SendError::TooHeavy(_) => "TooHeavy(..)",
            SendError::Aborted(_) => "Aborted(..)",
            SendError::Closed(_) => "Closed(..)",
        })
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SendError::Full(_) => f.write_str("the buffer is full"),
            SendError::TooHeavy(error) => error.fmt(f),
            SendError::Aborted(_) => f.write_str("the connection was aborted"),
            SendError::Closed(_) => f.write_str("the server takes nothing more"),
        }
    }
}

/// Lets `?` work in a handler for any item: the error keeps the reason and drops the item.
impl<T> From<SendError<T>> for BoxError {
    fn from(error: SendError<T>) -> Self {
        match error {
            SendError::Full(_) | SendError::TooHeavy(_) => error.to_string().into(),
            SendError::Aborted(_) => Box::new(Ended(EndReason::Aborted)),
            SendError::Closed(_) => Box::new(Ended(EndReason::Shutdown)),
        }
    }
}

/// Why a connection's reads and writes fail from now on, or why a handler ends it.
///
/// Reads and writes of a connection that the server ended return an [`io::Error`] that wraps this
/// type. A handler that ends a connection for a reason of its own may return an `Ended`, or an
/// error that has one as its [`source`](std::error::Error::source), and the connection is counted
/// under that reason. The error's text is in the log line for [`EndReason::ProtocolError`], and at
/// the end of the line for a connection that timed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended(pub EndReason);

impl Ended {
    /// The reason inside an error of a read or a write, if the server ended the connection.
    pub fn reason_of(error: &io::Error) -> Option<EndReason> {
        let error = error.get_ref()?;
        let ended = error.downcast_ref::<Ended>();
        let ended = ended.or_else(|| error.source()?.downcast_ref());
        ended.map(|ended| ended.0)
    }

    pub(super) fn into_io(self) -> io::Error {
        let kind = match self.0 {
            EndReason::FrameTimeout
            | EndReason::IdleTimeout
            | EndReason::FirstByteTimeout
            | EndReason::HandshakeTimeout
            | EndReason::WriteTimeout => io::ErrorKind::TimedOut,
            EndReason::Reset => io::ErrorKind::ConnectionReset,
            _ => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self)
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the connection was ended: {}", self.0)
    }
}

impl std::error::Error for Ended {}

/// The message of a panic, if its payload is text.
pub(crate) fn panic_message(payload: Box<dyn std::any::Any + Send>) -> String {
    let message = match payload.downcast_ref::<&'static str>() {
        Some(text) => (*text).to_owned(),
        None => match payload.downcast_ref::<String>() {
            Some(text) => text.clone(),
            None => "no message".to_owned(),
        },
    };
    // A payload may panic as it is dropped, which must not keep the thread from its last lines.
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(payload)));
    if let Err(again) = dropped {
        std::mem::forget(again);
    }
    message
}

/// Drops what is an embedder's, and may panic as it goes.
pub(super) fn drop_caught<T>(value: T) {
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(value)));
    if let Err(payload) = dropped {
        let _ = panic_message(payload);
    }
}
