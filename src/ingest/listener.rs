//! A listener of an ingest: a server's listener, and how its streams become messages.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;

use super::framing::{Framing, Oversize};
use crate::server::Listener;

/// A listener for an [`IngestBuilder`](super::IngestBuilder): a [`Listener`] of the server, and how
/// messages are told apart in the streams of its connections. What is not set here is as in the
/// builder.
///
/// ```
/// use std::io::Write;
/// use std::net::{Shutdown, TcpStream};
/// use std::time::Duration;
/// use drainline::Listener;
/// use drainline::ingest::{Framing, Ingest, IngestListener, Oversize, sink};
///
/// let listener = |name| Ok::<_, std::net::AddrParseError>(
///     Listener::on("127.0.0.1:0".parse()?).named(name)
/// );
/// let server = Ingest::builder()
///     .listener(listener("lines")?)
///     .listener(
///         IngestListener::from(listener("syslog")?.max_connections(100))
///             .framing(Framing::Syslog)
///             .max_message(2048)
///             .oversize(Oversize::Close),
///     )
///     .start(sink::Null)?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[1])?;
/// client.write_all(b"9 <13>hello<13>counted or not\n")?;
/// client.shutdown(Shutdown::Write)?;
/// while server.stats().delivered < 2 {
///     std::thread::sleep(Duration::from_millis(5));
/// }
/// let report = server.shutdown(Duration::from_secs(5));
/// assert_eq!(report.stats.listeners[1].delivered, 2);
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Debug)]
#[must_use = "a listener does nothing until a builder has it"]
pub struct IngestListener {
    pub(super) listener: Listener,
    pub(super) settings: OwnSettings,
    /// The names of the outputs that its messages go to. `None`: all.
    pub(super) to: Option<Vec<String>>,
}

/// A listener's own settings. Where one is `None`, the builder's holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct OwnSettings {
    pub(super) framing: Option<Framing>,
    pub(super) max_message: Option<usize>,
    pub(super) oversize: Option<Oversize>,
}

impl IngestListener {
    /// As [`IngestBuilder::framing`](super::IngestBuilder::framing), for this listener.
    pub fn framing(mut self, framing: Framing) -> Self {
        self.settings.framing = Some(framing);
        self
    }

    /// As [`IngestBuilder::max_message`](super::IngestBuilder::max_message), for this listener. The
    /// printed memory counts every connection as one of the listener that may hold most.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.settings.max_message = Some(bytes);
        self
    }

    /// As [`IngestBuilder::oversize`](super::IngestBuilder::oversize), for this listener.
    pub fn oversize(mut self, oversize: Oversize) -> Self {
        self.settings.oversize = Some(oversize);
        self
    }
}

impl IngestListener {
    /// The outputs that the messages of this listener go to, by their
    /// [names](super::Output::new). Default: all.
    pub fn to(mut self, outputs: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.to = Some(outputs.into_iter().map(Into::into).collect());
        self
    }
}

impl From<Listener> for IngestListener {
    fn from(listener: Listener) -> Self {
        IngestListener {
            listener,
            settings: OwnSettings::default(),
            to: None,
        }
    }
}

/// As [`Listener::on`].
impl From<SocketAddr> for IngestListener {
    fn from(address: SocketAddr) -> Self {
        Listener::from(address).into()
    }
}

/// As [`Listener`] takes one over.
impl From<UnixListener> for IngestListener {
    fn from(listener: UnixListener) -> Self {
        Listener::from(listener).into()
    }
}

/// As [`Listener`] takes one over.
impl From<TcpListener> for IngestListener {
    fn from(listener: TcpListener) -> Self {
        Listener::from(listener).into()
    }
}
