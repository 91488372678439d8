//! Puts messages into the body of a request, within its limit.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use memchr::memchr;

use super::date;
use super::dialect::{BulkAction, Dialect, SplunkFields};
use super::json;
use super::parts::Part;
use crate::ingest::batch::Batch;

/// Messages of one body: the answer to `_bulk` has an item for each.
pub(super) const MAX_MESSAGES: u64 = 10_000;
/// What stands between the time of a message that is no document and its text.
const MESSAGE: &str = ",\"message\":\"";
/// What ends a body of Loki.
const LOKI_END: &[u8] = b"]}]}";

/// Why a body took no more of a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// All were taken.
    End,
    /// The body is full.
    Full,
    /// The next message can stand in no body.
    Unfit(String),
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
    /// What stands before a message that is no document, to the quote that begins it: an action and
    /// the time, which most batches of a body have in common.
    text_head: Vec<u8>,
    text_time: Option<SystemTime>,
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
            text_head: Vec::new(),
            text_time: None,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages == 0
    }

    /// Adds messages of a part, in order, and says how many, and why no more.
    pub(super) fn add(&mut self, batch: &Batch, part: Part) -> (u64, Stop) {
        self.set_head(batch);
        let mut added = 0;
        for message in part.messages_of(batch) {
            if self.messages == MAX_MESSAGES {
                return (added, Stop::Full);
            }
            let begun = self.bytes.len();
            if self.push(batch, message, part.sequence + added).is_none() {
                self.bytes.truncate(begun);
                let stop = match self.is_empty() {
                    true => Stop::Unfit(format!(
                        "its {} bytes make a body longer than {} (body_bytes)",
                        message.len(),
                        self.limit
                    )),
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

    /// What the messages of one batch have in common.
    fn set_head(&mut self, batch: &Batch) {
        match self.dialect {
            Dialect::NdJson | Dialect::SplunkRaw(_) => {}
            Dialect::Bulk { index, action } => {
                let time = batch.received_at();
                if self.text_time == Some(time) {
                    return;
                }
                self.text_time = Some(time);
                let mut head = format!("{{\"{}\":{{", action.name());
                if let Some(index) = index {
                    head.push_str("\"_index\":");
                    json::push_string(&mut head, index);
                }
                head.push_str("}}\n");
                let time = rfc3339(time);
                let text_head = format!("{head}{{\"@timestamp\":\"{time}\"{MESSAGE}");
                self.head = head.into_bytes();
                self.text_head = text_head.into_bytes();
            }
            Dialect::Loki { labels } => {
                self.head.clear();
                let host = batch.peer().host();
                for (nth, (name, value)) in labels.iter().enumerate() {
                    let value = match value.as_str() {
                        "{listener}" => batch.listener(),
                        "{host}" => &host,
                        "{name}" => batch.tls_name().unwrap_or_default(),
                        text => text,
                    };
                    let comma = if nth == 0 { "" } else { "," };
                    let mut text = format!("{comma}\"{name}\":");
                    json::push_string(&mut text, value);
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
            Dialect::Bulk { action, .. } => {
                let has_time = match action {
                    BulkAction::Create => json::has_time(message),
                    BulkAction::Index => json::is_object(message).then_some(true),
                };
                match has_time {
                    Some(true) => {
                        put(&mut self.bytes, self.limit, &self.head)?;
                        self.put_line(message)
                    }
                    Some(false) => self.put_with_time(message),
                    None => {
                        put(&mut self.bytes, self.limit, &self.text_head)?;
                        self.put_escaped(message)?;
                        self.put(b"\"}\n")
                    }
                }
            }
            Dialect::Loki { .. } => {
                self.limit -= LOKI_END.len();
                let outcome = self.push_entry(batch, message, sequence);
                self.limit += LOKI_END.len();
                outcome
            }
            Dialect::Splunk(_) => {
                put(&mut self.bytes, self.limit, &self.head)?;
                match message.trim_ascii().is_empty() {
                    // Splunk takes a blank string for an error, and nothing behind it.
                    true => {
                        self.put(b"{\"message\":")?;
                        self.put_string(message)?;
                        self.put(b"}")?;
                    }
                    false if json::is_object(message) => self.put(message)?,
                    false => self.put_string(message)?,
                }
                self.put(b"}\n")
            }
        }
    }

    /// An object as a document that has the time before its own members.
    fn put_with_time(&mut self, object: &[u8]) -> Option<()> {
        let to_time = self.text_head.len() - MESSAGE.len();
        put(&mut self.bytes, self.limit, &self.text_head[..to_time])?;
        let members = &object.trim_ascii_start()[b"{".len()..];
        if !members.trim_ascii_start().starts_with(b"}") {
            self.put(b",")?;
        }
        self.put_line(members)
    }

    fn push_entry(&mut self, batch: &Batch, message: &[u8], sequence: u64) -> Option<()> {
        let is_open = !self.is_empty() && self.labels == self.head;
        if !is_open {
            self.put(match self.is_empty() {
                true => b"{\"streams\":[{\"stream\":{",
                false => b"]},{\"stream\":{",
            })?;
            put(&mut self.bytes, self.limit, &self.head)?;
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
        put(&mut self.bytes, self.limit, bytes)
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
        self.put_escaped(message)?;
        self.put(b"\"")
    }

    /// A message as the inside of a string of JSON.
    fn put_escaped(&mut self, message: &[u8]) -> Option<()> {
        // From the cheapest look to the dearest: chunks are found byte by byte.
        if message.is_ascii() || str::from_utf8(message).is_ok() {
            return self.put_text(message);
        }
        for chunk in message.utf8_chunks() {
            self.put_text(chunk.valid().as_bytes())?;
            if !chunk.invalid().is_empty() {
                self.put("\u{fffd}".as_bytes())?;
            }
        }
        Some(())
    }

    /// A text that is UTF-8.
    fn put_text(&mut self, text: &[u8]) -> Option<()> {
        let mut rest = text;
        loop {
            let (plain, special) = rest.split_at(json::plain_length(rest));
            self.put(plain)?;
            let Some((&byte, behind)) = special.split_first() else {
                return Some(());
            };
            self.put(json::escape(byte).as_bytes())?;
            rest = behind;
        }
    }
}

fn put(to: &mut Vec<u8>, limit: usize, bytes: &[u8]) -> Option<()> {
    let fits = to.len() + bytes.len() <= limit;
    fits.then(|| to.extend_from_slice(bytes))
}

fn splunk_head(fields: &SplunkFields, batch: &Batch) -> Vec<u8> {
    let time = since_epoch(batch.received_at());
    let mut head = format!("{{\"time\":{}.{:03}", time.as_secs(), time.subsec_millis());
    let host = batch.peer().host();
    for (name, value) in fields.pairs() {
        let own = match name {
            "host" => Some(host.as_str()),
            "source" => Some(batch.listener()),
            _ => None,
        };
        if let Some(value) = value.or(own).filter(|value| !value.is_empty()) {
            head.push_str(&format!(",\"{name}\":"));
            json::push_string(&mut head, value);
        }
    }
    head.push_str(",\"event\":");
    head.into_bytes()
}

fn since_epoch(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Nanoseconds: the millisecond, and below it the number of the message.
fn entry_time(batch: &Batch, sequence: u64) -> u64 {
    let millis = since_epoch(batch.received_at()).as_millis() as u64;
    millis * 1_000_000 + sequence % 1_000_000
}

/// `2026-11-29T12:00:00.000Z`.
fn rfc3339(time: SystemTime) -> String {
    let since = since_epoch(time);
    let (days, second) = (since.as_secs() / 86_400, since.as_secs() % 86_400);
    let (year, month, day) = date::civil(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:03}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        since.subsec_millis()
    )
}
