//! A message and its origin as one JSON object.

use std::fmt::Write;

use super::base64;
use super::time::{self, Rfc3339};
use crate::ingest::batch::Batch;
use crate::ingest::batch::buffer::Buffer;
use crate::server::MAX_PEER_NAME;

const MESSAGE: &[u8] = b"\"message\":\"";
const MESSAGE_BASE64: &[u8] = b"\"message_base64\":\"";
const END: &[u8] = b"\"}";

/// The longest escape of one byte: `\u001b`.
const MAX_ESCAPE: usize = 6;
/// What a peer, or a number, is as text, at most: `[ipv6%scope]:port`.
pub(super) const MAX_PEER_TEXT: usize = 80;
pub(super) const MAX_NUMBER: usize = 20;

/// The objects of one batch.
#[derive(Debug)]
pub(in crate::ingest) struct Json {
    /// All up to the message, its key not included.
    head: Vec<u8>,
}

impl Json {
    pub(super) fn of(batch: &Batch) -> Json {
        let mut head = String::with_capacity(160);
        // Writing to a String does not fail.
        let _ = write!(head, r#"{{"received":"{}","#, Rfc3339(batch.received_at()));
        push_member(&mut head, "listener", batch.listener());
        push_member(&mut head, "peer", &batch.peer().to_string());
        if let Some(name) = batch.tls_name() {
            push_member(&mut head, "name", name);
        }
        let _ = write!(head, r#""connection":{},"#, batch.connection_id());
        Json {
            head: head.into_bytes(),
        }
    }

    pub(super) fn max_bytes(message: usize, name: usize) -> usize {
        let names = (name + MAX_PEER_NAME).saturating_mul(MAX_ESCAPE);
        let keys = r#"{"received":"","listener":"","peer":"","name":"","connection":,"#.len();
        let head = keys + time::LEN + MAX_PEER_TEXT + MAX_NUMBER + names;
        let message = message.saturating_mul(MAX_ESCAPE);
        // The head is made once for its batch, and stands in each object.
        (2 * head + MESSAGE_BASE64.len() + END.len()).saturating_add(message)
    }

    pub(super) fn len_of(&self, message: &[u8]) -> usize {
        let message = match is_text(message) {
            true => MESSAGE.len() + escaped_len(message),
            false => MESSAGE_BASE64.len() + base64::len_of(message),
        };
        self.head.len() + message + END.len()
    }

    pub(super) fn append(&self, message: &[u8], to: &mut Buffer) {
        to.append(&self.head);
        if is_text(message) {
            to.append(MESSAGE);
            escape(message, |part| to.append(part));
        } else {
            to.append(MESSAGE_BASE64);
            base64::append(message, to);
        }
        to.append(END);
    }
}

fn is_text(message: &[u8]) -> bool {
    std::str::from_utf8(message).is_ok()
}

fn push_member(object: &mut String, key: &str, value: &str) {
    let _ = write!(object, "\"{key}\":\"");
    // Each part of what is UTF-8 is split at bytes of ASCII.
    escape(value.as_bytes(), |part| {
        object.push_str(&String::from_utf8_lossy(part))
    });
    object.push_str("\",");
}

/// What stands for a byte in a string of JSON, where that is not the byte itself: RFC 8259,
/// section 7.
fn escape_of(byte: u8) -> Option<&'static [u8]> {
    const CONTROLS: &[u8; 32 * MAX_ESCAPE] = b"\\u0000\\u0001\\u0002\\u0003\\u0004\\u0005\\u0006\
        \\u0007\\u0008\\u0009\\u000a\\u000b\\u000c\\u000d\\u000e\\u000f\\u0010\\u0011\\u0012\
        \\u0013\\u0014\\u0015\\u0016\\u0017\\u0018\\u0019\\u001a\\u001b\\u001c\\u001d\\u001e\\u001f";
    match byte {
        b'"' => Some(b"\\\""),
        b'\\' => Some(b"\\\\"),
        b'\n' => Some(b"\\n"),
        b'\r' => Some(b"\\r"),
        b'\t' => Some(b"\\t"),
        0x08 => Some(b"\\b"),
        0x0c => Some(b"\\f"),
        0..0x20 => {
            let at = byte as usize * MAX_ESCAPE;
            Some(&CONTROLS[at..at + MAX_ESCAPE])
        }
        _ => None,
    }
}

fn escaped_len(text: &[u8]) -> usize {
    let more = |&byte: &u8| escape_of(byte).map_or(0, |escape| escape.len() - 1);
    text.len() + text.iter().map(more).sum::<usize>()
}

fn escape(text: &[u8], mut append: impl FnMut(&[u8])) {
    let mut start = 0;
    for (at, &byte) in text.iter().enumerate() {
        if let Some(escape) = escape_of(byte) {
            append(&text[start..at]);
            append(escape);
            start = at + 1;
        }
    }
    append(&text[start..]);
}
