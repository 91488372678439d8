//! Messages to other servers over TCP, TLS or a Unix socket.

mod attempt;
mod connection;
mod order;
#[cfg_attr(not(feature = "tls"), path = "session_absent.rs")]
mod session;
mod socket;
mod target;
mod to;

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use log::Level;

use self::attempt::Attempt;
use self::connection::{Connection, FINISH_PATIENCE, SLICE};
use self::order::{Ending, Order};
pub use self::target::{Target, TargetParseError};
pub use self::to::ForwardTo;
#[cfg(feature = "tls")]
use self::to::LoadedTls;
use self::to::Plan;
use super::batches::Batches;
use super::contract::{Resources, Sink, SinkError};
use super::cursor::Cursor;
use crate::server::Logger;

/// The stack and heap of getaddrinfo(3) with the answers of a name server.
const RESOLVER_BYTES: u64 = 256 << 10;
/// A connection that is lost sooner is not made anew at once.
const SHORT_LIFE: Duration = Duration::from_secs(1);
/// Batches that are held at once: as many as go into one write.
const WINDOW: usize = 64;

/// Passes messages on to another server, in the output framing: over TCP, TLS or a Unix socket.
///
/// **Delivered means that this machine's kernel took the message's last byte**, for TLS that of the
/// record that it ends in. Nobody answers, so a message arrives **at most once**: what a receiver
/// that dies has not read is lost, and was counted as delivered. That is at most what both kernels
/// hold for a connection: what the receiver's takes (`tcp_rmem`, 6 MiB by default) and 256 KiB
/// beyond it; for a Unix socket some 200 KiB. A receiver that closes in good order loses nothing
/// that was written before: it is looked for before every write whether it has ended its stream,
/// and if so, no message more is written to it. Its end of the stream is the end of the connection:
/// a receiver that closes only its sending half, as a drainline does that drains, is connected to
/// anew. A message that is under way is finished before, if that takes less than a second.
///
/// A message that was begun is begun anew, whole, on a new connection; what was written of it
/// stays at the end of the old one, which receivers discard.
///
/// **Several receivers** are an order of preference. When a connection is lost, the first is tried
/// first, and so on; while a later one is in use, those before it are tried every
/// [`return_after`](ForwardTo::return_after), and the connection moves back between two messages,
/// once a preferred receiver has kept its own open for a second.
///
/// A receiver that **accepts and then fails** stands back: one that is given up, whose connection
/// ends within a second, or ends within 30 s after something was written to it. The next try begins
/// with the receiver after it (behind the last, with the first), and those before are tried again
/// after `return_after`, which doubles with each such failure, up to an hour, until a connection
/// took more than 8 MiB or lasted an hour; [`reopen`](Sink::reopen) ends it. Over TCP nothing tells
/// a receiver that hangs from one that is well before its kernel is full: each return to it takes
/// the stream for at least `ack_timeout`, and what both kernels took meanwhile is lost. Over TLS it
/// does not finish its handshake, and is not returned to.
///
/// A name is resolved anew for each connection, and all its addresses are tried, 16 at most.
/// Connecting is done on a thread of its own, `connector`, since getaddrinfo(3) cannot be ended;
/// there is one at a time, and only while something is to be connected.
///
/// **A receiver that takes nothing** holds up the sink, and so the buffer, as a full disk does; see
/// [`ack_timeout`](ForwardTo::ack_timeout). Over TCP a silent one is probed
/// ([`keepalive`](ForwardTo::keepalive)).
///
/// What a receiver sends is read and thrown away. [`reopen`](Sink::reopen) reads the files of TLS
/// again and connects anew, the preferred receiver first. A connection that is left for another one
/// is ended behind its last message, and kept until its receiver has ended it, too, or for a
/// minute: to a socket that is closed, whatever comes is answered with a reset, and what its
/// receiver has not read is lost.
///
/// With TLS 1.3 a receiver may refuse our certificate after our part of the handshake: 250 ms are
/// waited for that before the first message, or less if it sends something.
///
/// **At the end** the stream is ended (TLS: with a close_notify), and the receiver has a second to
/// end its own.
///
/// # Drop
/// Ends the stream, and waits for nothing.
///
/// # Example
/// ```no_run
/// use drainline::ingest::Ingest;
/// use drainline::ingest::sink::{Forward, Target};
///
/// let server = Ingest::builder()
///     .listen("127.0.0.1:5140".parse()?)
///     .start(
///         Forward::to(Target::tcp("logs1.example.org", 5140))
///             .failover(Target::tcp("logs2.example.org", 5140))
///             .open()?,
///     )?;
/// # drop(server);
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Debug)]
pub struct Forward {
    name: String,
    plan: Arc<Plan>,
    return_after: Duration,
    cursor: Cursor,
    connection: Option<Connection>,
    attempt: Option<Attempt>,
    /// A connection to a receiver that is preferred, or that was opened anew, for the next message.
    next: Option<Connection>,
    /// The connection that was in use before: its receiver may not have read all that its kernel
    /// has. None beside a next one.
    left: Option<Connection>,
    /// With which receiver a try begins.
    order: Order,
    /// When receivers that are preferred to the one in use are tried.
    returns_at: Option<Instant>,
    /// The connection is to be replaced by another one: what it was made with has changed.
    is_renewal_due: bool,
    has_tried: bool,
    /// The place of the receiver that the log told of last.
    told: Option<usize>,
}

impl Forward {
    /// The receiver that is preferred.
    pub fn to(target: Target) -> ForwardTo {
        ForwardTo::new(target)
    }

    /// Not connected yet.
    fn new(name: String, plan: Plan, return_after: Duration) -> Forward {
        Forward {
            name,
            order: Order::new(plan.targets.len(), return_after),
            plan: Arc::new(plan),
            return_after,
            cursor: Cursor::default(),
            connection: None,
            attempt: None,
            next: None,
            left: None,
            returns_at: None,
            is_renewal_due: false,
            has_tried: false,
            told: None,
        }
    }

    /// Waits for a connection. `false`: the sink is to return.
    fn connect(&mut self, batches: &mut Batches<'_>) -> Result<bool, SinkError> {
        while self.connection.is_none() {
            if let Some(next) = self.next.take() {
                self.begin(next, batches);
                break;
            }
            let all = self.plan.targets.len();
            match &self.attempt {
                Some(_) => {}
                None => self.start_anew(batches).map_err(SinkError::Retry)?,
            }
            match self.take_outcome() {
                Some((_, Ok(connection))) => self.begin(connection, batches),
                // Only those before one that was lost meanwhile were tried.
                Some((tried, Err(_))) if tried < all => {}
                Some((_, Err(why))) => return Err(SinkError::Retry(io::Error::other(why))),
                None if batches.more(0, SLICE) => {}
                None => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Tries all receivers.
    fn start_anew(&mut self, batches: &Batches<'_>) -> io::Result<()> {
        let first = self.order.first(Instant::now());
        self.start_attempt(first, self.plan.targets.len(), batches)
    }

    fn start_attempt(
        &mut self,
        first: usize,
        targets: usize,
        batches: &Batches<'_>,
    ) -> io::Result<()> {
        self.has_tried = true;
        let notifier = Some(batches.notifier());
        let plan = Arc::clone(&self.plan);
        self.attempt = Some(Attempt::start(plan, first, targets, notifier)?);
        Ok(())
    }

    /// What became of a try, once it is over, and how many receivers it was for.
    fn take_outcome(&mut self) -> Option<(usize, Result<Connection, String>)> {
        let attempt = self.attempt.as_mut()?;
        let outcome = attempt.outcome()?;
        let targets = attempt.targets;
        self.attempt = None;
        Some((targets, outcome))
    }

    /// Goes on over a new connection.
    fn begin(&mut self, connection: Connection, batches: &Batches<'_>) {
        self.cursor.begin_anew(batches);
        self.is_renewal_due = false;
        let is_preferred = connection.target == 0;
        self.returns_at = self.order.returns_at(connection.target, Instant::now());
        let (name, label) = (&self.name, &connection.label);
        batches.state().set_connected_to(Some(label));
        let text = || match is_preferred {
            true => format!("the sink {name} is connected: {label}"),
            false => format!(
                "the sink {name} is connected to another receiver, {label}: those before it are \
                 tried in {:.1?}, and then every {:?}",
                self.returns_at
                    .unwrap_or_else(Instant::now)
                    .saturating_duration_since(Instant::now()),
                self.return_after
            ),
        };
        // Where messages go now is told however often that changes.
        match self.told.replace(connection.target) == Some(connection.target) {
            true => batches.logger().log_limited("connected", Level::Info, text),
            false => batches.logger().log(Level::Info, text()),
        }
        self.connection = Some(connection);
    }

    /// Tries receivers that are preferred to the one in use, now and then, and takes the connection
    /// that a try has brought.
    fn look_for_better(&mut self, batches: &Batches<'_>) {
        if self.left.as_ref().is_some_and(Connection::is_over) {
            self.left = None;
        }
        let Some(current) = self.connection.as_ref().map(|current| current.target) else {
            return;
        };
        let is_due = self.returns_at.is_some_and(|at| Instant::now() >= at);
        if self.attempt.is_none() && self.next.is_none() && (is_due || self.is_renewal_due) {
            let targets = match self.is_renewal_due {
                true => self.plan.targets.len(),
                false => current,
            };
            let started = self.start_attempt(0, targets, batches);
            if started.is_err() {
                // The system has no thread now: what is in use goes on.
                self.returns_at = Some(Instant::now() + self.return_after);
            }
        }
        match self.take_outcome() {
            None => {}
            Some((_, Ok(connection))) => {
                self.left = None;
                self.next = Some(connection);
            }
            Some((_, Err(why))) => self.stay(&why, batches),
        }
        // What accepts and closes is found out before it costs a message.
        if let Some(next) = &mut self.next
            && let Err(error) = next.look()
        {
            let why = format!("{}: {}", next.label, self.plan.why_lost(&error));
            self.next = None;
            self.stay(&why, batches);
        }
    }

    /// What was tried beside the connection in use has come to nothing.
    fn stay(&mut self, why: &str, batches: &Batches<'_>) {
        let name = &self.name;
        let logger = batches.logger();
        logger.log_limited("not preferred", Level::Info, || {
            format!("the sink {name} stays where it is: {why}")
        });
        self.is_renewal_due = false;
        let is_preferred = self.connection.as_ref().is_none_or(|it| it.target == 0);
        self.returns_at = (!is_preferred).then(|| Instant::now() + self.return_after);
    }

    /// Whether messages go to the next connection from the next one on: at once, or to a preferred
    /// receiver when that has kept it open for a while.
    fn is_moving(&self) -> bool {
        let (Some(next), Some(current)) = (&self.next, &self.connection) else {
            return self.next.is_some();
        };
        next.target >= current.target || next.begun.elapsed() >= SHORT_LIFE.min(self.return_after)
    }

    /// Moves to the next connection, between two messages.
    fn move_on(&mut self, batches: &Batches<'_>) {
        if !self.is_moving() {
            return;
        }
        let is_inside = self.cursor.is_inside_message(batches)
            || self.connection.as_ref().is_some_and(Connection::is_inside);
        if is_inside {
            return;
        }
        if let Some(next) = self.next.take() {
            if let Some(mut current) = self.connection.take() {
                // Whatever its receiver still says would cost what that has not read, if the
                // connection was closed.
                self.left = current.end().then_some(current);
            }
            self.begin(next, batches);
        }
    }

    /// Writes what the kernel takes at once, or waits a slice.
    fn write_once(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let is_moving = self.is_moving();
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let is_record_begun = connection.is_inside();
        // Nothing is written to a receiver that has gone: it would count as delivered.
        if let Err(error) = connection.look() {
            let is_inside = is_record_begun || self.cursor.is_inside_message(batches);
            if !(is_inside && connection.finishes_message(&error)) {
                return self.lost(&error, batches).map_err(SinkError::Retry);
            }
        }
        let is_last = (is_moving || connection.is_finishing()) && !connection.is_inside();
        // Where a message ends is looked for only if no other may follow.
        let rest = is_last.then(|| self.cursor.rest_of_message(batches));
        let written = match rest.flatten() {
            Some(rest) => connection.write_some(&[rest]),
            None => connection.write_some(&self.cursor.gather(batches)),
        };
        match written {
            Ok(Some(written)) => {
                self.cursor.advance(batches, written);
                Ok(())
            }
            Ok(None) => connection.wait_writable().map_err(SinkError::Retry),
            Err(error) => self.lost(&error, batches).map_err(SinkError::Retry),
        }
    }

    /// The connection is over.
    ///
    /// # Errors
    /// It was not of use for long: each of its kind may cost what the kernel took, and the drive
    /// waits before the next one.
    fn lost(&mut self, error: &io::Error, batches: &Batches<'_>) -> io::Result<()> {
        let Some(connection) = self.connection.take() else {
            return Ok(());
        };
        let why = self.plan.why_lost(error);
        batches.state().set_connected_to(None);
        self.tell_discarded(&connection, batches.logger());
        self.cursor.begin_anew(batches);
        self.returns_at = None;
        let (name, label, bytes) = (&self.name, connection.label.clone(), connection.written);
        let lasted = connection.begun.elapsed();
        let ending = Ending {
            target: connection.target,
            lasted,
            written: bytes,
            is_failure: lasted < SHORT_LIFE || error.kind() == ErrorKind::TimedOut,
        };
        self.order.ended(&ending, Instant::now());
        if error.kind() == ErrorKind::UnexpectedEof {
            connection.finish(Duration::ZERO, || true);
        }
        let text = match bytes {
            0 => format!("{label}: {why}, before anything was written"),
            _ => format!(
                "{label}: {why}; of the {bytes} bytes that were written to it, what the receiver \
                 has not read is lost"
            ),
        };
        if lasted < SHORT_LIFE {
            return Err(io::Error::other(text));
        }
        let level = if bytes > 0 { Level::Warn } else { Level::Info };
        let logger = batches.logger();
        logger.log_limited("connection lost", level, || {
            format!("the sink {name} connects anew: {text}")
        });
        Ok(())
    }

    fn tell_discarded(&self, connection: &Connection, logger: &Logger) {
        let (bytes, label) = (connection.discarded, &connection.label);
        if bytes > 0 {
            logger.log_limited("discarded replies", Level::Info, || {
                format!("{label} has sent {bytes} bytes, which were discarded: nothing is expected from a receiver")
            });
        }
    }
}

impl Sink for Forward {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn delivered_means(&self) -> String {
        "this machine's kernel took the message's last byte: it arrives at most once, and is lost \
         if the receiver dies before it has read it"
            .to_owned()
    }

    fn resources(&self) -> Resources {
        #[cfg(feature = "tls")]
        let tls_bytes = self.plan.tls.as_ref().map_or(0, |tls| {
            3 * session::SESSION_BYTES + tls.client.loaded_bytes()
        });
        #[cfg(not(feature = "tls"))]
        let tls_bytes = 0;
        Resources {
            threads: 1,
            // Those of the connection in use, of the next one or the one before, and of a try; a
            // resolver has some.
            descriptors: 3 + 4,
            memory_bytes: RESOLVER_BYTES + tls_bytes,
        }
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() {
            self.look_for_better(batches);
            if self.connection.is_some() {
                self.move_on(batches);
            }
            if !self.connect(batches)? {
                break;
            }
            self.write_once(batches)?;
            // A look at the deadline, and whether the sink is to be looked after.
            if batches.first().is_some() && !batches.more(WINDOW, Duration::ZERO) {
                break;
            }
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<bool> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.plan.tls {
            let tls = LoadedTls {
                config: tls.client.load().map_err(io::Error::other)?,
                client: tls.client.clone(),
            };
            self.plan = Arc::new(Plan {
                targets: self.plan.targets.clone(),
                connect_timeout: self.plan.connect_timeout,
                keepalive: self.plan.keepalive,
                ack_timeout: self.plan.ack_timeout,
                tls: Some(tls),
            });
        }
        self.order.forget();
        self.is_renewal_due = self.connection.is_some();
        Ok(true)
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if batches.is_closing() {
            return Ok(());
        }
        let is_inside = self.cursor.is_inside_message(batches);
        if let Some(connection) = &mut self.connection
            && let Err(error) = connection.look()
            && !((is_inside || connection.is_inside()) && connection.finishes_message(&error))
        {
            self.lost(&error, batches).map_err(SinkError::Retry)?;
        }
        self.look_for_better(batches);
        if self.connection.is_some() {
            self.move_on(batches);
            return Ok(());
        }
        // Whoever starts a server wants to know whether the receiver is there. Later the next
        // message asks.
        if !self.has_tried {
            self.start_anew(batches).map_err(SinkError::Retry)?;
        }
        match self.take_outcome() {
            Some((_, Ok(connection))) => self.begin(connection, batches),
            Some((_, Err(why))) => return Err(SinkError::Retry(io::Error::other(why))),
            None => {}
        }
        Ok(())
    }

    fn finish(&mut self, batches: &mut Batches<'_>) {
        if let Some(connection) = self.connection.take() {
            self.tell_discarded(&connection, batches.logger());
            // Nothing is lost where the receiver does not end its stream: what is left of the drain
            // is for the threads to end.
            let patience = batches.time_left(FINISH_PATIENCE * 4) / 4;
            connection.finish(patience, || batches.is_timed_out());
        }
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.connection.as_ref().is_some_and(|connection| {
            connection.is_inside() || self.cursor.is_inside_message(batches)
        })
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            connection.finish(Duration::ZERO, || true);
        }
    }
}
