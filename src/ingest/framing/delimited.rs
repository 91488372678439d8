//! Messages that end at a delimiter byte.

use memchr::{memchr, memchr_iter, memrchr};

use super::{Discard, End, Event, Framing, Oversize};

/// The decoder of delimiter framings.
///
/// It holds no bytes: the caller keeps what was not consumed and passes it again, with more behind it. It
/// remembers how far it has looked, so an unterminated message is never looked through twice.
#[derive(Clone, Debug)]
pub struct Delimited {
    delimiter: u8,
    strips_cr: bool,
    max_message: usize,
    oversize: Oversize,
    /// Bytes at the beginning of the next input that hold no delimiter.
    searched: usize,
    /// Inside the rest of a message that was too long.
    skipping: Option<Discard>,
    is_broken: bool,
}

impl Delimited {
    /// A decoder for `framing` that takes messages of up to `max_message` bytes.
    pub fn new(framing: Framing, max_message: usize, oversize: Oversize) -> Self {
        let (delimiter, strips_cr) = match framing {
            Framing::Lines => (b'\n', true),
        };
        Delimited {
            delimiter,
            strips_cr,
            max_message,
            oversize,
            searched: 0,
            skipping: None,
            is_broken: false,
        }
    }

    /// The byte that ends a message.
    pub fn delimiter(&self) -> u8 {
        self.delimiter
    }

    /// Whether an unfinished message has begun, `pending` bytes of it being kept by the caller.
    pub fn is_inside(&self, pending: usize) -> bool {
        pending > 0 || self.skipping.is_some()
    }

    /// Whether the beginning of an unfinished message was passed on as all of it, truncated.
    pub fn is_truncating(&self) -> bool {
        self.skipping == Some(Discard::Truncated)
    }

    /// Decodes what is whole in `input`. Returns how much was consumed; the rest begins the next input.
    pub fn decode(&mut self, input: &[u8], mut emit: impl FnMut(Event)) -> usize {
        if self.is_broken {
            return discard(input.len(), Discard::Oversize, &mut emit);
        }
        let start = match self.skip(input, &mut emit) {
            Some(start) => start,
            None => return input.len(),
        };
        let from = start.max(self.searched);
        let mut at = start;
        if let Some(last) = memrchr(self.delimiter, &input[from..]) {
            let end = from + last + 1;
            at += self.decode_whole(&input[at..end], &mut emit);
            if self.is_broken {
                return at + discard(input.len() - at, Discard::Oversize, &mut emit);
            }
        }
        let rest = &input[at..];
        // A byte more than the longest message may be its CR.
        if rest.len() > self.max_message + usize::from(self.strips_cr) {
            self.too_long(rest.len(), &mut emit);
            at = input.len();
        }
        self.searched = input.len() - at;
        at
    }

    /// The stream is at its end; `rest` is what the last decode left.
    pub fn finish(&mut self, rest: &[u8], end: End, mut emit: impl FnMut(Event)) {
        self.searched = 0;
        match end {
            _ if rest.is_empty() => {}
            End::Cut(reason) => {
                discard(rest.len(), reason, &mut emit);
            }
            End::Eof if rest.len() > self.max_message => self.too_long(rest.len(), &mut emit),
            End::Eof => emit(Event::Message {
                len: rest.len(),
                is_truncated: false,
            }),
        }
    }

    /// Leaves the rest of a message that was too long. `None`: it goes on beyond the input.
    fn skip(&mut self, input: &[u8], emit: &mut impl FnMut(Event)) -> Option<usize> {
        let Some(reason) = self.skipping else {
            return Some(0);
        };
        let Some(end) = memchr(self.delimiter, input) else {
            discard(input.len(), reason, emit);
            return None;
        };
        discard(end, reason, emit);
        emit(Event::Framing { len: 1 });
        self.skipping = None;
        Some(end + 1)
    }

    /// Decodes a block of whole messages. What needs nothing done to it goes as one run: to count
    /// delimiters costs a tenth of finding each.
    fn decode_whole(&mut self, block: &[u8], emit: &mut impl FnMut(Event)) -> usize {
        let has_cr = self.strips_cr && memchr(b'\r', block).is_some();
        if !has_cr && !self.has_too_long(block) {
            let messages = memchr_iter(self.delimiter, block).count() as u64;
            emit(Event::Run {
                len: block.len(),
                messages,
            });
            return block.len();
        }
        let mut run = Run::default();
        let mut start = 0;
        for end in memchr_iter(self.delimiter, block) {
            let line = &block[start..end];
            let stripped = if self.strips_cr {
                line.strip_suffix(b"\r").unwrap_or(line)
            } else {
                line
            };
            if stripped.len() == line.len() && line.len() <= self.max_message {
                run.add(line.len() + 1);
            } else {
                run.flush(emit);
                if stripped.len() <= self.max_message {
                    emit(Event::Message {
                        len: stripped.len(),
                        is_truncated: false,
                    });
                    emit(Event::Framing {
                        len: line.len() - stripped.len() + 1,
                    });
                } else {
                    self.too_long(line.len(), emit);
                    if self.is_broken {
                        return end;
                    }
                    self.skipping = None;
                    emit(Event::Framing { len: 1 });
                }
            }
            start = end + 1;
        }
        run.flush(emit);
        block.len()
    }

    /// Whether a message of the block is too long, without finding each: one that is covers a multiple of
    /// `max_message`, so it is enough to measure those that do.
    fn has_too_long(&self, block: &[u8]) -> bool {
        let max = self.max_message;
        (max..block.len()).step_by(max.max(1)).any(|at| {
            let start = memrchr(self.delimiter, &block[..at]).map_or(0, |before| before + 1);
            let end = memchr(self.delimiter, &block[at..]).map_or(block.len(), |after| at + after);
            end - start > max
        })
    }

    /// `len` bytes of a message that is longer than it may be, and whose end may not be there yet.
    fn too_long(&mut self, len: usize, emit: &mut impl FnMut(Event)) {
        match self.oversize {
            Oversize::Truncate => {
                emit(Event::Message {
                    len: self.max_message,
                    is_truncated: true,
                });
                discard(len - self.max_message, Discard::Truncated, emit);
                self.skipping = Some(Discard::Truncated);
            }
            Oversize::Drop | Oversize::Close => {
                emit(Event::Dropped);
                discard(len, Discard::Oversize, emit);
                self.skipping = Some(Discard::Oversize);
            }
        }
        if self.oversize == Oversize::Close {
            self.is_broken = true;
            emit(Event::Violation);
        }
    }
}

/// Messages in a row that go on as they came.
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

    fn flush(&mut self, emit: &mut impl FnMut(Event)) {
        let Run { len, messages } = std::mem::take(self);
        if messages > 0 {
            emit(Event::Run { len, messages });
        }
    }
}

fn discard(len: usize, reason: Discard, emit: &mut impl FnMut(Event)) -> usize {
    if len > 0 {
        emit(Event::Discard { len, reason });
    }
    len
}
