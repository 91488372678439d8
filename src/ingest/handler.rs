//! What the thread of an ingest server's connection does: reads, decodes, sends.

use std::io;
use std::sync::Arc;

use super::batch::Batch;
use super::batch::builder::Decoded;
use super::batch::pool::Pool;
use super::framing::{End, Violation};
use super::reader::Reader;
use super::shared::Shared;
use super::stream_end::{PeerError, discarded_for, log_incomplete, log_oversize};
use crate::server::{BoxError, Connection, Discard, DropReason, EndReason, Ended, Sender};

/// The handler of an ingest server, of which each connection's thread runs [`run`].
pub(super) fn new(
    shared: Arc<Shared>,
) -> impl Fn(&mut Connection, &Sender<Batch>) -> Result<(), BoxError> {
    move |connection, sender| run(connection, sender, &shared)
}

/// Runs until the stream ends, or a send says that the connection ends.
///
/// This function waits for the peer, so what it has on the stack is small: an idle thread holds
/// each page of stack that it ever touched. Whatever needs more is in a function of its own.
fn run(
    connection: &mut Connection,
    sender: &Sender<Batch>,
    shared: &Shared,
) -> Result<(), BoxError> {
    let mut reader = Reader::of(connection, shared);
    loop {
        let max_messages = connection.hold_to_rate();
        match reader.read(connection) {
            Ok(true) => pass_next(&mut reader, max_messages, connection, sender, shared)?,
            Ok(false) => return pass_last(&mut reader, connection, sender, shared),
            Err(error) => return Err(discard_rest(&mut reader, connection, error)),
        }
    }
}

#[inline(never)]
fn pass_next(
    reader: &mut Reader<'_>,
    max_messages: u64,
    connection: &Connection,
    sender: &Sender<Batch>,
    shared: &Shared,
) -> Result<(), BoxError> {
    let mut decoded = Decoded::default();
    reader.next(max_messages, &mut decoded);
    pass_on(&mut decoded, reader, connection, sender, shared)
}

/// The peer ended its stream.
#[inline(never)]
fn pass_last(
    reader: &mut Reader<'_>,
    connection: &Connection,
    sender: &Sender<Batch>,
    shared: &Shared,
) -> Result<(), BoxError> {
    log_incomplete(connection, reader.incoming());
    let mut decoded = reader.finish(match connection.has_taken_leave() {
        false => End::Eof,
        // A sender that leaves because the server does begins the message anew elsewhere.
        true => End::Interrupted(Discard::Shutdown),
    });
    pass_on(&mut decoded, reader, connection, sender, shared)
}

/// A read failed. Returns what the connection ends with.
#[inline(never)]
fn discard_rest(reader: &mut Reader<'_>, connection: &Connection, error: io::Error) -> BoxError {
    let reason = discarded_for(Ended::reason_of(&error));
    if reason == Discard::Reset {
        log_incomplete(connection, reader.incoming());
    }
    let inside = PeerError::deadline_passed(&error, reader.incoming());
    reader.finish(End::Interrupted(reason));
    inside.map_or_else(|| error.into(), BoxError::from)
}

/// Tells the server and the log what was decoded, and sends its messages.
fn pass_on(
    decoded: &mut Decoded,
    reader: &mut Reader<'_>,
    connection: &Connection,
    sender: &Sender<Batch>,
    shared: &Shared,
) -> Result<(), BoxError> {
    connection.frame_progress(decoded.finished, reader.incoming().is_inside());
    if decoded.violation.is_none() && decoded.truncated + decoded.dropped > 0 {
        log_oversize(
            connection,
            reader.incoming(),
            shared.inputs[connection.listener_index()].max_message,
            decoded.dropped,
            decoded.oversize,
        );
    }
    if let Err(error) = send(decoded, sender, &shared.pool) {
        book_unsent(connection, sender, reader, &error);
        return Err(error);
    }
    match &decoded.violation {
        Some(violation) => Err(end_for(violation, reader)),
        None => Ok(()),
    }
}

/// What was read behind the violation is discarded for the same reason.
#[inline(never)]
fn end_for(violation: &Violation, reader: &mut Reader<'_>) -> BoxError {
    reader.give_up_rest();
    PeerError::broke_protocol(*violation, reader.incoming()).into()
}

/// Sends what was found, and books what was dropped of it.
fn send(decoded: &mut Decoded, sender: &Sender<Batch>, pool: &Pool) -> Result<(), BoxError> {
    if decoded.dropped > 0 {
        sender.record_dropped(DropReason::Oversize, decoded.dropped);
    }
    let Some(batch) = decoded.batch.take() else {
        return Ok(());
    };
    match sender.send(batch) {
        Ok(()) => Ok(()),
        Err(error) if error.is_final() => Err(error.into()),
        Err(dropped) => {
            pool.put(dropped.into_inner().into_buffer());
            Ok(())
        }
    }
}

/// A send ended the connection. What else was read is booked for the same reason, all at once:
/// there may be tens of thousands of messages, and thousands of connections that end with this one.
#[inline(never)]
fn book_unsent(
    connection: &Connection,
    sender: &Sender<Batch>,
    reader: &mut Reader<'_>,
    error: &BoxError,
) {
    let rest = reader.give_up_rest();
    sender.record_dropped(DropReason::Oversize, rest.dropped);
    sender.record_dropped_after_end(rest.finished - rest.dropped);
    // The error says only that the connection was aborted; the connection knows why.
    let ended = connection.end().filter(|&end| end != EndReason::Eof);
    let reason = ended.or_else(|| error.downcast_ref::<Ended>().map(|ended| ended.0));
    reader.finish(End::Interrupted(discarded_for(reason)));
}
