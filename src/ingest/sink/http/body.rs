//! Puts messages into the body of a request, within its limit.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use memchr::memchr;
use serde_core::de::IgnoredAny;

use super::dialect::{Dialect, SplunkFields};
use crate::ingest::batch::Batch;
use crate::server::Peer;

/// Messages of one body: the answer to `_bulk` has an item for each.
pub(super) const MAX_MESSAGES: u64 = 10_000;
/// What ends a body of Loki.
const LOKI_END: &[u8] = b"]}]}";

/// Messages of a batch that stand beside each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part {
    /// The batch's number.
    pub(super) batch: u64,
    /// Its place in the batch.
    pub(super) first: u64,
    pub(super) messages: u64,
    /// How many messages had come before it.
    pub(super) sequence: u64,
}

impl Part {
    /// Splits it behind so many messages.
    pub(super) fn split(self, at: u64) -> (Part, Part) {
        let front = Part {
            messages: at,
            ..self
        };
        let back = Part {
            first: self.first + at,
            messages: self.messages - at,
            sequence: self.sequence + at,
            ..self
        };
        (front, back)
    }
}

/// Why a body took no more of a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All were taken.
    End,
    /// The body is full.
    Full,
    /// The next message can stand in no body.
    Unfit(&'static str),
}

/// The body of a request in the making.
#[derive(Debug)]
pub(super) struct Body<'a> {
    dialect: &'a Dialect,
    bytes: Vec<u8>,
    limit: usize,
    messages: u64,
    /// The labels of the stream that is open.
    labels: Vec<u8>,
    /// What stands before each message of the batch: an action, labels, the fields of an event.
    head: Vec<u8>,
    /// What stands before a message that is no document.
    wrap: Vec<u8>,
}

impl<'a> Body<'a> {
    /// In the memory of `bytes`, which has `limit` bytes.
    pub(super) fn new(dialect: &'a Dialect, mut bytes: Vec<u8>, limit: usize) -> Self {
        bytes.clear();
        Body {
            dialect,
            bytes,
            limit,
            messages: 0,
            labels: Vec::new(),
            head: Vec::new(),
            wrap: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds messages of a part, in order, and says how many, and why no more.
    pub(super) fn add(&mut self, batch: &Batch, part: Part) -> (u64, Stop) {
        self.set_head(batch);
        let mut added = 0;
        let messages = batch.iter().skip(part.first as usize);
        for message in messages.take(part.messages as usize) {
            if self.messages == MAX_MESSAGES {
                return (added, Stop::Full);
            }
            if let Some(why) = self.unfit(message) {
                return (added, Stop::Unfit(why));
            }
            let begun = self.bytes.len();
            if self.push(batch, message, part.sequence + added).is_none() {
                self.bytes.truncate(begun);
                let stop = match self.is_empty() {
                    true => Stop::Unfit("it is longer than a body may be (body_bytes)"),
                    false => Stop::Full,
                };
                return (added, stop);
            }
            self.messages += 1;
            added += 1;
        }
        (added, Stop::End)
    }

    /// The bytes, whole.
    pub(super) fn finish(mut self) -> Vec<u8> {
        if matches!(self.dialect, Dialect::Loki { .. }) {
            self.bytes.extend_from_slice(LOKI_END);
        }
        self.bytes
    }

    fn unfit(&self, message: &[u8]) -> Option<&'static str> {
        let is_event = matches!(self.dialect, Dialect::Splunk(_));
        (is_event && message.is_empty()).then_some("Splunk takes no empty event")
    }

    /// What the messages of one batch have in common.
    fn set_head(&mut self, batch: &Batch) {
        self.head.clear();
        match self.dialect {
            Dialect::NdJson | Dialect::SplunkRaw(_) => {}
            Dialect::Bulk { index, action } => {
                let mut head = format!("{{\"{}\":{{", action.name());
                if let Some(index) = index {
                    head.push_str("\"_index\":");
                    push_json_str(&mut head, index);
                }
                head.push_str("}}\n");
                self.head = head.into_bytes();
                let time = rfc3339(batch);
                self.wrap = format!("{{\"@timestamp\":\"{time}\",\"message\":").into_bytes();
            }
            Dialect::Loki { labels } => {
                let peer = peer_text(batch.peer());
                for (nth, (name, value)) in labels.iter().enumerate() {
                    let value = match value.as_str() {
                        "{listener}" => batch.listener(),
                        "{peer}" => &peer,
                        "{name}" => batch.tls_name().unwrap_or_default(),
                        text => text,
                    };
                    let comma = if nth == 0 { "" } else { "," };
                    let mut text = format!("{comma}\"{name}\":");
                    push_json_str(&mut text, value);
                    self.head.extend_from_slice(text.as_bytes());
                }
            }
            Dialect::Splunk(fields) => self.head = splunk_head(fields, batch),
        }
    }

    /// Adds a message; `None` if it does not fit.
    fn push(&mut self, batch: &Batch, message: &[u8], sequence: u64) -> Option<()> {
        match self.dialect {
            Dialect::NdJson | Dialect::SplunkRaw(_) => self.put_line(message),
            Dialect::Bulk { .. } => {
                self.put_head()?;
                if is_object(message) {
                    return self.put_line(message);
                }
                let wrap = std::mem::take(&mut self.wrap);
                let has_put = self.put(&wrap);
                self.wrap = wrap;
                has_put?;
                self.put_string(message)?;
                self.put(b"}\n")
            }
            Dialect::Loki { .. } => {
                self.limit -= LOKI_END.len();
                let outcome = self.push_entry(batch, message, sequence);
                self.limit += LOKI_END.len();
                outcome
            }
            Dialect::Splunk(_) => {
                self.put_head()?;
                match is_object(message) {
                    true => self.put(message)?,
                    false => self.put_string(message)?,
                }
                self.put(b"}\n")
            }
        }
    }

    fn push_entry(&mut self, batch: &Batch, message: &[u8], sequence: u64) -> Option<()> {
        let is_open = !self.is_empty() && self.labels == self.head;
        if !is_open {
            self.put(match self.is_empty() {
                true => b"{\"streams\":[{\"stream\":{",
                false => b"]},{\"stream\":{",
            })?;
            self.put_head()?;
            self.put(b"},\"values\":[")?;
        }
        let mut time = String::new();
        let comma = if is_open { "," } else { "" };
        // Writing to a String does not fail.
        let _ = write!(time, "{comma}[\"{}\",", entry_time(batch, sequence));
        self.put(time.as_bytes())?;
        self.put_string(message)?;
        self.put(b"]")?;
        if !is_open {
            self.labels.clone_from(&self.head);
        }
        Some(())
    }

    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let fits = self.bytes.len() + bytes.len() <= self.limit;
        fits.then(|| self.bytes.extend_from_slice(bytes))
    }

    fn put_head(&mut self) -> Option<()> {
        let head = std::mem::take(&mut self.head);
        let outcome = self.put(&head);
        self.head = head;
        outcome
    }

    fn put_line(&mut self, message: &[u8]) -> Option<()> {
        let mut rest = message;
        while let Some(at) = memchr(b'\n', rest) {
            self.put(&rest[..at])?;
            self.put(b" ")?;
            rest = &rest[at + 1..];
        }
        self.put(rest)?;
        self.put(b"\n")
    }

    /// A message as a string of JSON.
    fn put_string(&mut self, message: &[u8]) -> Option<()> {
        self.put(b"\"")?;
        for chunk in message.utf8_chunks() {
            let mut rest = chunk.valid().as_bytes();
            let is_special = |byte: &u8| matches!(byte, 0..=0x1f | b'"' | b'\\');
            while let Some(at) = rest.iter().position(is_special) {
                self.put(&rest[..at])?;
                self.put(escape(rest[at]).as_bytes())?;
                rest = &rest[at + 1..];
            }
            self.put(rest)?;
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}".as_bytes())?;
            }
        }
        self.put(b"\"")
    }
}

fn escape(byte: u8) -> Cow<'static, str> {
    Cow::Borrowed(match byte {
        b'"' => "\\\"",
        b'\\' => "\\\\",
        b'\n' => "\\n",
        b'\r' => "\\r",
        b'\t' => "\\t",
        byte => return Cow::Owned(format!("\\u{byte:04x}")),
    })
}

/// A text as a string of JSON.
pub(super) fn push_json_str(to: &mut String, text: &str) {
    to.push('"');
    for c in text.chars() {
        match c {
            '\0'..='\x1f' | '"' | '\\' => to.push_str(&escape(c as u8)),
            c => to.push(c),
        }
    }
    to.push('"');
}

/// Whether a message is one whole object of JSON.
fn is_object(message: &[u8]) -> bool {
    let trimmed = message.trim_ascii();
    if !(trimmed.starts_with(b"{") && trimmed.ends_with(b"}")) {
        return false;
    }
    let text = std::str::from_utf8(trimmed);
    text.is_ok_and(|text| serde_json::from_str::<IgnoredAny>(text).is_ok())
}

fn splunk_head(fields: &SplunkFields, batch: &Batch) -> Vec<u8> {
    let time = since_epoch(batch);
    let mut head = format!("{{\"time\":{}.{:03}", time.as_secs(), time.subsec_millis());
    let peer = peer_text(batch.peer());
    for (name, value) in fields.pairs() {
        let own = match name {
            "host" => Some(peer.as_str()),
            "source" => Some(batch.listener()),
            _ => None,
        };
        if let Some(value) = value.or(own).filter(|value| !value.is_empty()) {
            head.push_str(&format!(",\"{name}\":"));
            push_json_str(&mut head, value);
        }
    }
    head.push_str(",\"event\":");
    head.into_bytes()
}

/// An address without its port, or a process.
fn peer_text(peer: Peer) -> String {
    match peer {
        Peer::Tcp(address) => match address.ip() {
            IpAddr::V6(ip) => ip.to_canonical().to_string(),
            ip => ip.to_string(),
        },
        other => other.to_string(),
    }
}

fn since_epoch(batch: &Batch) -> Duration {
    let since = batch.received_at().duration_since(UNIX_EPOCH);
    since.unwrap_or_default()
}

/// Nanoseconds: the millisecond, and below it the number of the message.
fn entry_time(batch: &Batch, sequence: u64) -> u64 {
    let millis = since_epoch(batch).as_millis() as u64;
    millis * 1_000_000 + sequence % 1_000_000
}

/// `2026-11-29T12:00:00.000Z`.
fn rfc3339(batch: &Batch) -> String {
    let since = since_epoch(batch);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = super::date::civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}
