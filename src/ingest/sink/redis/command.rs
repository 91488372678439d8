//! The commands, encoded one behind the other into one buffer.

use std::io::Write;

use super::in_flight::{InFlight, Piece};
use crate::ingest::batch::Batch;
use crate::server::Weigh;

/// Encoded bytes that are gathered before they are sent. A longer message goes in parts.
pub(super) const CHUNK: usize = 256 << 10;
/// What may stand behind the last whole command of a chunk: the length of a message, and two ends
/// of a line.
const MARGIN: usize = 32;

/// Encodes `XADD` for messages, of which everything but the message is the same each time.
#[derive(Debug)]
pub(super) struct Encoder {
    /// The command up to the digits of the message's length.
    head: Vec<u8>,
    /// The messages that are being encoded.
    piece: Option<Piece>,
    /// Bytes of the first of these that are encoded already, its head before them.
    begun: Option<usize>,
}

impl Encoder {
    pub(super) fn new(stream: &str, field: &str, max_len: Option<u64>) -> Self {
        let mut command = redis::cmd("XADD");
        command.arg(stream);
        if let Some(max_len) = max_len {
            command.arg("MAXLEN").arg("~").arg(max_len);
        }
        // An empty message is `$0`, and two ends of a line.
        let mut head = command.arg("*").arg(field).arg("").get_packed_command();
        head.truncate(head.len() - b"0\r\n\r\n".len());
        Encoder {
            head,
            piece: None,
            begun: None,
        }
    }

    /// The most bytes of a chunk.
    pub(super) fn max_bytes(&self) -> usize {
        CHUNK + self.head.len() + MARGIN
    }

    /// Appends commands to `out` until it has a chunk of them, `window` bytes are in flight, or
    /// there is nothing to send. Only to the end of the message that is begun, if `to_end` says so.
    pub(super) fn fill<'a>(
        &mut self,
        out: &mut Vec<u8>,
        in_flight: &mut InFlight,
        window: usize,
        to_end: bool,
        batch_of: impl Fn(u64) -> Option<&'a Batch>,
    ) {
        while out.len() < CHUNK {
            let is_allowed = !to_end && in_flight.bytes() < window;
            if !is_allowed && self.begun.is_none() {
                return;
            }
            if self.piece.is_none() {
                let messages = |number| batch_of(number).map(Batch::messages);
                self.piece = in_flight.next_piece(messages);
            }
            let Some(piece) = &mut self.piece else {
                return;
            };
            // What is not answered is held.
            let Some(batch) = batch_of(piece.number) else {
                self.piece = None;
                self.begun = None;
                continue;
            };
            let first = piece.messages.start as usize;
            let count = (piece.messages.end - piece.messages.start) as usize;
            for message in batch.iter().skip(first).take(count) {
                let at = match self.begun.take() {
                    Some(at) => at,
                    None if to_end || in_flight.bytes() >= window || out.len() >= CHUNK => break,
                    None => {
                        let before = out.len();
                        out.extend_from_slice(&self.head);
                        // A write to memory does not fail.
                        let _ = write!(out, "{}\r\n", message.len());
                        let bytes = out.len() - before + message.len() + 2;
                        in_flight.sends(piece.number, piece.messages.start, bytes);
                        0
                    }
                };
                let rest = &message[at..];
                let part = rest.len().min(CHUNK.saturating_sub(out.len()));
                out.extend_from_slice(&rest[..part]);
                if part < rest.len() {
                    self.begun = Some(at + part);
                    return;
                }
                out.extend_from_slice(b"\r\n");
                piece.messages.start += 1;
            }
            if piece.messages.is_empty() {
                self.piece = None;
            }
        }
    }

    /// The connection is over: the next command begins anew. What was not begun is put back.
    pub(super) fn is_over(&mut self, in_flight: &mut InFlight) {
        let is_begun = self.begun.take().is_some();
        if let Some(mut piece) = self.piece.take() {
            // The command of that message is in flight.
            piece.messages.start += u64::from(is_begun);
            in_flight.put_back(piece);
        }
    }
}
