//! What a receiver answers that speaks HTTP or Redis: well, or in any of the ways that go wrong.

use std::io::Read;
use std::time::Duration;

use super::common::http_peer::{self, Head};
use super::common::redis;
use super::common::tagged::XorShift;
use super::script::{one_in, pick};

/// The index of documents.
pub const INDEX: &str = "logs";
const ACTION: &[u8] = br#"{"create":{"_index":"logs"}}"#;
const LATEST: usize = 400;

/// What a receiver speaks that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// HTTP, with a line for each message.
    Lines,
    /// HTTP, with a document of `_bulk` for each.
    Bulk,
    Redis,
}

/// How it answers, or every other time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    Well,
    /// It takes nothing now; of a long request it does not wait for the end.
    Busy,
    /// It takes a part of what came.
    Partly,
    /// Its answer breaks off or is none, and the connection ends. It may have taken what came.
    Broken,
    Late,
    /// It says nothing over this connection any more.
    Silent,
}

pub const MOODS: [Mood; 5] = [
    Mood::Busy,
    Mood::Partly,
    Mood::Broken,
    Mood::Late,
    Mood::Silent,
];

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    GoOn,
    Close,
    Reset,
    /// Nothing is answered any more.
    Never,
}

#[derive(Debug)]
pub struct Reply {
    pub bytes: Vec<u8>,
    pub after: Duration,
    pub then: Then,
}

impl Reply {
    fn new(bytes: impl Into<Vec<u8>>, then: Then) -> Reply {
        Reply {
            bytes: bytes.into(),
            after: Duration::ZERO,
            then,
        }
    }

    fn status(status: &str) -> Reply {
        Reply::new(http_peer::answer(status, "", ""), Then::GoOn)
    }
}

/// What it took.
#[derive(Debug, Default)]
pub struct Taken {
    /// Each message as it came, as often as it did, and over which connection.
    pub messages: Vec<(usize, Vec<u8>)>,
    /// Of so many of these it has said that it took them.
    pub said: u64,
    /// Of so many it has said that it will never take them.
    pub refused: u64,
}

#[derive(Debug)]
pub struct Answering {
    pub speech: Speech,
    pub mood: Mood,
    /// There are messages that it never takes.
    pub refuses: bool,
    pub dice: XorShift,
    pub taken: Taken,
}

impl Answering {
    /// Takes what is whole off the bytes of a connection, and answers that.
    pub fn reply(&mut self, connection: usize, bytes: &mut Vec<u8>) -> Option<Reply> {
        let mut reply = match self.speech {
            Speech::Redis => self.commands(connection, bytes),
            Speech::Lines | Speech::Bulk => self.request(connection, bytes),
        }?;
        if self.mood == Mood::Late {
            reply.after = Duration::from_millis(self.dice.up_to(LATEST) as u64);
        }
        Some(reply)
    }

    fn is_refused(&self, message: &[u8]) -> bool {
        let sum = message.iter().map(|&byte| u64::from(byte)).sum::<u64>();
        self.refuses && sum.is_multiple_of(199)
    }

    fn take(&mut self, connection: usize, message: &[u8]) {
        self.taken.messages.push((connection, message.to_vec()));
    }

    // ---- HTTP

    fn request(&mut self, connection: usize, bytes: &mut Vec<u8>) -> Option<Reply> {
        let head = Head::of(bytes)?;
        if bytes.len() < head.body.end {
            let is_early = self.mood == Mood::Busy && connection.is_multiple_of(2);
            return is_early.then(|| Reply {
                then: Then::Close,
                ..self.busy()
            });
        }
        let mut body = bytes[head.body.clone()].to_vec();
        bytes.drain(..head.body.end);
        if head.header("content-encoding") == Some("gzip") {
            let mut plain = Vec::new();
            let mut decoder = flate2::read::GzDecoder::new(&body[..]);
            decoder.read_to_end(&mut plain).unwrap();
            body = plain;
        }
        let lines: Vec<&[u8]> = body
            .strip_suffix(b"\n")
            .unwrap()
            .split(|it| *it == b'\n')
            .collect();
        let messages: Vec<&[u8]> = match self.speech {
            Speech::Bulk => lines
                .chunks(2)
                .map(|pair| {
                    assert_eq!(pair[0], ACTION);
                    pair[1]
                })
                .collect(),
            _ => lines,
        };
        let mood = match one_in(&mut self.dice, 2) {
            true => self.mood,
            false => Mood::Well,
        };
        Some(match mood {
            Mood::Busy => self.busy(),
            Mood::Partly
                if messages.len() > 1
                    && (self.speech == Speech::Lines || one_in(&mut self.dice, 4)) =>
            {
                Reply::status("413 Content Too Large")
            }
            Mood::Broken => {
                if one_in(&mut self.dice, 2) {
                    messages
                        .iter()
                        .for_each(|message| self.take(connection, message));
                }
                self.broken(messages.len())
            }
            Mood::Silent => Reply::new("", Then::Never),
            _ if self.speech == Speech::Bulk => self.documents(connection, &messages, mood),
            _ if messages.iter().any(|message| self.is_refused(message)) => {
                self.taken.refused += messages.len() as u64;
                Reply::status("400 Bad Request")
            }
            _ => {
                messages
                    .iter()
                    .for_each(|message| self.take(connection, message));
                self.taken.said += messages.len() as u64;
                Reply::status(pick(&mut self.dice, &["200 OK", "204 No Content"]))
            }
        })
    }

    fn busy(&mut self) -> Reply {
        let status = pick(
            &mut self.dice,
            &[
                "429 Too Many Requests",
                "500 Internal Server Error",
                "503 Service Unavailable",
                "403 Forbidden",
            ],
        );
        let headers = pick(&mut self.dice, &["", "", "retry-after: 1\r\n"]);
        Reply::new(http_peer::answer(status, headers, ""), Then::GoOn)
    }

    fn documents(&mut self, connection: usize, messages: &[&[u8]], mood: Mood) -> Reply {
        let mut statuses = Vec::new();
        for message in messages {
            statuses.push(if self.is_refused(message) {
                self.taken.refused += 1;
                400
            } else if mood == Mood::Partly && one_in(&mut self.dice, 3) {
                pick(&mut self.dice, &[429, 500, 503])
            } else {
                self.take(connection, message);
                self.taken.said += 1;
                201
            });
        }
        Reply::new(
            http_peer::answer("200 OK", "", &http_peer::bulk_items(&statuses)),
            Then::GoOn,
        )
    }

    /// To a request of so many messages.
    fn broken(&mut self, messages: usize) -> Reply {
        let well = http_peer::answer("200 OK", "", &http_peer::bulk_items(&vec![201; messages]));
        let dice = &mut self.dice;
        match dice.up_to(7) {
            1 => Reply::new("", Then::Close),
            2 => Reply::new("", Then::Reset),
            3 => Reply::new(&well[..dice.up_to(well.len() - 1)], Then::Close),
            4 => Reply::new(&well[..dice.up_to(well.len() - 1)], Then::Reset),
            5 => Reply::new("\x16\x03\x01 this is no HTTP\r\n\r\n", Then::Close),
            6 => {
                let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
                Reply::new(format!("{head}50\r\nhalf of it"), Then::Close)
            }
            _ if self.speech == Speech::Bulk => {
                let more = http_peer::bulk_items(&vec![201; messages + 1]);
                let body = pick(dice, &["<html>", "", "{}", &more]);
                Reply::new(http_peer::answer("200 OK", "", body), Then::GoOn)
            }
            _ => Reply::new("HTTP/1.1 999999 What\r\n\r\n", Then::Close),
        }
    }

    // ---- Redis

    fn commands(&mut self, connection: usize, bytes: &mut Vec<u8>) -> Option<Reply> {
        let (mut at, mut out) = (0, Vec::new());
        let mut then = Then::GoOn;
        let mut mood = None;
        while let Some((mut words, length)) = redis::parse(&bytes[at..]) {
            at += length;
            let is_ill = mood.is_none() && one_in(&mut self.dice, 2);
            let mood = *mood.get_or_insert(if is_ill { self.mood } else { Mood::Well });
            let is_entry = words[0] == b"XADD";
            let message = words.pop().unwrap();
            let one_of = match mood {
                Mood::Busy | Mood::Silent => 1,
                Mood::Partly => 10,
                _ => 50,
            };
            match mood {
                Mood::Busy | Mood::Partly if one_in(&mut self.dice, one_of) => {
                    out.extend_from_slice(self.error());
                }
                Mood::Broken | Mood::Silent if one_in(&mut self.dice, one_of) => {
                    if is_entry && one_in(&mut self.dice, 2) {
                        self.take(connection, &message);
                    }
                    if mood == Mood::Silent {
                        then = Then::Never;
                    } else {
                        let garbage: [&[u8]; 6] = [
                            b"",
                            b"$3\r\n1",
                            b"$-1\r\n",
                            b"+O",
                            b"*9999\r\n",
                            b"HTTP/1.1 400 Bad Request\r\n\r\n",
                        ];
                        out.extend_from_slice(pick(&mut self.dice, &garbage));
                        then = pick(&mut self.dice, &[Then::Close, Then::Reset]);
                    }
                    break;
                }
                _ if !is_entry => out.extend_from_slice(b"+OK\r\n"),
                _ if self.is_refused(&message) => {
                    self.taken.refused += 1;
                    out.extend_from_slice(b"-ERR Elements are too large to be stored\r\n");
                }
                _ => {
                    self.take(connection, &message);
                    self.taken.said += 1;
                    out.extend_from_slice(b"$3\r\n1-1\r\n");
                }
            }
        }
        bytes.drain(..at);
        (at > 0).then(|| Reply::new(out, then))
    }

    fn error(&mut self) -> &'static [u8] {
        let errors: [&[u8]; 5] = [
            b"-LOADING Redis is loading the dataset in memory\r\n",
            b"-BUSY Redis is busy running a script.\r\n",
            b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
            b"-READONLY You can't write against a read only replica.\r\n",
            b"-NOAUTH Authentication required.\r\n",
        ];
        pick(&mut self.dice, &errors)
    }
}
