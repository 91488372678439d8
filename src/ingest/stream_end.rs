//! How a stream came to its end, or a message to nothing: what its bytes are discarded for, what
//! the handler's error says, and the lines of the log that name the peer.

use std::error::Error;
use std::fmt;
use std::io;

use log::Level;

use super::framing::{Seen, Violation};
use super::incoming::Incoming;
use crate::server::{Connection, Discard, EndReason, Ended, counted};

/// What a peer did that its connection ends for, with what was seen of its stream. The source is
/// the [`Ended`] that the connection is counted under.
#[derive(Debug)]
pub(super) struct PeerError {
    text: String,
    ended: Ended,
}

impl PeerError {
    /// The peer broke the protocol.
    pub(super) fn broke_protocol(violation: Violation, incoming: &Incoming) -> Self {
        PeerError {
            text: with_opening(violation, incoming),
            ended: Ended(EndReason::ProtocolError),
        }
    }

    /// What a failed read says, if a deadline passed while a message was unfinished.
    pub(super) fn deadline_passed(error: &io::Error, incoming: &Incoming) -> Option<Self> {
        let reason = Ended::reason_of(error)?;
        if discarded_for(Some(reason)) != Discard::DeadlinePassed {
            return None;
        }
        Some(PeerError {
            text: with_opening(incoming.unfinished()?, incoming),
            ended: Ended(reason),
        })
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Error for PeerError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.ended)
    }
}

/// What the unfinished message is discarded for, by how the stream ended. Without a reason of ours
/// the peer or the network ended it.
pub(super) fn discarded_for(reason: Option<EndReason>) -> Discard {
    match reason {
        None | Some(EndReason::Reset) => Discard::Reset,
        Some(EndReason::Unclosed) => Discard::Unclosed,
        Some(EndReason::ProtocolError) => Discard::InvalidFrame,
        Some(EndReason::Shutdown) => Discard::Shutdown,
        Some(EndReason::SendTimeout) => Discard::SendTimeout,
        Some(
            EndReason::FrameTimeout
            | EndReason::IdleTimeout
            | EndReason::FirstByteTimeout
            | EndReason::HandshakeTimeout
            | EndReason::WriteTimeout,
        ) => Discard::DeadlinePassed,
        Some(EndReason::Aborted) => Discard::Aborted,
        Some(
            EndReason::Eof
            | EndReason::NoData
            | EndReason::HandlerReturned
            | EndReason::NotAllowed
            | EndReason::PerAddress
            | EndReason::HandshakeFailed
            | EndReason::HandlerError
            | EndReason::HandlerPanicked,
        ) => Discard::Failed,
    }
}

/// Names a connection whose messages were too long, where that does not end the connection:
/// they were `dropped`, or truncated if none was, and the first of them begins as `begins` shows.
#[cold]
#[inline(never)]
pub(super) fn log_oversize(
    connection: &Connection,
    incoming: &Incoming,
    max_message: usize,
    dropped: u64,
    begins: Option<Seen>,
) {
    let begins = begins.map(|seen| format!("; it begins {seen}"));
    let begins = begins.unwrap_or_default();
    connection
        .logger()
        .log_limited("oversize", Level::Warn, || {
            let max_message = counted(max_message as u64, "byte");
            let became = if dropped > 0 { "dropped" } else { "truncated" };
            let seen = with_opening(format!("it is {became}{begins}"), incoming);
            format!(
                "{} sent a message of more than {max_message} (max_message): \
             {seen}",
                connection.label()
            )
        });
}

/// Names a connection that its peer ended inside a counted message: nothing of it is delivered.
#[inline(never)]
pub(super) fn log_incomplete(connection: &Connection, incoming: &Incoming) {
    let Some(unfinished) = incoming.unfinished() else {
        return;
    };
    if !unfinished.is_counted() {
        return;
    }
    connection
        .logger()
        .log_limited("incomplete", Level::Warn, || {
            let unfinished = with_opening(unfinished, incoming);
            format!(
                "{} ended inside a counted message, which is discarded: {unfinished}",
                connection.label()
            )
        });
}

/// What was seen, and what the stream's first bytes look like, unless that is said already.
fn with_opening(seen: impl fmt::Display, incoming: &Incoming) -> String {
    let text = seen.to_string();
    match incoming.looks_like() {
        Some(what) if !text.contains(what) => format!("{text}; what came first {what}"),
        _ => text,
    }
}
