//! What a sink does, and how it fails.

use std::fmt;
use std::io;

use super::batches::Batches;

/// A destination of messages. One thread drives it, so it needs no lock, and it may block.
///
/// **Accepting** a message means that whatever the sink promises has happened to its last byte: its
/// docs and [`delivered_means`](Sink::delivered_means) say what that is. Say so at once, with
/// [`Batches::ack`] or, inside a batch, [`Batches::ack_first`]: then the message counts as
/// delivered and its part of the buffer is free. There is no flush at the end, so a sink must not
/// accept a message that it only keeps in memory: a sink that gathers messages accepts them when
/// they are written. What can never be accepted is refused ([`Batches::refuse_first`]).
///
/// **A batch that was taken in part** stays the first, and is offered again whole, after an error
/// or in the middle of a message: the sink has to remember how much of that batch it took.
///
/// **Waiting** for a destination that takes no more is done in [`Batches::wait`], or in slices of
/// at most a tenth of a second or so between which the sink looks at [`Batches::is_timed_out`].
/// Then the server can always end. The watchdog names a sink that does not return, and at the end
/// the server abandons the sink's thread.
///
/// **Answers that come later.** A sink whose destination answers goes on sending meanwhile: it
/// takes what else there is with [`Batches::more`], which also waits for the answers, and says what
/// they brought as they come: in order with [`ack_first`](Batches::ack_first), in any order with
/// [`ack_at`](Batches::ack_at), by the numbers of batches. Nothing is taken back when it returns
/// from [`write`](Sink::write), be it with an error: what is not answered is offered again as it
/// stands, under the same numbers, in front of what is new. So it has to remember
/// - up to which number it has sent: what it sent over a connection that is lost is sent again from
///   [`first_number`](Batches::first_number) on, and may then arrive twice;
/// - which messages of a batch are answered, where it answers a batch in part: in order it is the
///   first ones, all but [`remaining`](Batches::remaining);
/// - not to count an answer twice, or one of a connection that it has given up: after that the
///   batch of that number was sent again.
///
/// **The end.** The sink is dropped on the thread that drove it, as soon as nothing more comes:
/// when the drain is over, or when the sink failed for good, or panicked. Whatever the sink's drop
/// waits for, the server's end waits for, too.
///
/// # A sink of your own
/// ```
/// use std::io::{self, Write};
/// use std::net::TcpStream;
/// use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
/// use std::time::Duration;
/// use drainline::ingest::{Ingest, Sink, SinkError, Batches};
///
/// /// Passes each message to another thread, which may be slow.
/// struct Forward {
///     to: SyncSender<String>,
///     /// Messages of the first batch that were passed on.
///     passed: usize,
/// }
///
/// impl Sink for Forward {
///     fn name(&self) -> String {
///         "forward".to_owned()
///     }
///
///     fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
///         while let Some(batch) = batches.first() {
///             let mut passed = 0;
///             let outcome = batch.iter().skip(self.passed).try_for_each(|message| {
///                 self.to.try_send(String::from_utf8_lossy(message).into_owned())?;
///                 passed += 1;
///                 Ok(())
///             });
///             if outcome.is_ok() {
///                 self.passed = 0;
///                 batches.ack();
///                 continue;
///             }
///             // What was passed on is delivered, whatever becomes of the rest.
///             self.passed += passed;
///             batches.ack_first(passed as u64);
///             match outcome {
///                 Err(TrySendError::Disconnected(_)) => {
///                     return Err(SinkError::Fatal(io::Error::other("nobody receives any more")));
///                 }
///                 // The channel is full. The server may end while the sink waits.
///                 _ if !batches.wait(Duration::from_millis(1)) => return Ok(()),
///                 _ => {}
///             }
///         }
///         Ok(())
///     }
/// }
///
/// let (to, seen) = sync_channel(1);
/// let server = Ingest::builder()
///     .listen("127.0.0.1:0".parse()?)
///     .start(Forward { to, passed: 0 })?;
/// TcpStream::connect(server.local_addrs()[0])?.write_all(b"one\r\ntwo\nthr")?;
/// assert_eq!([seen.recv()?, seen.recv()?, seen.recv()?], ["one", "two", "thr"]);
///
/// let report = server.shutdown(Duration::from_secs(5));
/// assert_eq!((report.stats.delivered, report.bytes.unterminated), (3, 1));
/// assert!(report.is_balanced());
/// # // Whoever receives leaves in the middle of a batch.
/// # let (to, seen) = sync_channel(1);
/// # let forward = Forward { to, passed: 0 };
/// # let server = Ingest::builder().listen("127.0.0.1:0".parse()?).start(forward)?;
/// # TcpStream::connect(server.local_addrs()[0])?.write_all(b"1\n2\n3\n4\n")?;
/// # assert_eq!([seen.recv()?, seen.recv()?], ["1", "2"]);
/// # drop(seen);
/// # let report = server.wait();
/// # let delivered = report.stats.delivered;
/// # assert!(report.is_balanced() && (2..=3).contains(&delivered), "{report:?}");
/// # Ok::<(), drainline::BoxError>(())
/// ```
pub trait Sink: Send + 'static {
    /// What the sink is called in the log.
    fn name(&self) -> String;

    /// What "delivered" means there, in a few words that complete "delivered means that": at start,
    /// the log says so. Default: `the sink accepted the message`.
    fn delivered_means(&self) -> String {
        "the sink accepted the message".to_owned()
    }

    /// What the sink takes of the system beside what is open when the server starts: threads of its
    /// own, descriptors that it opens later, memory of its own. Asked once, and counted in the
    /// [`ResourceLimits`](crate::ResourceLimits). Default: nothing.
    fn resources(&self) -> Resources {
        Resources::default()
    }

    /// Whether the sink's own settings are values that it can work with. Asked once, before the
    /// server starts. Default: they are.
    ///
    /// # Errors
    /// What would be accepted, which completes "expected": the server does not start.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }

    /// Takes batches from the front of `batches`, in order: all of them, or until an error, or
    /// until [`Batches::more`] says `false`. Otherwise, to answer nothing and return `Ok` counts as
    /// a failure that may pass.
    ///
    /// The call may block, but a sink that waits must return when [`Batches::is_timed_out`] says
    /// so. A batch that was taken in part stays at the front; the sink goes on at that byte at the
    /// next call.
    ///
    /// # Errors
    /// [`SinkError::Retry`]: after a while the same batches are offered again; so for ever, until
    /// the server's last deadline. [`SinkError::Fatal`]: the server stops; what was not accepted is
    /// booked as dropped.
    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError>;

    /// Whether the sink writes messages in the server's
    /// [`output_framing`](crate::ingest::IngestBuilder::output_framing), so that a reader of the
    /// output splits messages by that framing: then the log says at start if a message could be
    /// taken for two. A sink that passes on each message by itself returns `false`. Default:
    /// `true`.
    fn uses_output_framing(&self) -> bool {
        true
    }

    /// Whether [`received_at`](crate::ingest::Batch::received_at) is to be the time at which a
    /// batch was read, and not that of the server's last tick: a look at the clock for each read.
    /// Default: `false`.
    fn needs_exact_times(&self) -> bool {
        false
    }

    /// Opens anew what the sink writes to, by its name: for log rotation. `false`: what the sink
    /// writes to has no name.
    ///
    /// Called between two calls of [`write`](Sink::write), on the same thread: soon after a
    /// reopen was asked for, also while nothing flows, or between a try that failed and the next
    /// try. The first batch may have been taken in part then, even in the middle of a message.
    ///
    /// # Errors
    /// The reopen failed: the sink goes on with what it had.
    fn reopen(&mut self) -> io::Result<bool> {
        Ok(false)
    }

    /// Looks after what the sink writes to. Called about once a second between two calls of
    /// [`write`](Sink::write), also while nothing flows or the sink has failed, and once more when
    /// nothing is left to be written. Work that takes longer than a look belongs into
    /// [`write`](Sink::write).
    ///
    /// # Errors
    /// [`SinkError::Retry`] is counted and logged. [`SinkError::Fatal`] ends the server, as in
    /// [`write`](Sink::write): a reader that is gone is noticed before the next message comes.
    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let _ = batches;
        Ok(())
    }

    /// Ends what the sink writes to in good order: a command is told that nothing follows, and
    /// waited for. Called once when all is accepted and nothing more will come, with what is left
    /// of the drain's time: a sink that waits does so in [`Batches::wait`]. Not called when that
    /// time is over, or the sink has failed for good; its drop always follows. Default: nothing.
    fn finish(&mut self, batches: &mut Batches<'_>) {
        let _ = batches;
    }

    /// Whether what the sink has written ends in the middle of a message, so that the log can say
    /// so. Called once, when the server's last deadline has passed; `batches` holds what the sink
    /// did not accept.
    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        let _ = batches;
        false
    }
}

/// Every method, so that none gets its default.
impl<S: Sink + ?Sized> Sink for Box<S> {
    fn name(&self) -> String {
        (**self).name()
    }

    fn delivered_means(&self) -> String {
        (**self).delivered_means()
    }

    fn resources(&self) -> Resources {
        (**self).resources()
    }

    fn check(&self) -> Result<(), String> {
        (**self).check()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        (**self).write(batches)
    }

    fn uses_output_framing(&self) -> bool {
        (**self).uses_output_framing()
    }

    fn needs_exact_times(&self) -> bool {
        (**self).needs_exact_times()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        (**self).reopen()
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        (**self).maintain(batches)
    }

    fn finish(&mut self, batches: &mut Batches<'_>) {
        (**self).finish(batches);
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        (**self).is_inside_message(batches)
    }
}

/// What it is that is promised where a destination answers, for
/// [`delivered_means`](Sink::delivered_means).
#[cfg(any(feature = "http", feature = "redis", feature = "kafka"))]
pub(super) const AT_LEAST_ONCE: &str = "at least once: what is unanswered when a connection is lost is \
     sent again, and what still is when a drain ends is dropped (shutdown), though it may be there";

/// What a sink takes of the system beside the server's own: see [`Sink::resources`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Threads that the sink starts, at most at once. The memory that a thread takes by itself
    /// (16 KiB) is added.
    pub threads: u64,
    /// Descriptors that the sink opens, at most at once, while the server runs.
    pub descriptors: u64,
    /// Memory that the sink holds, at most at once, in bytes: what it renders, compresses or
    /// queues. The batches that it is offered are counted already.
    pub memory_bytes: u64,
}

/// Why a sink took no more.
#[derive(Debug)]
#[non_exhaustive]
pub enum SinkError {
    /// The same write may succeed later: a full disk, a peer that is away.
    Retry(io::Error),
    /// No write will ever succeed: a reader or a terminal that is gone, a closed descriptor.
    Fatal(io::Error),
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SinkError::Retry(error) | SinkError::Fatal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SinkError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            SinkError::Retry(error) | SinkError::Fatal(error) => error.source(),
        }
    }
}
