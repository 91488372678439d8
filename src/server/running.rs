//! The running server as its embedder sees it, and how it ends.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
#[cfg(feature = "tls")]
use std::time::SystemTime;
use std::time::{Duration, Instant};

use log::Level;
use parking_lot::Mutex;

use super::ledger::EndReason;
use super::limits::ResourceLimits;
use super::peer::Address;
use super::report::{ConnectionInfo, Report, Stats};
#[cfg(feature = "tls")]
use super::state::listener_state::ListenerState;
use super::state::logger::Logger;
use super::state::{ReaperEvent, Shared};

/// How long threads get to notice that the last deadline has passed, and to end.
const GRACE: Duration = Duration::from_millis(250);
/// The most time that an end may take after its deadline, and so a drop: twice [`GRACE`], and the
/// rest for the logger to write its last lines.
const LAST_SECOND: Duration = Duration::from_secs(1);

/// What happens to threads whose handlers have returned.
#[derive(Clone, Copy, Debug)]
enum Remaining {
    AreJoined,
    EndWithProcess,
}

/// Every thread of the server that is not a handler's. Dropped before
/// [`conclude`](Threads::conclude), it shuts the server down at once, so that a start that fails
/// halfway leaves nothing running.
pub(super) struct Threads {
    shared: Arc<Shared>,
    /// Counts what the consumer never received as dropped.
    drop_rest: Box<dyn Fn() + Send>,
    over: Arc<AtomicBool>,
    pub(super) acceptors: Vec<JoinHandle<()>>,
    pub(super) consumer: Option<JoinHandle<()>>,
    pub(super) reaper: Option<JoinHandle<()>>,
    pub(super) watchdog: Option<JoinHandle<()>>,
    pub(super) logger: Option<JoinHandle<()>>,
}

impl Threads {
    pub(super) fn new(shared: Arc<Shared>, drop_rest: Box<dyn Fn() + Send>) -> Self {
        Threads {
            shared,
            drop_rest,
            over: Arc::new(AtomicBool::new(false)),
            acceptors: Vec::new(),
            consumer: None,
            reaper: None,
            watchdog: None,
            logger: None,
        }
    }

    pub(super) fn is_over(&self) -> impl Fn() -> bool + Send + 'static {
        let over = Arc::clone(&self.over);
        move || over.load(Ordering::Acquire)
    }

    /// Joins what can be joined, and makes the report, once all threads have ended or the deadline
    /// has passed. The order: acceptors and consumer, which the drain ended, then the reaper, the
    /// watchdog, and last the logger, which writes about the others.
    fn conclude(&mut self, ended_in_time: bool, of_threads: Remaining) -> Report {
        let shared = Arc::clone(&self.shared);
        if !ended_in_time {
            shared.time_out_consumer();
        }
        (self.drop_rest)();
        // A wait that reached the deadline has taken one grace already; this is the second.
        let begun = Instant::now();
        let until = begun + GRACE;
        let mut left = 0;
        // These have nothing left to do: on a machine without a free processor, the kernel may
        // need longer to end them, and the drain has the time.
        let last = shared.lifecycle.last_deadline().past(Duration::ZERO);
        let in_drain = last
            .filter(|_| ended_in_time)
            .map_or(until, |last| last.max(until));
        for acceptor in self.acceptors.drain(..) {
            left += join_until(acceptor, in_drain);
        }
        if let Some(consumer) = self.consumer.take()
            && join_until(consumer, in_drain) > 0
        {
            left += 1;
            let name = shared.consumer.name();
            let text = format!("abandoned: {name} did not return before the deadline");
            shared.logger.log(Level::Error, text);
        }
        let stuck = match of_threads {
            Remaining::AreJoined => shared.table.connections(),
            Remaining::EndWithProcess => shared.table.open_connections(),
        };
        if left > 0 || !stuck.is_empty() {
            shared.lifecycle.record_missed_deadline();
        }
        // A handler's thread_local may delay the reaper's join; then the reaper is left there.
        let _ = shared.reaper.try_send(ReaperEvent::ServerOver);
        left += self
            .reaper
            .take()
            .map_or(0, |reaper| join_until(reaper, until));
        self.over.store(true, Ordering::Release);
        if let Some(watchdog) = self.watchdog.take() {
            watchdog.thread().unpark();
            let _ = watchdog.join();
        }
        if left == 0 && shared.table.is_empty() {
            shared.promise.lock().take();
        }
        // What threads still hold that are left behind.
        shared.quota.close_books();
        let mut stats = shared.stats();
        stats.threads = stats.threads - shared.fixed_threads + left;
        // A send that the drain refuses may have let its handler return before anybody looks who is
        // left: what was dropped says that a deadline passed.
        let was_cut = shared.quota.counts().cut > 0;
        let report = Report {
            error: shared.lifecycle.error(),
            timed_out: was_cut || shared.lifecycle.has_missed_deadline(),
            stuck,
            ..Report::so_far(stats)
        };
        for connection in &report.stuck {
            shared.logger.log_limited("abandoned", Level::Error, || {
                format!("abandoned: the handler of connection {connection} did not return before the deadline")
            });
        }
        shared.logger.close();
        if let Some(logger) = self.logger.take() {
            join_until(logger, begun + (LAST_SECOND - GRACE));
        }
        report
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if !self.over.load(Ordering::Acquire) {
            self.shared.drain(Duration::ZERO);
            self.shared.exits.open();
            self.conclude(false, Remaining::AreJoined);
        }
    }
}

/// Joins a thread if it ends in time. Returns how many threads were left, 0 or 1.
fn join_until(thread: JoinHandle<()>, until: Instant) -> usize {
    while !thread.is_finished() {
        if Instant::now() >= until {
            return 1;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let _ = thread.join();
    0
}

enum State {
    Running(Threads),
    Over(Box<Report>),
}

/// A running TCP server. [`Server::builder`] makes one for messages of a type of your own,
/// [`Ingest::builder`](crate::ingest::Ingest::builder) one for lines and other framings.
///
/// # A server for your own type
/// ```
/// use std::io::Write;
/// use std::net::TcpStream;
/// use std::time::Duration;
/// use drainline::ingest::{Framing, ReadMessages};
/// use drainline::{Server, Weigh, heap_bytes};
///
/// struct Reading { sensor: String, value: f64 }
///
/// impl Weigh for Reading {
///     fn bytes(&self) -> usize { heap_bytes(self.sensor.capacity()) }
/// }
///
/// let (seen, readings) = std::sync::mpsc::channel();
/// let server = Server::builder::<Reading>()
///     .listen("127.0.0.1:0".parse()?)
///     .start_each(
///         |conn, out| {
///             for line in conn.messages(Framing::Lines, 1024) {
///                 let line = String::from_utf8(line?)?;
///                 if let Some((sensor, value)) = line.split_once(' ') {
///                     out.send(Reading { sensor: sensor.to_owned(), value: value.parse()? })?;
///                 }
///             }
///             Ok(())
///         },
///         move |reading| Ok(seen.send((reading.sensor, reading.value))?),
///     )?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0])?;
/// client.write_all(b"kitchen 21.5\n")?;
/// drop(client);
/// assert_eq!(readings.recv()?, ("kitchen".to_owned(), 21.5));
///
/// let report = server.shutdown(Duration::from_secs(5));
/// assert_eq!(report.stats.delivered, 1);
/// assert!(report.stats.is_balanced());
/// # Ok::<(), drainline::BoxError>(())
/// ```
///
/// # Requests and responses
/// A handler may reply, and a drain lets it answer the whole requests that were sent:
/// ```
/// use std::io::{Read, Write};
/// use std::net::TcpStream;
/// use drainline::Server;
/// use drainline::ingest::{Framing, ReadMessages};
///
/// let server = Server::builder::<String>()
///     .listen("127.0.0.1:0".parse()?)
///     .start_each(
///         |conn, log| {
///             let mut requests = conn.messages(Framing::Lines, 1024);
///             while let Some(request) = requests.next_message()? {
///                 let request = String::from_utf8(request)?;
///                 writeln!(requests, "you said {request}")?;
///                 log.send(request)?;
///             }
///             Ok(())
///         },
///         |request| {
///             assert_eq!(request, "hello");
///             Ok(())
///         },
///     )?;
///
/// let mut client = TcpStream::connect(server.local_addrs()[0])?;
/// client.write_all(b"hello\n")?;
/// client.shutdown(std::net::Shutdown::Write)?;
/// let mut answer = String::new();
/// client.read_to_string(&mut answer)?;
/// assert_eq!(answer, "you said hello\n");
/// # drop(server);
/// # Ok::<(), drainline::BoxError>(())
/// ```
/// # Close semantics
/// [`shutdown`](Server::shutdown) and [`drain`](Server::drain) end the server in good order:
/// listeners stop, what the kernel has received for each connection is read, whole messages are
/// sent, and the consumer receives what is in the buffer. Handlers have three quarters of the time,
/// the consumer has the rest. Then every wait ends, sockets are shut down, and what is left is
/// counted as dropped.
///
/// **Dropping** a server is a shutdown within zero: sockets are shut down at once, what is left is
/// counted as dropped, and one warning is logged. Drop blocks for at most a second. A handler or a
/// consumer that does not return is abandoned: Rust cannot end a thread.
#[must_use = "a server that is dropped is shut down at once"]
pub struct Server {
    addresses: Vec<Address>,
    /// Those of TCP.
    local_addrs: Vec<SocketAddr>,
    pub(super) shared: Arc<Shared>,
    state: Mutex<State>,
    layer: Option<Arc<dyn Layer>>,
}

/// What is built on a server, such as an ingest with its sink, and adds to its report.
pub(crate) trait Layer: Send + Sync {
    fn complete(&self, report: &mut Report);
    /// The server is over, and its own books are closed: what is left in others has to be booked.
    fn close_books(&self);
    fn reopen(&self);
}

impl Server {
    pub(super) fn new(addresses: Vec<Address>, threads: Threads) -> Self {
        let local_addrs = addresses.iter().filter_map(Address::socket_addr);
        Server {
            local_addrs: local_addrs.collect(),
            addresses,
            shared: Arc::clone(&threads.shared),
            state: Mutex::new(State::Running(threads)),
            layer: None,
        }
    }

    pub(crate) fn below(mut self, layer: Arc<dyn Layer>) -> Self {
        self.layer = Some(layer);
        self
    }

    /// Where the listeners listen, in the order in which they were added.
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// The addresses of the TCP listeners, in the order in which they were added.
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// The most threads, descriptors and memory that the server can need, as computed at start.
    pub fn limits(&self) -> ResourceLimits {
        self.shared.limits.clone()
    }

    /// The ledger now, or the final ledger once [`wait`](Server::wait) has returned. Takes two
    /// short locks, and a third for an ingest.
    pub fn stats(&self) -> Stats {
        self.report().stats
    }

    /// The report so far, or the final report once [`wait`](Server::wait) has returned.
    pub fn report(&self) -> Report {
        // The lock is held while the server ends, and the shared ledger is right until then.
        match self.state.try_lock().as_deref() {
            Some(State::Over(report)) => (**report).clone(),
            _ => self.complete(Report::so_far(self.shared.stats())),
        }
    }

    /// Asks the sink to reopen what it writes to, and returns at once. The sink does so within a
    /// tenth of a second, also while no messages come or it waits to retry, unless a write blocks.
    /// If reopening fails, the sink keeps what it had, and the failure is logged and counted. Does
    /// nothing on a server without a sink.
    pub fn reopen(&self) {
        if let Some(layer) = &self.layer {
            layer.reopen();
        }
    }

    /// Reads the certificates, keys and client CAs of all listeners again
    /// ([`Tls::reload`](crate::Tls::reload)), for connections that come from now on, and logs each.
    /// Where something cannot be used, that listener keeps what it has. Blocks while files are
    /// read.
    #[cfg(feature = "tls")]
    pub fn reload_tls(&self) {
        let listeners = &self.shared.listeners;
        for (at, listener) in listeners.iter().enumerate() {
            let Some(tls) = &listener.tls else {
                continue;
            };
            let has_it =
                |other: &&ListenerState| other.tls.as_ref().is_some_and(|other| other.is_same(tls));
            if listeners[..at].iter().any(|other| has_it(&other)) {
                continue;
            }
            let names = listeners[at..].iter().filter(has_it);
            let names: Vec<_> = names.map(|listener| listener.name.name()).collect();
            let name = names.join(", ");
            let (level, text) = match tls.reload() {
                Ok(()) => match tls.note(SystemTime::now()) {
                    Some(note) => (Level::Warn, format!("listener {name} has new TLS: {note}")),
                    None => (
                        Level::Info,
                        format!("listener {name} has read its TLS files again"),
                    ),
                },
                Err(error) => (
                    Level::Error,
                    format!("listener {name} keeps the TLS that it has: {error}"),
                ),
            };
            self.shared.logger.log(level, text);
        }
    }

    /// How many ticks the server's own watchdog has completed: ten a second while the server runs,
    /// whatever its sink and its peers do. Each tick takes the locks that connections and messages
    /// need. So a count that has stood still for seconds says that the server hangs, or that the
    /// process gets no processor: for the watchdog of a supervisor.
    pub fn ticks(&self) -> u64 {
        self.shared.ticks.load(Ordering::Relaxed)
    }

    /// Whether a drain has begun, or the server is over: by a call, a consumer that failed, or a
    /// listener that broke.
    pub fn is_draining(&self) -> bool {
        self.shared.lifecycle.is_stopping()
    }

    fn complete(&self, mut report: Report) -> Report {
        if let Some(layer) = &self.layer {
            layer.complete(&mut report);
        }
        report
    }

    /// Every open connection, in the order in which they were accepted.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.shared.table.connections()
    }

    /// Ends one connection now, whatever its handler waits for: its reads, writes and sends fail,
    /// and messages of a waiting send are counted as dropped (`connection_closed`). Returns `false`
    /// if there is no such connection or it was ended already. Does not wait for the handler to
    /// return.
    pub fn abort(&self, id: u64) -> bool {
        let Some(state) = self.shared.table.find(id) else {
            return false;
        };
        let first = self.shared.quota.abort(&state, EndReason::Aborted);
        state.disconnect();
        first
    }

    /// The server's log, for lines whose writer must not block.
    pub fn logger(&self) -> Logger {
        self.shared.logger.clone()
    }

    /// Begins a shutdown that may take until `within` from now, and returns at once. Later calls
    /// can only bring the deadline nearer. [`wait`](Server::wait) returns the report.
    pub fn drain(&self, within: Duration) {
        self.shared.drain(within);
    }

    /// Blocks until the server is over, because of a [`drain`](Server::drain), a consumer that
    /// failed or a listener that broke. Without one of these, blocks for ever. Otherwise blocks
    /// until at most a second after the drain's deadline: waiting threads have to notice the end,
    /// and the log has to write its last lines. Every caller gets the report.
    pub fn wait(&self) -> Report {
        self.wait_for_end();
        // The sink has received everything, so threads that end at once no longer disturb it.
        self.shared.exits.open();
        let (shared, grace) = (&self.shared, GRACE);
        let ended = shared
            .lifecycle
            .wait_over(grace, || shared.table.is_empty());
        self.conclude(ended, Remaining::AreJoined)
    }

    /// As [`wait`](Server::wait), for a process that exits next. Threads whose handlers have
    /// returned are not joined and end with the process: joining thousands can take seconds on a
    /// busy machine.
    pub fn wait_before_exit(&self) -> Report {
        let ended = self.wait_for_end();
        self.conclude(ended, Remaining::EndWithProcess)
    }

    /// Blocks until acceptors, handlers and the consumer have ended, or the deadline has passed.
    /// Threads whose handlers have returned may still run. Returns whether all have ended.
    fn wait_for_end(&self) -> bool {
        let (shared, grace) = (&self.shared, GRACE);
        let no_handlers = || shared.table.has_no_connections();
        shared.lifecycle.wait_over(grace, no_handlers)
    }

    /// [`drain`](Server::drain), then [`wait`](Server::wait).
    pub fn shutdown(&self, within: Duration) -> Report {
        self.drain(within);
        self.wait()
    }

    /// Concludes on the first call. Other callers block meanwhile, and get the same report.
    fn conclude(&self, ended: bool, of_threads: Remaining) -> Report {
        let mut state = self.state.lock();
        if let State::Running(threads) = &mut *state {
            let report = threads.conclude(ended, of_threads);
            if let Some(layer) = &self.layer {
                layer.close_books();
            }
            // Completed once: a thread that is left behind changes nothing any more.
            *state = State::Over(Box::new(self.complete(report)));
        }
        match &*state {
            State::Over(report) => (**report).clone(),
            State::Running(_) => unreachable!("it was concluded above"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let State::Running(_) = *self.state.get_mut() {
            if !self.shared.lifecycle.is_stopping() {
                let text =
                    "the server was dropped without a shutdown: every connection is closed at once";
                self.shared.logger.log(Level::Warn, text);
            }
            self.shutdown(Duration::ZERO);
        }
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}
