//! The body of a handler's thread, which serves one connection after another.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use crossbeam_channel as channel;
use log::Level;
use rustix::thread::gettid;

use crate::server::config::FirstByteTimeout;
use crate::server::ends::connection::Connection;
use crate::server::ends::sender::{Envelope, Sender};
use crate::server::ends::weigh::Weigh;
use crate::server::error::{BoxError, Ended, drop_caught, panic_message};
use crate::server::ledger::{EndReason, Reason, counted};
use crate::server::state::Shared;
use crate::server::state::connection_state::{ConnectionState, by, named};
use crate::server::state::handler_thread::{HandlerThread, Job, Serve};

/// Makes the thread of the client that has waited longest for one, unless enough are being made.
/// No thread is there for that alone: an acceptor calls this after each burst of clients, and each
/// new thread before it serves its own client. So clients are accepted while threads are made, and
/// however many come at once, only a few of their threads begin at a time.
///
/// If the system refuses the thread, the client waits on, and nobody is accepted until a thread
/// could be made or nobody waits for one any more.
pub(super) fn make_next(shared: &Arc<Shared>) {
    let Some((thread, first)) = shared.table.next_thread() else {
        return;
    };
    let number = thread.number;
    match spawn(shared, thread, first) {
        Ok(handle) => {
            if let Some(pid) = shared.table.made(number, Some(handle)) {
                shared.tell_reaper(number, pid);
            }
        }
        Err(error) => {
            // The watchdog logs the error.
            shared.accepting.set_error(error.to_string());
            shared.table.accept_failed();
            shared.thread_refused(number);
        }
    }
}

/// Hands clients that wait for threads to threads that are idle, because the system refuses new
/// ones.
pub(super) fn serve_by_idle(shared: &Shared) {
    while let Some(idle) = shared.admission.take_idle() {
        match shared.table.take_starting(idle.number()) {
            Some(job) => idle.serve(job),
            None => break,
        }
    }
}

/// The body of a thread that is to be made. Dropped before it ran, as by a spawner that has gone,
/// its thread counts as refused.
struct Body {
    shared: Arc<Shared>,
    thread: Arc<HandlerThread>,
    first: Option<Job>,
}

impl Body {
    fn run(mut self) {
        if let Some(first) = self.first.take() {
            run_thread(&self.shared, &self.thread, first);
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.first.is_some() {
            self.shared.thread_refused(self.thread.number);
        }
    }
}

/// Makes a handler's thread. A panic of an embedder's spawner is returned as an error, because it
/// must end neither an acceptor nor a handler.
fn spawn(
    shared: &Arc<Shared>,
    thread: Arc<HandlerThread>,
    first: Job,
) -> io::Result<JoinHandle<()>> {
    let mut builder = std::thread::Builder::new().name(format!("handler-{}", thread.number));
    if let Some(bytes) = shared.config.stack_size {
        builder = builder.stack_size(bytes);
    }
    let body = Body {
        shared: Arc::clone(shared),
        thread,
        first: Some(first),
    };
    let body = move || body.run();
    let Some(spawner) = &shared.spawner else {
        return builder.spawn(body);
    };
    catch_unwind(AssertUnwindSafe(|| spawner(builder, Box::new(body))))
        .unwrap_or_else(|payload| Err(io::Error::other(panic_message(payload))))
}

/// Serves the first connection, and then those that the thread is handed while it is idle.
fn run_thread(shared: &Arc<Shared>, thread: &Arc<HandlerThread>, first: Job) {
    thread.bind_to_current_thread();
    match shared.table.begun(thread.number) {
        None => return,
        Some(false) => {}
        Some(true) => shared.admission.wake(),
    }
    make_next(shared);
    let mut next = Some(first);
    while let Some(job) = next {
        // Taken apart so that nothing holds the sending end of the buffer open while the thread is
        // idle.
        let Job {
            connection,
            handler,
        } = job;
        let listener = shared.listener_of(&connection);
        let is_limited = listener.max_connections.is_some();
        let is_reusable = handler.serve(connection);
        // Where the acceptors are gone, what the embedder's handler captured goes here, and may
        // panic.
        drop_caught(handler);
        // Only a listener that is limited has permits to return.
        let idles = || {
            if is_limited {
                shared.table.return_listener_permit(thread.number);
            }
        };
        next = next_job(shared, thread, is_reusable, idles);
    }
    let (number, pid) = (thread.number, gettid());
    if shared.table.leaving(number, pid) {
        shared.tell_reaper(number, pid);
    }
}

/// Blocks a thread whose connection has ended until it is handed another or may end. Calls `idles`
/// once another may have it.
fn next_job(
    shared: &Shared,
    thread: &Arc<HandlerThread>,
    is_reusable: bool,
    idles: impl Fn(),
) -> Option<Job> {
    let max_idle = shared.config.reuse_threads.filter(|_| is_reusable);
    if let Some(max_idle) = max_idle {
        let starting = shared.table.take_starting(thread.number);
        let job = starting.or_else(|| shared.admission.wait_idle(thread, max_idle, &idles));
        if job.is_some() {
            return job;
        }
    }
    let is_reusable = max_idle.is_some();
    if shared.exits.may_end(thread, is_reusable) {
        return None;
    }
    if is_reusable {
        idles();
    }
    shared.admission.announce_free_slot();
    shared.exits.wait_for_turn(thread, is_reusable)
}

/// An embedder's handler, and the sending end of the buffer that it is given. Acceptors and jobs
/// hold it; when the last acceptor and the last handler have ended, the channel is disconnected.
pub(crate) struct Handlers<T, H> {
    pub(crate) shared: Arc<Shared>,
    pub(crate) channel: channel::Sender<Box<Envelope<T>>>,
    pub(crate) handler: H,
}

impl<T, H> Serve for Handlers<T, H>
where
    T: Weigh + Send + 'static,
    H: Fn(&mut Connection, &Sender<T>) -> Result<(), BoxError> + Send + Sync + 'static,
{
    fn serve(&self, connection: Arc<ConnectionState>) -> bool {
        let sender = Sender::new(
            self.channel.clone(),
            Arc::clone(&self.shared.quota),
            Arc::clone(&connection),
            &self.shared.config,
        );
        run(&self.shared, connection, sender, &self.handler)
    }
}

/// Runs the handler, finds out how the connection ended, drops the socket, and counts the end.
/// Returns whether the connection ended well, so that its thread may serve another. Beside the
/// handler, nothing here blocks, neither on the log nor on the reaper.
fn run<T>(
    shared: &Arc<Shared>,
    state: Arc<ConnectionState>,
    sender: Sender<T>,
    handler: impl FnOnce(&mut Connection, &Sender<T>) -> Result<(), BoxError>,
) -> bool {
    let served_here = state.serve_on_current_thread();
    log_begin(shared, &state);
    let mut connection = Connection::new(Arc::clone(&state), Arc::clone(shared));
    // All user code runs in here: the handler, and its error's Display and Drop. So no panic can
    // keep the lines below from being reached.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let opened = connection.open();
        let served = opened.and_then(|()| handler(&mut connection, &sender));
        let error = served.err();
        let reason = match &error {
            None => connection.end().unwrap_or(EndReason::HandlerReturned),
            Some(error) => reason_of(&connection, error),
        };
        log_timeout(shared, &state, reason, error.as_ref());
        if let Some(error) = &error {
            log_error(shared, &state, reason, error);
        }
        reason
    }));
    drop(served_here);
    state.end_writers();
    state.close_session();
    let unread_bytes = connection.unread_bytes();
    drop(sender);
    drop(connection);
    let reason = outcome.unwrap_or_else(|payload| {
        let message = panic_message(payload);
        shared
            .logger
            .log_limited("handler panicked", Level::Error, || {
                let connection = state.label();
                format!("{connection} ended: its handler panicked: {message}")
            });
        EndReason::HandlerPanicked
    });
    let reason = match reason {
        EndReason::Eof | EndReason::Unclosed | EndReason::Reset if state.sample().bytes == 0 => {
            EndReason::NoData
        }
        reason => reason,
    };
    // Nothing can be unread behind the end of a stream, so the kernel is not asked.
    let unread_bytes = match reason {
        EndReason::Eof => 0,
        EndReason::Shutdown => state.late_unread_bytes() + unread_bytes,
        _ => state.unread_bytes() + unread_bytes,
    };
    if reason == EndReason::Shutdown {
        state.reset_at_close();
    }
    shared.table.ended(&state, reason, unread_bytes);
    log_end(shared, &state, reason);
    ended_well(reason)
}

fn log_begin(shared: &Shared, state: &ConnectionState) {
    shared.logger.log_debug(|| {
        let (id, peer, at) = (state.id, state.peer(), state.listener.name());
        format!("connection {id} from {peer} accepted at {at}")
    });
}

fn log_end(shared: &Shared, state: &ConnectionState, reason: EndReason) {
    shared.logger.log_debug(|| {
        let (id, peer, by) = (state.id, state.peer(), by(state.balancer()));
        let name = named(state.tls_name());
        let at = state.listener.name();
        let (messages, bytes) = (state.messages(), state.sample().bytes);
        let (messages, bytes) = (counted(messages, "message"), counted(bytes, "byte"));
        format!(
            "connection {id} from {peer}{name}{by} at {at} ended: {reason}; {messages} sent, {bytes} read"
        )
    });
}

/// Whether a connection ended by its peer or its handler, and not by a deadline, an abort, a
/// shutdown or an error in the handler.
fn ended_well(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::Eof
            | EndReason::Unclosed
            | EndReason::HandlerReturned
            | EndReason::NoData
            | EndReason::Reset
            | EndReason::ProtocolError
            | EndReason::NotAllowed
            | EndReason::PerAddress
            | EndReason::HandshakeFailed
    )
}

/// Logs the handler's error if that error ended the connection.
#[cold]
#[inline(never)]
fn log_error(shared: &Shared, state: &ConnectionState, reason: EndReason, error: &BoxError) {
    let bytes = state.sample().bytes;
    let logger = &shared.logger;
    match reason {
        EndReason::HandlerError => logger.log_limited("connection failed", Level::Warn, || {
            format!("{} failed: {error}", state.label())
        }),
        EndReason::ProtocolError => logger.log_limited("protocol_error", Level::Warn, || {
            let bytes = counted(bytes, "byte");
            format!("{} is closed after {bytes}: {error}", state.label())
        }),
        EndReason::NotAllowed | EndReason::PerAddress | EndReason::HandshakeFailed => {
            logger.log_limited(reason.name(), Level::Warn, || {
                format!("{} is closed: {reason}, {error}", state.label())
            });
        }
        _ => {}
    }
}

/// Logs a connection that timed out, with the limit and what the handler's error adds.
#[inline(never)]
fn log_timeout(
    shared: &Shared,
    state: &ConnectionState,
    reason: EndReason,
    error: Option<&BoxError>,
) {
    let deadlines = &shared.listener_of(state).deadlines;
    let (key, limit) = match reason {
        EndReason::SendTimeout => ("send timeout", Some(shared.config.send_timeout)),
        EndReason::FrameTimeout => ("frame timeout", deadlines.frame),
        EndReason::IdleTimeout => ("idle timeout", deadlines.idle),
        EndReason::WriteTimeout => ("write timeout", deadlines.write),
        EndReason::HandshakeTimeout => ("handshake timeout", Some(deadlines.handshake)),
        EndReason::FirstByteTimeout => return log_silent(shared, state),
        _ => return,
    };
    let bytes = state.sample().bytes;
    shared.logger.log_limited(key, Level::Warn, || {
        let (connection, limit) = (state.label(), limit.unwrap_or_default());
        let bytes = counted(bytes, "byte");
        let what = error.filter(|error| is_of_an_end(error));
        let what = what.map(|what| format!(": {what}")).unwrap_or_default();
        format!("{connection} timed out: {reason} of {limit:?} passed after {bytes}{what}")
    });
}

fn log_silent(shared: &Shared, state: &ConnectionState) {
    shared
        .logger
        .log_limited("first byte timeout", Level::Warn, || {
            let why = match shared.listener_of(state).first_byte_timeout {
                FirstByteTimeout::After(limit) => {
                    format!("first_byte_timeout of {limit:?} passed without a byte")
                }
                _ => "no byte so far, and a new client needs the slot (first_byte_timeout is auto)"
                    .to_owned(),
            };
            format!("{} timed out: {why}", state.label())
        });
}

/// Why a connection ended whose handler returned an error: the reason that the server set comes
/// first, then what the stream showed, then what the error is.
fn reason_of(connection: &Connection, error: &BoxError) -> EndReason {
    if let Some(reason) = connection.end().filter(|&reason| reason != EndReason::Eof) {
        return reason;
    }
    if let Some(reason) = ended_within(error.as_ref()) {
        return reason;
    }
    match error.downcast_ref::<io::Error>() {
        Some(error) => match Ended::reason_of(error) {
            Some(reason) => reason,
            None if is_gone(error.kind()) => EndReason::Reset,
            None => EndReason::HandlerError,
        },
        None => EndReason::HandlerError,
    }
}

/// Whether an error adds something to the reason of an end: then [`Ended`] is its source.
fn is_of_an_end(error: &BoxError) -> bool {
    error.source().is_some_and(|source| source.is::<Ended>())
}

/// The reason of an error that is an [`Ended`] or has one as its source.
fn ended_within(error: &(dyn Error + 'static)) -> Option<EndReason> {
    let ended = |error: &(dyn Error + 'static)| error.downcast_ref::<Ended>().map(|ended| ended.0);
    ended(error).or_else(|| error.source().and_then(ended))
}

fn is_gone(kind: io::ErrorKind) -> bool {
    matches!(
        kind,
        io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}
