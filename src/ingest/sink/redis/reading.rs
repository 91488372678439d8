//! Answers, one after the other, off the wire.

use std::io::{self, Read};

use redis::{Parser, Value};

use super::answer::Answer;
use super::exchange::{Run, Shared, add};
use super::target::Target;
use super::wire::{Raw, Wire};

/// The most bytes of one answer: an entry's ID, or an error in a line.
const MAX_ANSWER: usize = 64 << 10;

/// Nothing that a server sends makes it keep more than [`MAX_ANSWER`] of one answer, or more
/// answers than one read brings.
pub(super) struct Reading<'a> {
    parser: Option<Parser>,
    target: &'a Target,
    wire: &'a Wire,
    raw: Raw,
    shared: &'a Shared,
    /// Not handed over yet.
    runs: Vec<Run>,
    /// Bytes that were read since the last answer.
    of_answer: usize,
    /// What ended the reading: the parser's own words for it say less.
    error: Option<io::Error>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(target: &'a Target, wire: &'a Wire, shared: &'a Shared) -> Self {
        Reading {
            parser: Some(Parser::new()),
            target,
            wire,
            raw: Raw::default(),
            shared,
            runs: Vec::new(),
            of_answer: 0,
            error: None,
        }
    }

    /// Waits for the next answer, whatever it is.
    ///
    /// # Errors
    /// Why there is none, as a log says it. The connection is over.
    pub(super) fn next(&mut self) -> Result<Value, String> {
        self.of_answer = 0;
        let Some(mut parser) = self.parser.take() else {
            return Err("the connection is over".to_owned());
        };
        match parser.parse_value(&mut *self) {
            Ok(value) => {
                self.parser = Some(parser);
                Ok(value)
            }
            Err(error) => Err(match self.error.take() {
                // Once the login is over, nothing waits for a limited time here.
                Some(error) => self.target.in_words(&error),
                None => format!("what came is no answer of Redis: {error}"),
            }),
        }
    }

    /// Hands answers to the sink until there are no more. Returns why.
    pub(super) fn run(mut self) -> String {
        let why = loop {
            match self.next().map(Answer::to_xadd) {
                Ok(Some(answer)) => add(&mut self.runs, answer, 1),
                Ok(None) => break "the server answers what XADD never does".to_owned(),
                Err(why) => break why,
            }
        };
        self.shared.publish(&mut self.runs);
        why
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.of_answer > MAX_ANSWER {
            let text = "an answer is longer than 64 KiB: this is no Redis";
            return Err(io::Error::new(io::ErrorKind::InvalidData, text));
        }
        let Reading { shared, runs, .. } = self;
        // Before each wait for more bytes the sink has all that came before.
        let publish = || shared.publish(runs);
        match self.wire.receive(&mut self.raw, buffer, publish)? {
            0 => {
                let text = "the server closed the connection";
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, text))
            }
            length => Ok(length),
        }
    }
}

impl Read for Reading<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = self.read_some(buffer);
        match &outcome {
            Ok(length) => self.of_answer += length,
            Err(error) => self.error = Some(io::Error::new(error.kind(), error.to_string())),
        }
        outcome
    }
}
