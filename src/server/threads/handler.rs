//! The body of a connection's thread.

use std::error::Error;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use log::Level;
use rustix::thread::gettid;

use crate::server::config::FirstByteTimeout;
use crate::server::ends::connection::Connection;
use crate::server::ends::sender::Outbox;
use crate::server::error::{BoxError, Ended, panic_message};
use crate::server::ledger::{EndReason, counted};
use crate::server::state::connection_state::Record;
use crate::server::state::handler_thread::{Job, Worker};
use crate::server::state::{Ending, Shared};

/// The body of a thread: the first connection, and then those that it is handed while it waits at the gate.
pub(crate) fn run_thread(shared: &Shared, worker: &Arc<Worker>, first: Job) {
    worker.is_this_thread();
    let mut job = first;
    loop {
        let is_fit = job();
        let patience = shared.config.reuse_threads.filter(|_| is_fit);
        let next = patience
            .and_then(|patience| shared.gate.park(worker, patience))
            .or_else(|| {
                let waits = || shared.gate.has_room_again();
                shared
                    .exits
                    .wait_for_turn(worker, patience.is_some(), waits)
            });
        match next {
            Some(next) => job = next,
            None => break,
        }
    }
    shared.table.leaving(worker.number);
    // As many places as there are permits, and this thread has one: never full.
    let _ = shared.reaper.try_send(Ending::Handler {
        number: worker.number,
        thread: gettid(),
    });
}

/// Runs the handler, finds out how the connection ended, lets go of the socket, and books the end. Says
/// whether it ended well: then its thread may serve another one. Nothing here waits for anybody: not for the
/// log, not for the reaper.
pub(crate) fn run<T>(
    shared: &Arc<Shared>,
    record: Arc<Record>,
    outbox: Outbox<T>,
    handler: impl FnOnce(&mut Connection, &Outbox<T>) -> Result<(), BoxError>,
) -> bool {
    record.belongs_to_this_thread();
    let (id, peer) = (record.id, record.peer);
    say_begin(shared, &record);
    let mut connection = Connection::new(Arc::clone(&record), Arc::clone(shared));
    // Whatever is not our code is in here: the handler, and what its error says and does as it is dropped.
    // So nothing of it can keep the lines below from being reached.
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        let error = handler(&mut connection, &outbox).err();
        let reason = match &error {
            None => connection.end().unwrap_or(EndReason::Finished),
            Some(error) => reason_of(&connection, error),
        };
        say_cut(shared, &record, reason, error.as_ref());
        if let Some(error) = &error {
            say_error(shared, &record, reason, error);
        }
        reason
    }));
    drop(outbox);
    drop(connection);
    let reason = outcome.unwrap_or_else(|payload| {
        let message = panic_message(payload);
        shared
            .journal
            .say_once("handler panicked", Level::Error, || {
                format!("connection {id} from {peer} ended: its handler panicked: {message}")
            });
        EndReason::Panicked
    });
    let reason = match reason {
        EndReason::Eof | EndReason::Reset if record.sample().bytes == 0 => EndReason::Probe,
        reason => reason,
    };
    // After its end a stream has nothing left to ask the kernel for.
    let unread_bytes = match reason {
        EndReason::Eof => 0,
        _ => record.unread_bytes(),
    };
    shared.table.ended(id, reason, unread_bytes);
    say_end(shared, &record, reason);
    ended_well(reason)
}

fn say_begin(shared: &Shared, record: &Record) {
    shared.journal.say_debug(|| {
        let (id, peer, at) = (record.id, record.peer, record.listener());
        format!("connection {id} from {peer} begins, at {at}")
    });
}

fn say_end(shared: &Shared, record: &Record, reason: EndReason) {
    shared.journal.say_debug(|| {
        let (id, peer, at) = (record.id, record.peer, record.listener());
        let (messages, bytes) = (record.messages(), record.sample().bytes);
        let (messages, bytes) = (counted(messages, "message"), counted(bytes, "byte"));
        format!(
            "connection {id} from {peer} ended, at {at}: {reason}; {messages} sent, {bytes} read"
        )
    });
}

/// Nothing of ours cut it, no deadline passed, and no code failed.
fn ended_well(reason: EndReason) -> bool {
    matches!(
        reason,
        EndReason::Eof
            | EndReason::Finished
            | EndReason::Probe
            | EndReason::Reset
            | EndReason::Protocol
    )
}

/// Says what the handler's error says, where that is the reason.
#[cold]
#[inline(never)]
fn say_error(shared: &Shared, record: &Record, reason: EndReason, error: &BoxError) {
    let (id, peer, bytes) = (record.id, record.peer, record.sample().bytes);
    let journal = &shared.journal;
    match reason {
        EndReason::Failed => journal.say_once("connection failed", Level::Warn, || {
            format!("connection {id} from {peer} failed: {error}")
        }),
        EndReason::Protocol => journal.say_once("protocol", Level::Warn, || {
            let bytes = counted(bytes, "byte");
            format!("connection {id} from {peer} is closed after {bytes}: {error}")
        }),
        _ => {}
    }
}

/// Names a connection that was cut for a time limit, with the limit, and what its handler says of it.
#[inline(never)]
fn say_cut(shared: &Shared, record: &Record, reason: EndReason, error: Option<&BoxError>) {
    let config = &shared.config;
    let (key, limit) = match reason {
        EndReason::SendTimeout => ("send timeout", Some(config.send_timeout)),
        EndReason::FrameTimeout => ("frame timeout", config.frame_timeout),
        EndReason::IdleTimeout => ("idle timeout", config.idle_timeout),
        EndReason::WriteTimeout => ("write timeout", config.write_timeout),
        EndReason::FirstByteTimeout => return say_silent(shared, record),
        _ => return,
    };
    let (id, peer, bytes) = (record.id, record.peer, record.sample().bytes);
    shared.journal.say_once(key, Level::Warn, || {
        let limit = limit.unwrap_or_default();
        let bytes = counted(bytes, "byte");
        let what = error.filter(|error| is_of_an_end(error));
        let what = what.map(|what| format!(": {what}")).unwrap_or_default();
        format!(
            "connection {id} from {peer} is cut: {reason} of {limit:?} passed after {bytes}{what}"
        )
    });
}

fn say_silent(shared: &Shared, record: &Record) {
    let (id, peer) = (record.id, record.peer);
    shared
        .journal
        .say_once("first byte timeout", Level::Warn, || {
            let why = match shared.config.first_byte_timeout {
                FirstByteTimeout::After(limit) => format!("first_byte_timeout of {limit:?} passed"),
                _ => "it makes room at max_connections (first_byte_timeout is auto)".to_owned(),
            };
            format!("connection {id} from {peer} is cut: it never sent a byte, and {why}")
        });
}

/// What we ended, we know best; then what the stream showed; then what the handler says.
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
            None => EndReason::Failed,
        },
        None => EndReason::Failed,
    }
}

/// Whether an error says more of an end than its reason: [`Ended`] is its source.
fn is_of_an_end(error: &BoxError) -> bool {
    error.source().is_some_and(|source| source.is::<Ended>())
}

/// The reason that an error is, or that it gives as its source.
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
