//! What an output writes for each message: the message alone, or with where it came from.

mod base64;
mod json;
mod template;
mod time;

use super::batch::Batch;
use super::batch::buffer::Buffer;
use json::Json;
pub use template::{Template, TemplateError};

/// What an output writes for each message, before its framing. Messages are not parsed: who wants
/// fields out of their contents does that where they are stored, or on the way there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Envelope {
    /// The message alone.
    #[default]
    Raw,
    /// One JSON object (RFC 8259), without a line break:
    ///
    /// ```json
    /// {"received":"2026-11-29T11:40:00.123456Z","listener":"syslog","peer":"192.0.2.1:4711",
    /// "name":"web1.example","connection":17,"message":"hello"}
    /// ```
    /// `received` is when the message was read (RFC 3339, UTC, microseconds), `listener` the name
    /// of the listener or its address, `peer` the other end, `name` what its certificate calls it,
    /// left out where it has none, and `connection` the number that SIGUSR1 and the log give it. A
    /// message that is not UTF-8 stands, in base64 (RFC 4648, section 4), in `message_base64` in
    /// place of `message`. A message of control characters grows to six times its length.
    Json,
    /// A text with fields.
    Template(Template),
}

impl Envelope {
    /// Whether the time of the read itself is asked for.
    pub(super) fn has_time(&self) -> bool {
        match self {
            Envelope::Raw => false,
            Envelope::Json => true,
            Envelope::Template(template) => template.has_time(),
        }
    }

    /// The most bytes that a message of `message` bytes becomes, and what is made once for its
    /// batch, where the names of listeners have `name` bytes at most.
    pub(super) fn max_bytes(&self, message: usize, name: usize) -> usize {
        match self {
            Envelope::Raw => message,
            Envelope::Json => Json::max_bytes(message, name),
            Envelope::Template(template) => template.max_bytes(message, name),
        }
    }

    /// What stands around each message of a batch.
    pub(super) fn around(&self, batch: &Batch) -> Around {
        match self {
            Envelope::Raw => Around::Parts(vec![Vec::new(); 2]),
            Envelope::Json => Around::Json(Json::of(batch)),
            Envelope::Template(template) => Around::Parts(template.parts(batch)),
        }
    }
}

/// What stands around each message of one batch.
#[derive(Debug)]
pub(super) enum Around {
    /// The message stands, as it is, between each two parts.
    Parts(Vec<Vec<u8>>),
    Json(Json),
}

impl Around {
    /// How many bytes a message becomes.
    pub(super) fn len_of(&self, message: &[u8]) -> usize {
        match self {
            Around::Json(json) => json.len_of(message),
            Around::Parts(parts) => {
                let around: usize = parts.iter().map(Vec::len).sum();
                around + parts.len().saturating_sub(1) * message.len()
            }
        }
    }

    pub(super) fn append(&self, message: &[u8], to: &mut Buffer) {
        match self {
            Around::Json(json) => json.append(message, to),
            Around::Parts(parts) => {
                for (nth, part) in parts.iter().enumerate() {
                    if nth > 0 {
                        to.append(message);
                    }
                    to.append(part);
                }
            }
        }
    }

    /// Whether what a message becomes may hold a line break or a NUL.
    pub(super) fn may_hold_delimiter(&self) -> bool {
        matches!(self, Around::Parts(_))
    }
}

#[cfg(test)]
mod tests;
