//! Reads the answer to `_bulk` as it comes, in memory of a fixed size: what became of each
//! document.

use std::error::Error;
use std::fmt;
use std::io::{self, Read};
use std::ops::Range;

use super::place;
use crate::ingest::sink::secrets::marked_as_cut;

/// The deepest that objects and lists stand in one another.
const MAX_DEPTH: u32 = 64;
/// What is kept of a text, with its escapes.
const MAX_TEXT: usize = 1200;
/// What is read at once.
pub(super) const READ_BYTES: usize = 16 << 10;

/// What an answer to `_bulk` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bulk {
    /// Whether it says that something failed.
    pub(super) errors: Option<bool>,
    /// The status of each document, in order; 0 where it has none, and
    /// [`OF_THE_INDEX`](place::OF_THE_INDEX) in place of a 400 that is about the index.
    pub(super) statuses: Vec<u16>,
    /// The first error that is told of a document with a status of 400 or more.
    pub(super) error: Option<String>,
}

/// Reads an answer with `items` documents at most, `at_once` bytes of it at a time.
///
/// # Errors
/// It breaks off, or ([`NoAnswer`]) is no object of JSON, or tells of more documents.
pub(super) fn read(reader: impl Read, items: usize, at_once: usize) -> io::Result<Bulk> {
    let mut scanner = Scanner::new(reader, at_once);
    let mut bulk = Bulk::default();
    scanner.object(|scanner, key| match key {
        Key::Errors => {
            bulk.errors = match scanner.text()? {
                b"true" => Some(true),
                b"false" => Some(false),
                _ => return Err(no_answer("errors is neither true nor false")),
            };
            Ok(())
        }
        Key::Items => scanner.list(|scanner| {
            if bulk.statuses.len() == items {
                return Err(no_answer("it tells of more documents than were sent"));
            }
            let (status, error) = scanner.item()?;
            if status >= 400 && bulk.error.is_none() {
                bulk.error = Some(error);
            }
            bulk.statuses.push(status);
            Ok(())
        }),
        _ => scanner.skip(0),
    })?;
    scanner.end()?;
    Ok(bulk)
}

/// What came whole, and is no answer to `_bulk`.
#[derive(Debug)]
pub(super) struct NoAnswer(String);

impl NoAnswer {
    pub(super) fn error(why: impl Into<String>) -> io::Error {
        io::Error::new(io::ErrorKind::InvalidData, NoAnswer(why.into()))
    }

    /// Whether an error is this, and not one of reading it.
    pub(super) fn is(error: &io::Error) -> bool {
        error.get_ref().is_some_and(|error| error.is::<NoAnswer>())
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for NoAnswer {}

fn no_answer(why: &str) -> io::Error {
    NoAnswer::error(why)
}

/// The keys that matter.
#[derive(Clone, Copy, Debug)]
enum Key {
    Errors,
    Items,
    Status,
    Error,
    Type,
    Reason,
    Other,
}

struct Scanner<R> {
    reader: R,
    /// What was read, of which the part before `at` was looked at.
    buffer: Vec<u8>,
    at: usize,
    end: usize,
    /// How often something was read.
    reads: u64,
    /// The text that was read last, with its escapes.
    text: Vec<u8>,
    /// There was more of it.
    is_cut: bool,
    last_item: Option<LastItem>,
}

/// The item before this one, while it stands in the buffer: nearly all items of an answer are equal
/// to it, and comparing them costs a tenth of reading them.
struct LastItem {
    place: Range<usize>,
    status: u16,
}

impl<R: Read> Scanner<R> {
    fn new(reader: R, at_once: usize) -> Self {
        Scanner {
            reader,
            buffer: vec![0; at_once],
            at: 0,
            end: 0,
            reads: 0,
            text: Vec::with_capacity(MAX_TEXT),
            is_cut: false,
            last_item: None,
        }
    }

    /// The status, and the error if the item is not equal to the one before.
    fn item(&mut self) -> io::Result<(u16, String)> {
        // What stands between two items.
        self.peek()?;
        if let Some(last) = &self.last_item {
            let ahead = &self.buffer[self.at..self.end];
            if ahead.starts_with(&self.buffer[last.place.clone()]) {
                self.at += last.place.len();
                return Ok((last.status, String::new()));
            }
        }
        let (begun, reads) = (self.at, self.reads);
        let (status, error) = self.new_item()?;
        let is_whole = self.reads == reads;
        self.last_item = is_whole.then_some(LastItem {
            place: begun..self.at,
            status,
        });
        Ok((status, error))
    }

    /// `{"create":{"status":429,"error":{"type":"...","reason":"..."}}}`
    fn new_item(&mut self) -> io::Result<(u16, String)> {
        let (mut status, mut error) = (0, String::new());
        self.object(|scanner, _| {
            scanner.object(|scanner, key| match key {
                Key::Status => {
                    let text = str::from_utf8(scanner.text()?).unwrap_or_default();
                    status = text.parse().unwrap_or(0);
                    Ok(())
                }
                Key::Error => {
                    error = scanner.error()?;
                    Ok(())
                }
                _ => scanner.skip(0),
            })
        })?;
        if status == 400 && place::is_of_the_index(&error) {
            status = place::OF_THE_INDEX;
        }
        Ok((status, error))
    }

    /// A text, or an object with a type and a reason.
    fn error(&mut self) -> io::Result<String> {
        if self.peek()? != b'{' {
            return self.owned_text();
        }
        let (mut kind, mut reason) = (String::new(), String::new());
        self.object(|scanner, key| match key {
            Key::Type => {
                kind = scanner.owned_text()?;
                Ok(())
            }
            Key::Reason => {
                reason = scanner.owned_text()?;
                Ok(())
            }
            _ => scanner.skip(0),
        })?;
        Ok(format!("{kind}: {reason}"))
    }

    fn object(&mut self, mut each: impl FnMut(&mut Self, Key) -> io::Result<()>) -> io::Result<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.key()?;
            self.expect(b':')?;
            each(self, key)?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(no_answer("it is no JSON")),
            }
        }
    }

    fn key(&mut self) -> io::Result<Key> {
        Ok(match self.string()? {
            b"errors" => Key::Errors,
            b"items" => Key::Items,
            b"status" => Key::Status,
            b"error" => Key::Error,
            b"type" => Key::Type,
            b"reason" => Key::Reason,
            _ => Key::Other,
        })
    }

    fn list(&mut self, mut each: impl FnMut(&mut Self) -> io::Result<()>) -> io::Result<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            return self.expect(b']');
        }
        loop {
            each(self)?;
            match self.next()? {
                b',' => {}
                b']' => return Ok(()),
                _ => return Err(no_answer("it is no JSON")),
            }
        }
    }

    /// Whatever it is.
    fn skip(&mut self, depth: u32) -> io::Result<()> {
        if depth == MAX_DEPTH {
            return Err(no_answer("it is nested too deeply"));
        }
        match self.peek()? {
            b'{' => self.object(|scanner, _| scanner.skip(depth + 1)),
            b'[' => self.list(|scanner| scanner.skip(depth + 1)),
            _ => self.text().map(drop),
        }
    }

    /// A string, a number, or a word, cut off where it is long. An object or a list is an error.
    fn text(&mut self) -> io::Result<&[u8]> {
        if self.peek()? == b'"' {
            return self.string();
        }
        self.text.clear();
        self.is_cut = false;
        loop {
            match self.raw()? {
                byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')
                    if self.text.len() < MAX_TEXT =>
                {
                    self.text.push(byte);
                    self.at += 1;
                }
                _ if self.text.is_empty() => return Err(no_answer("it is no JSON")),
                _ => return Ok(&self.text),
            }
        }
    }

    /// A text as it is meant, or as it stands there if that is no JSON.
    fn owned_text(&mut self) -> io::Result<String> {
        let mut text = String::from_utf8_lossy(self.text()?).into_owned();
        if self.is_cut {
            text = marked_as_cut(&text);
        }
        let meant = serde_json::from_str(&format!("\"{text}\""));
        Ok(meant.unwrap_or(text))
    }

    fn string(&mut self) -> io::Result<&[u8]> {
        self.expect(b'"')?;
        self.text.clear();
        self.is_cut = false;
        loop {
            match self.take()? {
                b'"' => return Ok(&self.text),
                b'\\' => {
                    let escaped = self.take()?;
                    self.keep(b'\\');
                    self.keep(escaped);
                }
                byte => self.keep(byte),
            }
        }
    }

    fn keep(&mut self, byte: u8) {
        match self.text.len() < MAX_TEXT {
            true => self.text.push(byte),
            false => self.is_cut = true,
        }
    }

    fn expect(&mut self, expected: u8) -> io::Result<()> {
        match self.next()? == expected {
            true => Ok(()),
            false => Err(no_answer("it is no JSON")),
        }
    }

    /// The next byte that is no space.
    fn next(&mut self) -> io::Result<u8> {
        let byte = self.peek()?;
        self.at += 1;
        Ok(byte)
    }

    fn peek(&mut self) -> io::Result<u8> {
        loop {
            match self.raw()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.at += 1,
                byte => return Ok(byte),
            }
        }
    }

    fn take(&mut self) -> io::Result<u8> {
        let byte = self.raw()?;
        self.at += 1;
        Ok(byte)
    }

    fn raw(&mut self) -> io::Result<u8> {
        if self.at == self.end && !self.read_more()? {
            if self.reads == 1 {
                return Err(no_answer("it is empty"));
            }
            let kind = io::ErrorKind::UnexpectedEof;
            return Err(io::Error::new(kind, "it breaks off"));
        }
        Ok(self.buffer[self.at])
    }

    /// `false`: nothing more comes.
    #[cold]
    fn read_more(&mut self) -> io::Result<bool> {
        self.last_item = None;
        self.reads += 1;
        (self.at, self.end) = (0, 0);
        self.end = loop {
            match self.reader.read(&mut self.buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        Ok(self.end > 0)
    }

    /// Only spaces follow, to the end: then the connection can serve again.
    fn end(&mut self) -> io::Result<()> {
        while self.at < self.end || self.read_more()? {
            if !self.buffer[self.at].is_ascii_whitespace() {
                return Err(no_answer("something follows it"));
            }
            self.at += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// Read at once and in pieces of each length, with the same outcome.
    fn told(text: &str) -> io::Result<Bulk> {
        let told = read(text.as_bytes(), 3, text.len().max(1));
        for at_once in 1..text.len().min(200) {
            let piecewise = read(text.as_bytes(), 3, at_once);
            assert_eq!(
                piecewise.as_ref().ok(),
                told.as_ref().ok(),
                "{at_once}: {text}"
            );
        }
        told
    }

    #[test]
    fn each_document_has_its_status_and_the_first_error_is_told() {
        let all = told(r#"{"took":3,"errors":false,"items":[{"create":{"status":201}}]}"#).unwrap();
        assert_eq!(
            (all.errors, all.statuses, all.error),
            (Some(false), vec![201], None)
        );
        let some = told(
            r#" {"items" : [ {"index":{"_shards":{"a":[1,{}]},"status":200}},
                {"index":{"status":429,"error":{"type":"rejected","reason":"full \"queue\"",
                "caused_by":{"type":"x"}}}}, {"index":{"error":"old","status":400}} ],
                "errors":true, "ingest_took": 0.5e-3, "x": null } "#,
        )
        .unwrap();
        assert_eq!(
            (some.errors, some.statuses),
            (Some(true), vec![200, 429, 400])
        );
        assert_eq!(some.error.as_deref(), Some("rejected: full \"queue\""));
        let without = told(r#"{"errors":false}"#).unwrap();
        assert_eq!((without.errors, without.statuses), (Some(false), vec![]));
    }

    /// An item that begins as the one before is not taken for it.
    #[test]
    fn an_item_that_is_almost_the_one_before_is_its_own() {
        let items = |all: &str| told(&format!(r#"{{"errors":true,"items":[{all}]}}"#));
        let equal = items(r#"{"i":{"status":429}},{"i":{"status":429}}, {"i":{"status":429}}"#);
        assert_eq!(equal.unwrap().statuses, [429, 429, 429]);
        let other = items(r#"{"i":{"status":201}},{"i":{"status":201}},{"i":{"status":429}}"#);
        assert_eq!(other.unwrap().statuses, [201, 201, 429]);
        assert!(items(r#"{"i":{"status":201}},{"i":{"status":201}}x"#).is_err());
        let errors = r#"{"i":{"status":200}},{"i":{"status":400,"error":"a"}},{"i":{"status":400,"error":"b"}}"#;
        assert_eq!(items(errors).unwrap().error.as_deref(), Some("a"));
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let item = r#"{"create":{"status":201}}"#;
        let nested = |depth| format!(r#"{{"x":{}{}}}"#, "[".repeat(depth), "]".repeat(depth));
        assert!(told(&nested(60)).is_ok());
        for wrong in [
            "",
            "<html>",
            "null",
            "{",
            r#"{"errors":"#,
            r#"{"errors":1}"#,
            r#"{"errors":{}}"#,
            r#"{"errors":false}x"#,
            r#"{"errors":false"items":[]}"#,
            r#"{"items":[{}"#,
            &format!(r#"{{"items":[{item},{item},{item},{item}]}}"#),
            &nested(100),
        ] {
            assert!(told(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_long_text_is_cut_off() {
        let reason = "long ".repeat(100_000);
        let answer = format!(r#"{{"items":[{{"create":{{"status":400,"error":"{reason}"}}}}]}}"#);
        let bulk = read(answer.as_bytes(), 3, 1000).unwrap();
        let error = bulk.error.unwrap();
        assert_eq!(error.len(), MAX_TEXT + "...".len());
        assert!(error.ends_with("..."), "{error}");
    }

    #[test]
    fn an_error_is_told_as_it_is_meant_or_as_it_stands_there() {
        for (text, told) in [
            (
                r#"a\/b\u002fc \"d\" \\ \u00e4\ud83c\udf00"#,
                "a/b/c \"d\" \\ \u{e4}\u{1f300}",
            ),
            (r#"a\qb\/ \ud83c"#, r#"a\qb\/ \ud83c"#),
        ] {
            let answer = format!(r#"{{"items":[{{"create":{{"status":400,"error":"{text}"}}}}]}}"#);
            assert_eq!(self::told(&answer).unwrap().error.as_deref(), Some(told));
        }
    }
}
