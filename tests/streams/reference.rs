//! The naive twin of the decoders: it has the whole stream before it.

use drainline::ingest::framing::End;
use drainline::ingest::{Discard, Framing, Oversize};

use super::Rules;
use super::sum::{Found, Sum};

/// What a stream amounts to that ends so.
pub fn amounts_to(rules: Rules, stream: &[u8], end: End) -> Sum {
    let mut naive = Naive {
        rules,
        end,
        sum: Sum::default(),
    };
    let mut rest = stream;
    while !rest.is_empty() {
        let taken = match rules.framing {
            Framing::Lines => naive.delimited(rest, b'\n', true),
            Framing::Nul => naive.delimited(rest, b'\0', false),
            Framing::OctetCounted => naive.counted(rest, octets(rest)),
            Framing::LengthPrefixed => naive.counted(rest, prefix(rest)),
            Framing::Syslog => naive.syslog(rest),
            other => panic!("a framing without a reference: {other}"),
        };
        rest = &rest[taken..];
    }
    naive.sum
}

/// What a counted message begins with.
enum Start {
    Unfinished,
    NoCount,
    /// So many bytes of header, and so many of message.
    Count(usize, u64),
}

fn prefix(rest: &[u8]) -> Start {
    match rest {
        [a, b, c, d, ..] => Start::Count(
            4,
            [a, b, c, d].iter().fold(0, |n, &&x| n << 8 | u64::from(x)),
        ),
        _ => Start::Unfinished,
    }
}

fn octets(rest: &[u8]) -> Start {
    let is_digit = u8::is_ascii_digit;
    let end = rest.iter().position(|byte| !is_digit(byte));
    let digits = std::str::from_utf8(&rest[..end.unwrap_or(rest.len())]).unwrap();
    let is_count = digits == "0" || !digits.starts_with('0') && (1..=10).contains(&digits.len());
    match end {
        _ if !is_count => Start::NoCount,
        None => Start::Unfinished,
        Some(end) if rest[end] == b' ' => Start::Count(end + 1, digits.parse().unwrap()),
        Some(_) => Start::NoCount,
    }
}

struct Naive {
    rules: Rules,
    end: End,
    sum: Sum,
}

impl Naive {
    fn delimited(&mut self, rest: &[u8], delimiter: u8, strips_cr: bool) -> usize {
        let max = self.rules.max;
        let Some(end) = rest.iter().position(|&byte| byte == delimiter) else {
            self.unterminated(rest, max + usize::from(strips_cr));
            return rest.len();
        };
        let line = &rest[..end];
        let message = match line {
            [message @ .., b'\r'] if strips_cr => message,
            _ => line,
        };
        if message.len() <= max {
            self.sum.message(message, false);
            self.sum.framing(line.len() - message.len() + 1);
        } else if self.too_long(line) {
            self.sum.framing(1);
        } else {
            self.sum.discard(rest.len() - line.len(), Discard::Oversize);
            return rest.len();
        }
        end + 1
    }

    /// The last line. It is a message at the end of the stream, its CR included; else it is discarded. One that is longer
    /// than `most`, whatever follows, was dealt with before.
    fn unterminated(&mut self, line: &[u8], most: usize) {
        match self.end {
            End::Cut(reason) if line.len() <= most => self.sum.discard(line.len(), reason),
            _ => {
                if line.len() <= self.rules.max {
                    self.sum.message(line, false);
                } else {
                    self.too_long(line);
                }
                let is_message =
                    line.len() <= self.rules.max || self.rules.oversize == Oversize::Truncate;
                if self.end == End::Eof && is_message {
                    self.sum.push(Found::Partial);
                }
            }
        }
    }

    /// A line that is too long; whether the stream goes on behind it.
    fn too_long(&mut self, line: &[u8]) -> bool {
        let max = self.rules.max;
        if self.rules.oversize == Oversize::Truncate {
            self.sum.message(&line[..max], true);
            self.sum.discard(line.len() - max, Discard::Truncated);
            return true;
        }
        let closes = self.rules.oversize == Oversize::Close;
        if !closes {
            self.sum.push(Found::Dropped);
        }
        self.sum.discard(line.len(), Discard::Oversize);
        self.sum.violations += u64::from(closes);
        !closes
    }

    /// Whether a count is nothing that anybody means.
    fn is_garbage(&self, count: u64) -> bool {
        count > 16 * self.rules.max as u64 && count > 1024 * 1024
    }

    fn counted(&mut self, rest: &[u8], start: Start) -> usize {
        let (header, count) = match start {
            Start::Count(header, count) if !self.is_garbage(count) => (header, count as usize),
            Start::Unfinished => return self.unfinished(rest),
            Start::Count(..) | Start::NoCount => {
                self.sum.discard(rest.len(), Discard::Garbage);
                self.sum.violations += 1;
                return rest.len();
            }
        };
        let (max, body) = (self.rules.max, &rest[header..]);
        let there = count.min(body.len());
        match self.rules.oversize {
            _ if count <= max => {
                if body.len() < count {
                    return self.unfinished(rest);
                }
                self.sum.framing(header);
                self.sum.message(&body[..count], false);
            }
            Oversize::Truncate => {
                if body.len() < max {
                    return self.unfinished(rest);
                }
                self.sum.framing(header);
                self.sum.message(&body[..max], true);
                self.sum.discard(there - max, Discard::Truncated);
            }
            Oversize::Drop => {
                self.sum.framing(header);
                self.sum.push(Found::Dropped);
                self.sum.discard(there, Discard::Oversize);
            }
            Oversize::Close => {
                self.sum.framing(header);
                self.sum.discard(body.len(), Discard::Oversize);
                self.sum.violations += 1;
                return rest.len();
            }
        }
        header + there
    }

    fn unfinished(&mut self, rest: &[u8]) -> usize {
        let reason = match self.end {
            End::Eof => Discard::Incomplete,
            End::Cut(reason) => reason,
        };
        self.sum.discard(rest.len(), reason);
        rest.len()
    }

    fn syslog(&mut self, rest: &[u8]) -> usize {
        let start = octets(rest);
        match start {
            _ if rest[0] == b'0' => {}
            Start::Count(header, count) if !self.is_garbage(count) => match rest.get(header) {
                Some(b'<') => return self.counted(rest, start),
                Some(_) => {}
                None => return self.undecided(rest),
            },
            Start::Unfinished => return self.undecided(rest),
            Start::Count(..) | Start::NoCount => {}
        }
        self.delimited(rest, b'\n', true)
    }

    /// The stream ends before it is known what this is: a line, then, and nobody thought it too long before.
    fn undecided(&mut self, rest: &[u8]) -> usize {
        self.unterminated(rest, rest.len());
        rest.len()
    }
}
