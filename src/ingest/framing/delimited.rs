//! Messages that end at a delimiter byte.

use memchr::{memchr, memchr_iter, memmem, memrchr};

use super::between::Between;
use super::event::{End, Event, Take, discard};
use super::input::{Framing, Oversize};
use super::seen::Seen;
use super::truncate::kept;
use super::unfinished::Unfinished;
use super::violation::Violation;
use crate::server::Discard;

/// The decoder of delimiter framings. The decoder remembers how far it has searched: no byte of an
/// unterminated message is searched twice.
#[derive(Clone, Debug)]
pub(super) struct Delimited {
    framing: Framing,
    delimiter: u8,
    strips_cr: bool,
    max_message: usize,
    oversize: Oversize,
    /// Bytes at the beginning of the next input that hold no delimiter.
    searched: usize,
    /// Inside the rest of a message that was too long.
    skipping: Option<Discard>,
    is_broken: bool,
    /// What may stand before the next message; never anything before a line.
    between: Between,
}

impl Delimited {
    pub(super) fn lines(max_message: usize, oversize: Oversize) -> Self {
        Self::new(Framing::Lines, max_message, oversize)
    }

    pub(super) fn nul(max_message: usize, oversize: Oversize) -> Self {
        Self::new(Framing::Nul, max_message, oversize)
    }

    /// The lines of a stream that has counted messages, too.
    pub(super) fn among_counted(max_message: usize, oversize: Oversize) -> Self {
        Self::new(Framing::Syslog, max_message, oversize)
    }

    fn new(framing: Framing, max_message: usize, oversize: Oversize) -> Self {
        let (searched, skipping, is_broken) = (0, None, false);
        let is_nul = framing == Framing::Nul;
        Delimited {
            framing,
            delimiter: if is_nul { b'\0' } else { b'\n' },
            strips_cr: !is_nul,
            max_message,
            oversize,
            searched,
            skipping,
            is_broken,
            between: Between::Nothing,
        }
    }

    pub(super) fn delimiter(&self) -> u8 {
        self.delimiter
    }

    pub(super) fn is_skipping(&self) -> bool {
        self.skipping.is_some()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.is_broken
    }

    pub(super) fn decode(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        if self.is_broken {
            return discard(input.len(), Discard::Oversize, emit);
        }
        let mut start = match self.skip(input, emit) {
            Some(start) => start,
            None => return input.len(),
        };
        match self.between.pass(&input[start..], emit) {
            Some(0) => return self.waits(start),
            passed => start += passed.unwrap_or(0),
        }
        // This input may be shorter than what was searched before.
        let from = start.max(self.searched.min(input.len()));
        let mut at = start;
        if let Some(last) = memrchr(self.delimiter, &input[from..]) {
            let end = from + last + 1;
            at += self.decode_whole(&input[at..end], emit);
            if at > start {
                self.passed(input[at - 1]);
            }
            if at < end && !self.is_broken {
                // The taker could not take the whole block.
                self.searched = 0;
                return at;
            }
            match self.between.pass(&input[at..], emit) {
                Some(0) => return self.waits(at),
                passed => at += passed.unwrap_or(0),
            }
        }
        self.decode_beginning(input, at, emit)
    }

    /// What follows `at` is too little to tell whether it is framing.
    fn waits(&mut self, at: usize) -> usize {
        self.searched = 0;
        at
    }

    /// Decodes one message, or what is there of a message that is skipped. 0: the message is not
    /// whole, or `emit` cannot take it.
    pub(super) fn decode_one(&mut self, input: &[u8], emit: &mut impl Take) -> usize {
        if self.is_broken {
            return discard(input.len(), Discard::Oversize, emit);
        }
        if self.is_skipping() {
            return self.skip(input, emit).unwrap_or(input.len());
        }
        let searched = self.searched.min(input.len());
        match memchr(self.delimiter, &input[searched..]) {
            None => self.decode_beginning(input, 0, emit),
            Some(found) => {
                self.searched = 0;
                let end = searched + found;
                self.decode_whole(&input[..=end], emit)
            }
        }
    }

    /// The rest of `input` from `at` on is the beginning of a message, which stays pending unless
    /// it is too long already.
    fn decode_beginning(&mut self, input: &[u8], mut at: usize, emit: &mut impl Take) -> usize {
        let rest = input.len() - at;
        if self.is_broken {
            at += discard(rest, Discard::Oversize, emit);
        // One byte beyond the longest message may be its CR.
        } else if rest > self.max_message + usize::from(self.strips_cr)
            && self.can_take(rest, emit)
            && self.too_long(&input[at..], false, emit)
        {
            at = input.len();
        }
        let left = input.len() - at;
        self.searched = if at == 0 {
            self.searched.max(left)
        } else {
            left
        };
        at
    }

    pub(super) fn finish(&mut self, rest: &[u8], end: End, emit: &mut impl Take) {
        self.searched = 0;
        match end {
            End::Interrupted(reason) => {
                discard(rest.len(), reason, emit);
            }
            End::Eof if rest.is_empty() => {
                if self.skipping == Some(Discard::Truncated) {
                    emit.take(Event::Unterminated);
                }
            }
            End::Eof => {
                if rest.len() > self.max_message {
                    self.too_long(rest, true, emit);
                } else {
                    emit.take(Event::Message {
                        len: rest.len(),
                        is_truncated: false,
                    });
                }
                if self.skipping != Some(Discard::Oversize) {
                    emit.take(Event::Unterminated);
                }
            }
        }
    }

    /// As [`Decoder::unfinished`](super::Decoder::unfinished).
    pub(super) fn unfinished(&self, rest: &[u8]) -> Option<Unfinished> {
        match rest.len() {
            _ if self.is_skipping() => Some(Unfinished::TooLong),
            0 => None,
            there => Some(Unfinished::Undelimited {
                delimiter: self.delimiter,
                there,
                begins: Seen::of(rest, self.framing),
            }),
        }
    }

    /// Skips the rest of a message that was too long. `None`: the message goes on beyond the input.
    fn skip(&mut self, input: &[u8], emit: &mut impl Take) -> Option<usize> {
        let Some(reason) = self.skipping else {
            return Some(0);
        };
        let Some(end) = memchr(self.delimiter, input) else {
            discard(input.len(), reason, emit);
            return None;
        };
        discard(end, reason, emit);
        emit.take(Event::Framing { len: 1 });
        self.skipping = None;
        self.passed(self.delimiter);
        Some(end + 1)
    }

    /// Decodes a block of whole messages. Messages that need no change go as one run: to count
    /// delimiters costs a tenth of finding each.
    fn decode_whole(&mut self, block: &[u8], emit: &mut impl Take) -> usize {
        let has_more_framing = match self.strips_cr {
            true => memchr(b'\r', block).is_some(),
            false => [&b"\0\n"[..], b"\0\r\n"]
                .into_iter()
                .any(|end| memmem::find(block, end).is_some()),
        };
        if !has_more_framing && !self.has_too_long(block) {
            let messages = memchr_iter(self.delimiter, block).count() as u64;
            return emit.take_run(block.len(), messages, self.delimiter);
        }
        let mut run = Run::default();
        let mut start = 0;
        for end in memchr_iter(self.delimiter, block) {
            let behind = match self.strips_cr {
                false if start > 0 => Between::Nul.len(&block[start..=end]),
                _ => None,
            };
            if let Some(len) = behind {
                let left = run.flush(self.delimiter, emit);
                if left > 0 {
                    return start - left;
                }
                emit.take(Event::Framing { len });
                start += len;
            }
            let line = &block[start..end];
            let stripped = if self.strips_cr {
                line.strip_suffix(b"\r").unwrap_or(line)
            } else {
                line
            };
            if stripped.len() == line.len() && line.len() <= self.max_message {
                run.add(line.len() + 1);
            } else {
                let left = run.flush(self.delimiter, emit);
                if left > 0 || !self.can_take(stripped.len(), emit) {
                    return start - left;
                }
                if stripped.len() <= self.max_message {
                    emit.take(Event::Message {
                        len: stripped.len(),
                        is_truncated: false,
                    });
                    emit.take(Event::Framing {
                        len: line.len() - stripped.len() + 1,
                    });
                } else {
                    self.too_long(line, true, emit);
                    if self.is_broken {
                        return end;
                    }
                    self.skipping = None;
                    emit.take(Event::Framing { len: 1 });
                }
            }
            start = end + 1;
        }
        block.len() - run.flush(self.delimiter, emit)
    }

    /// Whether what is kept of a message of `len` bytes can be taken now.
    fn can_take(&self, len: usize, emit: &mut impl Take) -> bool {
        let kept = len.min(self.max_message);
        let is_kept = len == kept || self.oversize == Oversize::Truncate;
        !is_kept || emit.can_take(kept)
    }

    /// Whether a message of the block is too long, without finding each: a message that is too long
    /// covers a multiple of `max_message`, so only those that do are measured.
    fn has_too_long(&self, block: &[u8]) -> bool {
        let max = self.max_message;
        (max..block.len()).step_by(max.max(1)).any(|at| {
            let start = memrchr(self.delimiter, &block[..at]).map_or(0, |before| before + 1);
            let end = memchr(self.delimiter, &block[at..]).map_or(block.len(), |after| at + after);
            end - start > max
        })
    }

    /// Everything up to `last` was passed. After a NUL that ends a message a LF or CRLF is framing,
    /// but not a second one.
    fn passed(&mut self, last: u8) {
        self.between = match last {
            b'\0' if !self.strips_cr => Between::Nul,
            _ => Between::Nothing,
        };
    }

    /// A message is longer than `max_message`. Its end may not be there yet; `false`: more of the
    /// message has to come to tell where to truncate it.
    fn too_long(&mut self, message: &[u8], has_end: bool, emit: &mut impl Take) -> bool {
        match self.oversize {
            Oversize::Truncate => {
                let Some(kept) = kept(message, self.max_message, has_end) else {
                    return false;
                };
                emit.take(Event::Message {
                    len: kept,
                    is_truncated: true,
                });
                discard(message.len() - kept, Discard::Truncated, emit);
                self.skipping = Some(Discard::Truncated);
            }
            Oversize::Drop | Oversize::Close => {
                if self.oversize == Oversize::Drop {
                    emit.take(Event::Dropped);
                }
                discard(message.len(), Discard::Oversize, emit);
                self.skipping = Some(Discard::Oversize);
            }
        }
        if self.oversize == Oversize::Close {
            self.is_broken = true;
            emit.take(Event::Violation(Violation::Oversize {
                at_least: self.max_message + 1,
                max_message: self.max_message,
                begins: Seen::of(message, self.framing),
            }));
        }
        true
    }
}

/// Messages in a row that can be passed on as they came.
#[derive(Default)]
struct Run {
    len: usize,
    messages: u64,
}

impl Run {
    fn add(&mut self, len: usize) {
        self.len += len;
        self.messages += 1;
    }

    /// Emits the run and begins a new one. Returns how many of its bytes the taker did not take.
    fn flush(&mut self, delimiter: u8, emit: &mut impl Take) -> usize {
        let Run { len, messages } = std::mem::take(self);
        match messages {
            0 => 0,
            _ => len - emit.take_run(len, messages, delimiter),
        }
    }
}
