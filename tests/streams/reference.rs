//! The naive twin of the decoders: it has the whole stream before it.

use std::sync::LazyLock;

use drainline::Discard;
use drainline::ingest::framing::End;
use drainline::ingest::{Framing, Oversize};

use super::Rules;
use super::sum::{Found, Sum};

/// What a stream amounts to that ends so.
pub fn amounts_to(rules: Rules, stream: &[u8], end: End) -> Sum {
    let mut naive = Naive {
        rules,
        end,
        sum: Sum::default(),
        was_counted: false,
    };
    let mut rest = match rules.framing {
        Framing::OctetCounted | Framing::Syslog => naive.without(stream, "\u{feff}".as_bytes()),
        _ => stream,
    };
    // A message ends here, and nothing stands behind it so far.
    let mut is_behind = false;
    while !rest.is_empty() {
        let taken = match rules.framing {
            Framing::Lines => naive.delimited(rest, b'\n', true),
            Framing::Nul => naive.delimited(rest, b'\0', false),
            // What is there may yet be no part of a message.
            Framing::OctetCounted
                if is_behind && rest == b"\r"
                    || rest.len() == stream.len() && "\u{feff}".as_bytes().starts_with(rest) =>
            {
                naive.unfinished(rest)
            }
            Framing::OctetCounted => naive.counted(rest, octets(rest)),
            Framing::LengthPrefixed => naive.counted(rest, prefix(rest)),
            Framing::Syslog => naive.syslog(rest),
            other => panic!("a framing without a reference: {other}"),
        };
        let (before, after) = rest.split_at(taken);
        let marks: &[&[u8]] = match rules.framing {
            Framing::OctetCounted => &[b"\r\n", b"\n", b"\0"],
            Framing::Syslog if naive.was_counted => &[b"\r\n", b"\n", b"\0"],
            Framing::Syslog if before.ends_with(b"\n") => &[b"\0"],
            Framing::Nul if before.ends_with(b"\0") => &[b"\r\n", b"\n"],
            _ => &[],
        };
        let is_open = naive.sum.violations == 0;
        let mark = marks.iter().find(|mark| is_open && after.starts_with(mark));
        is_behind = mark.is_none();
        rest = naive.without(after, mark.unwrap_or(&&b""[..]));
    }
    naive.sum
}

/// Where a message that may have `max` bytes is truncated: before a character that would be split.
/// `None`: what is there of it may be one, and more is to come.
fn truncated_len(message: &[u8], max: usize, has_end: bool) -> Option<usize> {
    for start in max.saturating_sub(3)..max {
        let chars = (2..=4).filter_map(|len| message.get(start..start + len));
        let mut halves = chars.filter(|bytes| start + bytes.len() > max);
        let is_char =
            |bytes: &[u8]| std::str::from_utf8(bytes).is_ok_and(|s| s.chars().count() == 1);
        if halves.any(is_char) {
            return Some(start);
        }
        let rest = std::str::from_utf8(&message[start..]);
        let may_be = rest.is_err_and(|e| e.valid_up_to() == 0 && e.error_len().is_none());
        if may_be && !has_end {
            return None;
        }
    }
    Some(max)
}

/// All that there are, written in all ways.
static PRIORITIES: LazyLock<Vec<String>> = LazyLock::new(|| {
    let ways = |p: u32| [format!("<{p}>"), format!("<{p:02}>"), format!("<{p:03}>")];
    (0..192).flat_map(ways).collect()
});

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
    /// The last message was counted.
    was_counted: bool,
}

impl Naive {
    /// What is behind a mark, if there is one.
    fn without<'a>(&mut self, rest: &'a [u8], mark: &[u8]) -> &'a [u8] {
        let behind = rest.strip_prefix(mark).unwrap_or(rest);
        self.sum.framing(rest.len() - behind.len());
        behind
    }

    fn delimited(&mut self, rest: &[u8], delimiter: u8, strips_cr: bool) -> usize {
        self.was_counted = false;
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
        } else if self.too_long(line, true) {
            self.sum.framing(1);
        } else {
            self.sum.discard(rest.len() - line.len(), Discard::Oversize);
            return rest.len();
        }
        end + 1
    }

    /// The last line. It is a message at the end of the stream, its CR included; else it is
    /// discarded. One that is longer than `most`, whatever follows, was dealt with before.
    fn unterminated(&mut self, line: &[u8], most: usize) {
        let max = self.rules.max;
        let is_kept = line.len() <= most
            || self.rules.oversize == Oversize::Truncate
                && truncated_len(line, max, false).is_none();
        match self.end {
            End::Interrupted(reason) if is_kept => self.sum.discard(line.len(), reason),
            _ => {
                if line.len() <= self.rules.max {
                    self.sum.message(line, false);
                } else {
                    self.too_long(line, self.end == End::Eof);
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
    fn too_long(&mut self, line: &[u8], has_end: bool) -> bool {
        let max = self.rules.max;
        if self.rules.oversize == Oversize::Truncate {
            // Where it is not known before the end, the stream's end decides.
            let kept = truncated_len(line, max, has_end).unwrap();
            self.sum.message(&line[..kept], true);
            self.sum.discard(line.len() - kept, Discard::Truncated);
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
    fn is_invalid(&self, count: u64) -> bool {
        count > 16 * self.rules.max as u64 && count > 1024 * 1024
    }

    fn counted(&mut self, rest: &[u8], start: Start) -> usize {
        let (header, count) = match start {
            Start::Count(header, count) if !self.is_invalid(count) => (header, count as usize),
            Start::Unfinished => return self.unfinished(rest),
            Start::Count(..) | Start::NoCount => {
                self.sum.discard(rest.len(), Discard::InvalidFrame);
                self.sum.violations += 1;
                return rest.len();
            }
        };
        self.was_counted = true;
        let (max, body) = (self.rules.max, &rest[header..]);
        let there = count.min(body.len());
        let stripped = match self.rules.framing {
            Framing::Syslog => 2,
            _ => 0,
        };
        if count <= max + stripped && body.len() < count {
            return self.unfinished(rest);
        }
        let message = match &body[..there] {
            [message @ .., b'\r', b'\n'] | [message @ .., b'\n'] if stripped > 0 => message,
            message => message,
        };
        match self.rules.oversize {
            _ if count <= max + stripped && message.len() <= max => {
                self.sum.framing(header);
                self.sum.message(message, false);
                self.sum.framing(count - message.len());
            }
            Oversize::Truncate => {
                let has_end = there == count;
                let Some(kept) = (body.len() >= max)
                    .then(|| truncated_len(&body[..there], max, has_end))
                    .flatten()
                else {
                    return self.unfinished(rest);
                };
                self.sum.framing(header);
                self.sum.message(&body[..kept], true);
                self.sum.discard(there - kept, Discard::Truncated);
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
            other => panic!("not known here: {other:?}"),
        }
        header + there
    }

    fn unfinished(&mut self, rest: &[u8]) -> usize {
        let reason = match self.end {
            End::Eof => Discard::Incomplete,
            End::Interrupted(reason) => reason,
        };
        self.sum.discard(rest.len(), reason);
        rest.len()
    }

    fn syslog(&mut self, rest: &[u8]) -> usize {
        let start = octets(rest);
        match start {
            _ if rest[0] == b'0' => {}
            Start::Count(header, count) => {
                let body = &rest[header..];
                let counted = &body[..body.len().min(count as usize)];
                let has_priority = PRIORITIES.iter().any(|p| counted.starts_with(p.as_bytes()));
                let may_have = counted.len() < count as usize
                    && PRIORITIES
                        .iter()
                        .any(|p| p.as_bytes().starts_with(counted) && p.len() as u64 <= count);
                match (has_priority, may_have) {
                    (true, _) => return self.counted(rest, start),
                    // Half of a counted message is not to be taken for a line.
                    (false, true) if !counted.is_empty() => return self.unfinished(rest),
                    (false, true) => return self.undecided(rest),
                    (false, false) => {}
                }
            }
            Start::Unfinished => return self.undecided(rest),
            Start::NoCount => {}
        }
        self.delimited(rest, b'\n', true)
    }

    /// The stream ends before it is known what this is: a line, then, and nobody thought it too
    /// long before.
    fn undecided(&mut self, rest: &[u8]) -> usize {
        self.was_counted = false;
        self.unterminated(rest, rest.len());
        rest.len()
    }
}
