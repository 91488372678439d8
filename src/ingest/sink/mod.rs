//! Where messages go.

mod drive;
mod file;
mod null;
mod output;
mod retry;
mod stdout;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::time::Duration;

pub(super) use drive::drive;
pub use file::File;
pub use null::Null;
pub use output::Output;
pub use retry::Backoff;
pub use stdout::Stdout;

use super::batch::Batch;
use super::pool::Pool;
use crate::server::{Delivery, Inbox};

/// A destination of messages. One thread drives it, so it needs no lock, and it may block.
///
/// **Accepting** a message means that whatever the sink promises has happened to its last byte: its docs
/// say what that is. Say so with [`Work::done`] at once, since that is when the message counts as
/// delivered and its room in the buffer comes back.
///
/// # A sink of your own
/// ```
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::sync::mpsc::{Sender, channel};
/// use std::time::Duration;
/// use drainline::ingest::{Ingest, Sink, SinkError, Work};
///
/// /// Passes each message to another thread.
/// struct Forward(Sender<String>);
///
/// impl Sink for Forward {
///     fn name(&self) -> String {
///         "forward".to_owned()
///     }
///
///     fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError> {
///         while let Some(batch) = work.first() {
///             for message in batch.iter() {
///                 let text = String::from_utf8_lossy(message).into_owned();
///                 self.0.send(text).map_err(|gone| SinkError::Fatal(std::io::Error::other(gone)))?;
///             }
///             work.done();
///         }
///         Ok(())
///     }
/// }
///
/// let (forward, seen) = channel();
/// let server = Ingest::builder().listen("127.0.0.1:0".parse()?).start(Forward(forward))?;
/// TcpStream::connect(server.local_addrs()[0])?.write_all(b"one\r\ntwo\nthr")?;
/// assert_eq!([seen.recv()?, seen.recv()?, seen.recv()?], ["one", "two", "thr"]);
///
/// let report = server.shutdown(Duration::from_secs(5));
/// assert_eq!((report.server.stats.delivered, report.bytes.partial), (3, 1));
/// assert!(report.is_balanced());
/// # Ok::<(), drainline::BoxError>(())
/// ```
pub trait Sink: Send + 'static {
    /// What the sink is called in the log.
    fn name(&self) -> String;

    /// Takes batches from the front of `work`, in order: all of them, or until an error. To take nothing and
    /// return `Ok` counts as a failure that may pass.
    ///
    /// It may block, but whoever waits must end the wait when [`Work::is_cut`] says so, and return then. A
    /// batch that it took in part stays at the front; the sink remembers how far it came, and goes on at
    /// that byte at the next call.
    ///
    /// # Errors
    /// [`SinkError::Retry`]: the same work is offered again after a while, for ever.
    /// [`SinkError::Fatal`]: the server stops; what is left is booked as dropped.
    fn write(&mut self, work: &mut Work<'_>) -> Result<(), SinkError>;

    /// Opens anew what the sink writes to, where that has a name: for log rotation. `false`: it has none.
    ///
    /// # Errors
    /// The sink goes on with what it had.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Whether what it has written ends in the middle of a message, so that the log can say so. Asked once, when the
    /// server's last deadline has cut it off; `work` is what is left of what it was offered.
    fn is_inside_message(&self, work: &Work<'_>) -> bool {
        let _ = work;
        false
    }
}

/// Why a sink took no more.
#[derive(Debug)]
pub enum SinkError {
    /// It may do later: a full disk, a peer that is away.
    Retry(io::Error),
    /// It will never do: a reader or a terminal that is gone, a descriptor that is closed.
    Fatal(io::Error),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Retry(error) | SinkError::Fatal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {}

/// What lies before a sink.
#[derive(Debug)]
pub struct Work<'a> {
    held: &'a mut VecDeque<Delivery<Batch>>,
    inbox: &'a mut Inbox<Batch>,
    pool: &'a Pool,
}

impl Work<'_> {
    /// The batches to be written, in order.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> + '_ {
        self.held.iter().map(Delivery::get)
    }

    /// The first batch; `None` when all is done.
    pub fn first(&self) -> Option<&Batch> {
        self.held.front().map(Delivery::get)
    }

    /// The first batch is accepted, to its last byte.
    pub fn done(&mut self) {
        if let Some(delivery) = self.held.pop_front() {
            self.pool.put(delivery.done().into_buffer());
        }
    }

    /// The first `messages` of what remains of the first batch are accepted.
    pub fn done_first(&mut self, messages: u64) {
        if let Some(delivery) = self.held.front_mut() {
            delivery.done_first(messages);
        }
    }

    /// The server's last deadline has passed: return, whatever is left.
    pub fn is_cut(&self) -> bool {
        self.inbox.is_cut()
    }

    /// Waits; `false` if the server's last deadline came meanwhile.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.inbox.wait(duration)
    }
}
