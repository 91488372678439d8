//! What the thread of a connection does: reads, cuts, sends.

use std::error::Error;
use std::fmt;

use log::Level;

use super::batch::Batch;
use super::batch::builder::Decoded;
use super::batch::pool::Pool;
use super::framing::End;
use super::reader::Reader;
use super::shared::Shared;
use crate::server::{
    BoxError, Connection, Discard, DropReason, EndReason, Ended, SendError, Sender, counted,
};

/// Until the stream ends, or a send says that the connection does.
pub(super) fn run(
    connection: &mut Connection,
    sender: &Sender<Batch>,
    shared: &Shared,
) -> Result<(), BoxError> {
    let mut reader = Reader::new(
        &shared.pool,
        &shared.ledger,
        shared.form,
        shared.decoder.clone(),
    );
    loop {
        let most = connection.hold_to_rate();
        let (frames, is_last) = match reader.next(connection, most) {
            Ok(Some(frames)) => (frames, false),
            Ok(None) => {
                say_incomplete(connection, &reader);
                (reader.finish(End::Eof), true)
            }
            Err(error) => {
                let ended = Ended::reason_of(&error);
                let reason = discard_for(ended);
                if reason == Discard::Reset {
                    say_incomplete(connection, &reader);
                }
                let cut_inside = ended
                    .filter(|_| reason == Discard::DeadlinePassed)
                    .zip(reader.unfinished())
                    .map(|(ended, unfinished)| Told {
                        text: with_opening(unfinished, &reader),
                        ended: Ended(ended),
                    });
                reader.finish(End::Cut(reason));
                return Err(cut_inside.map_or_else(|| error.into(), BoxError::from));
            }
        };
        connection.progress(frames.finished, reader.is_inside());
        let violation = frames.violation;
        if violation.is_none() {
            say_oversize(connection, &frames, shared.max_message, &reader);
        }
        if let Err(error) = send(frames, sender, &shared.pool) {
            // What else was read is booked for the same reason, all at once: there may be tens of thousands of messages,
            // and thousands of connections that are cut with this one.
            let rest = reader.give_up_rest();
            sender.dropped(DropReason::Oversize, rest.dropped);
            sender.dropped_after_end(rest.finished - rest.dropped);
            // The error says that it was aborted, and the connection what for.
            let ended = connection.end().filter(|&end| end != EndReason::Eof);
            let reason = ended.or_else(|| error.downcast_ref::<Ended>().map(|ended| ended.0));
            reader.finish(End::Cut(discard_for(reason)));
            return Err(error);
        }
        if let Some(violation) = violation {
            // What was read behind it is discarded for the same reason.
            reader.give_up_rest();
            return Err(Box::new(Told {
                text: with_opening(violation, &reader),
                ended: Ended(EndReason::ProtocolError),
            }));
        }
        if is_last {
            return Ok(());
        }
    }
}

/// What ends a connection, with what was seen of its stream for the line that names it.
#[derive(Debug)]
struct Told {
    text: String,
    ended: Ended,
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for Told {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.ended)
    }
}

/// What was seen, and what the stream's first bytes look like, unless that is said already.
fn with_opening(seen: impl fmt::Display, reader: &Reader<'_>) -> String {
    let text = seen.to_string();
    match reader.looks_like() {
        Some(what) if !text.contains(what) => format!("{text}; what came first {what}"),
        _ => text,
    }
}

/// Names a connection whose messages were too long, where that does not end it.
#[cold]
#[inline(never)]
fn say_oversize(
    connection: &Connection,
    frames: &Decoded,
    max_message: usize,
    reader: &Reader<'_>,
) {
    let became = match (frames.truncated, frames.dropped) {
        (0, 0) => return,
        (0, _) => "dropped",
        _ => "truncated",
    };
    let (id, peer) = (connection.id(), connection.peer());
    let begins = frames.oversize.map(|seen| format!("; it begins {seen}"));
    let begins = begins.unwrap_or_default();
    connection.logger().log_limited("oversize", Level::Warn, || {
        let max_message = counted(max_message as u64, "byte");
        let seen = format!("it is {became}{begins}");
        let seen = with_opening(seen, reader);
        format!("connection {id} from {peer} sent a message of more than {max_message} (max_message): {seen}")
    });
}

/// Names a connection that its peer ended inside a counted message: nothing of it is delivered.
#[inline(never)]
fn say_incomplete(connection: &Connection, reader: &Reader<'_>) {
    let Some(unfinished) = reader.unfinished() else {
        return;
    };
    if !unfinished.is_counted() {
        return;
    }
    let (id, peer) = (connection.id(), connection.peer());
    connection.logger().log_limited("incomplete", Level::Warn, || {
        let unfinished = with_opening(unfinished, reader);
        format!("connection {id} from {peer} ended inside a counted message, which is discarded: {unfinished}")
    });
}

/// Sends what was found, and books what was dropped of it.
fn send(frames: Decoded, sender: &Sender<Batch>, pool: &Pool) -> Result<(), BoxError> {
    if frames.dropped > 0 {
        sender.dropped(DropReason::Oversize, frames.dropped);
    }
    match frames.batch.map(|batch| sender.send(batch)) {
        None | Some(Ok(())) => Ok(()),
        Some(Err(SendError::Full(batch))) => {
            pool.put(batch.into_buffer());
            Ok(())
        }
        Some(Err(error)) => Err(error.into()),
    }
}

/// What the unfinished message is discarded for, by how the stream ended. Without a reason of ours it was
/// the peer or the network.
fn discard_for(reason: Option<EndReason>) -> Discard {
    match reason {
        None | Some(EndReason::Reset) => Discard::Reset,
        Some(EndReason::Shutdown) => Discard::Shutdown,
        Some(EndReason::SendTimeout) => Discard::SendTimeout,
        Some(
            EndReason::FrameTimeout
            | EndReason::IdleTimeout
            | EndReason::FirstByteTimeout
            | EndReason::WriteTimeout,
        ) => Discard::DeadlinePassed,
        Some(EndReason::Aborted) => Discard::Aborted,
        Some(
            EndReason::Eof
            | EndReason::NoData
            | EndReason::HandlerReturned
            | EndReason::ProtocolError
            | EndReason::HandlerError
            | EndReason::HandlerPanicked,
        ) => Discard::Failed,
    }
}
