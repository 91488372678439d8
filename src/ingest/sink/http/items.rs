//! Reads the answer to `_bulk` as it comes, in memory of a fixed size: what became of each
//! document.

use std::io::{self, BufRead};

/// The deepest that objects and lists stand in one another.
const MAX_DEPTH: u32 = 64;
/// What is kept of a text.
const MAX_TEXT: usize = 200;

/// What an answer to `_bulk` tells.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Bulk {
    /// Whether it says that something failed.
    pub(super) errors: Option<bool>,
    /// The status of each document, in order; 0 where it has none.
    pub(super) statuses: Vec<u16>,
    /// The first error that is told of a document with a status of 400 or more.
    pub(super) error: Option<String>,
}

/// Reads an answer with `items` documents at most.
///
/// # Errors
/// It is no object of JSON, breaks off, or tells of more documents.
pub(super) fn read(reader: impl BufRead, items: usize) -> io::Result<Bulk> {
    let mut scanner = Scanner { reader };
    let mut bulk = Bulk::default();
    scanner.object(|scanner, key| match key {
        "errors" => {
            bulk.errors = match scanner.text()?.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => return Err(no_answer("errors is neither true nor false")),
            };
            Ok(())
        }
        "items" => scanner.list(|scanner| {
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

fn no_answer(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.to_owned())
}

struct Scanner<R> {
    reader: R,
}

impl<R: BufRead> Scanner<R> {
    /// `{"create":{"status":429,"error":{"type":"...","reason":"..."}}}`
    fn item(&mut self) -> io::Result<(u16, String)> {
        let (mut status, mut error) = (0, String::new());
        self.object(|scanner, _| {
            scanner.object(|scanner, key| match key {
                "status" => {
                    status = scanner.text()?.parse().unwrap_or(0);
                    Ok(())
                }
                "error" => {
                    error = scanner.error()?;
                    Ok(())
                }
                _ => scanner.skip(0),
            })
        })?;
        Ok((status, error))
    }

    /// A text, or an object with a type and a reason.
    fn error(&mut self) -> io::Result<String> {
        if self.peek()? != b'{' {
            return self.text();
        }
        let (mut kind, mut reason) = (String::new(), String::new());
        self.object(|scanner, key| match key {
            "type" => {
                kind = scanner.text()?;
                Ok(())
            }
            "reason" => {
                reason = scanner.text()?;
                Ok(())
            }
            _ => scanner.skip(0),
        })?;
        Ok(format!("{kind}: {reason}"))
    }

    fn object(
        &mut self,
        mut each: impl FnMut(&mut Self, &str) -> io::Result<()>,
    ) -> io::Result<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            return self.expect(b'}');
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            each(self, &key)?;
            match self.next()? {
                b',' => {}
                b'}' => return Ok(()),
                _ => return Err(no_answer("it is no JSON")),
            }
        }
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
    fn text(&mut self) -> io::Result<String> {
        if self.peek()? == b'"' {
            return self.string();
        }
        let mut text = String::new();
        loop {
            match self.raw()? {
                byte @ (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'+' | b'-' | b'.')
                    if text.len() < MAX_TEXT =>
                {
                    text.push(char::from(byte));
                    self.reader.consume(1);
                }
                _ if text.is_empty() => return Err(no_answer("it is no JSON")),
                _ => return Ok(text),
            }
        }
    }

    fn string(&mut self) -> io::Result<String> {
        self.expect(b'"')?;
        let mut text = Vec::new();
        loop {
            let byte = self.take()?;
            let byte = match byte {
                b'"' => return Ok(String::from_utf8_lossy(&text).into_owned()),
                // An escape matters to nobody but its reader, who sees the character itself.
                b'\\' => self.take()?,
                byte => byte,
            };
            if text.len() < MAX_TEXT {
                text.push(byte);
            }
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
        self.reader.consume(1);
        Ok(byte)
    }

    fn peek(&mut self) -> io::Result<u8> {
        loop {
            match self.raw()? {
                b' ' | b'\t' | b'\r' | b'\n' => self.reader.consume(1),
                byte => return Ok(byte),
            }
        }
    }

    fn take(&mut self) -> io::Result<u8> {
        let byte = self.raw()?;
        self.reader.consume(1);
        Ok(byte)
    }

    fn raw(&mut self) -> io::Result<u8> {
        match self.reader.fill_buf()?.first() {
            Some(&byte) => Ok(byte),
            None => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "it breaks off",
            )),
        }
    }

    /// Only spaces follow, to the end: then the connection can serve again.
    fn end(&mut self) -> io::Result<()> {
        match self.peek() {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(no_answer("something follows it")),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn told(text: &str) -> io::Result<Bulk> {
        read(io::BufReader::with_capacity(3, text.as_bytes()), 3)
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
        let error = told(&answer).unwrap().error.unwrap();
        assert_eq!(error.len(), MAX_TEXT);
    }
}
