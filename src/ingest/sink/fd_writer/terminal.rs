//! What a terminal is shown: messages without the control characters that a terminal would obey.
//!
//! Whoever can send a message could otherwise set the title, fill the clipboard, clear the screen
//! or have the terminal answer as if it were typed. Escaped are, byte by byte and as `\x1b`: C0 but
//! the tab, DEL, C1 (as UTF-8 and as single bytes that are part of no UTF-8), and so a LF inside a
//! message. The delimiter after a message stays.

use crate::ingest::batch::Batch;

/// How many bytes are shown with one write, and held on the stack meanwhile: an escape is four
/// times as long as its byte.
const PIECE: usize = 4096;
/// What a byte becomes: `\x1b`.
const ESCAPE: usize = 4;
/// A C1 character of two bytes, escaped; no other character has more than four bytes.
const MAX_SHOWN: usize = 2 * ESCAPE;

/// How far a batch is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shown {
    /// Bytes of the batch.
    pub(super) offset: usize,
    /// Bytes of what stands for the next byte or character.
    pub(super) of_next: usize,
}

/// The next piece of a batch, as it is shown.
pub(super) struct Piece {
    bytes: [u8; PIECE],
    len: usize,
}

impl Piece {
    /// Behind what is shown.
    pub(super) fn of(batch: &Batch, from: Shown) -> Piece {
        let mut piece = Piece {
            bytes: [0; PIECE],
            len: 0,
        };
        let mut skipped = from.of_next;
        for unit in units(batch, from.offset) {
            let mut shown = [0; MAX_SHOWN];
            let shown = &unit.show(&mut shown)[skipped..];
            skipped = 0;
            let end = piece.len + shown.len();
            if end > PIECE {
                break;
            }
            piece.bytes[piece.len..end].copy_from_slice(shown);
            piece.len = end;
        }
        piece
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Shown {
    /// How far the batch is shown when so many more bytes of its piece are written.
    pub(super) fn after(mut self, batch: &Batch, written: usize) -> Shown {
        self.of_next += written;
        for unit in units(batch, self.offset) {
            if self.of_next < unit.shown_len() {
                break;
            }
            self.of_next -= unit.shown_len();
            self.offset += unit.bytes.len();
        }
        self
    }
}

/// A byte, or a character of several, and whether it is escaped.
struct Unit<'a> {
    bytes: &'a [u8],
    is_escaped: bool,
}

impl<'a> Unit<'a> {
    /// The first unit of these bytes.
    fn first(bytes: &'a [u8]) -> Option<Unit<'a>> {
        let first = *bytes.first()?;
        let len = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            _ => 1,
        };
        let character = bytes
            .get(..len)
            .and_then(|bytes| std::str::from_utf8(bytes).ok());
        let is_escaped = match character.and_then(|character| character.chars().next()) {
            Some(character) => character.is_control() && character != '\t',
            // Not UTF-8: a terminal of single bytes takes such a byte for C1.
            None => (0x80..=0x9f).contains(&first),
        };
        Some(Unit {
            bytes: &bytes[..character.map_or(1, str::len)],
            is_escaped,
        })
    }

    fn shown_len(&self) -> usize {
        if self.is_escaped {
            self.bytes.len() * ESCAPE
        } else {
            self.bytes.len()
        }
    }

    fn show<'s>(&self, shown: &'s mut [u8; MAX_SHOWN]) -> &'s [u8] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let len = self.shown_len();
        if self.is_escaped {
            for (escape, &byte) in shown.chunks_exact_mut(ESCAPE).zip(self.bytes) {
                let (high, low) = (byte >> 4, byte & 0xf);
                let digits = [DIGITS[usize::from(high)], DIGITS[usize::from(low)]];
                escape.copy_from_slice(&[b'\\', b'x', digits[0], digits[1]]);
            }
        } else {
            shown[..len].copy_from_slice(self.bytes);
        }
        &shown[..len]
    }
}

fn units(batch: &Batch, from: usize) -> impl Iterator<Item = Unit<'_>> {
    let bytes = batch.as_bytes();
    let mut at = from;
    std::iter::from_fn(move || {
        let mut unit = Unit::first(bytes.get(at..)?)?;
        unit.is_escaped &= !batch.is_delimiter(at);
        at += unit.bytes.len();
        Some(unit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::batch::buffer::Buffer;
    use crate::ingest::framing::OutputFraming;

    fn batch(framing: OutputFraming, messages: &[&[u8]]) -> Batch {
        let (mut bytes, mut ends) = (Buffer::default(), Vec::new());
        for message in messages {
            bytes.append_framed(message, framing);
            if framing.delimiter().is_some() {
                ends.push(bytes.len() as u32 - 1);
            }
        }
        Batch::new(bytes, messages.len() as u64, framing, ends)
    }

    /// All of it, with writes that take `step` bytes at most.
    fn shown(batch: &Batch, step: usize) -> Vec<u8> {
        let (mut all, mut at) = (Vec::new(), Shown::default());
        while at.offset < batch.as_bytes().len() {
            let piece = Piece::of(batch, at);
            let taken = piece.as_bytes().len().min(step);
            assert!(taken > 0);
            all.extend(&piece.as_bytes()[..taken]);
            at = at.after(batch, taken);
        }
        assert_eq!(at.of_next, 0);
        all
    }

    #[test]
    fn what_a_terminal_would_obey_is_escaped_and_nothing_else_is() {
        let cases: [(&[u8], &str); 12] = [
            (b"plain text, a\ttab and \\", "plain text, a\ttab and \\"),
            ("é ’ 語 🦀 \u{a0}".as_bytes(), "é ’ 語 🦀 \u{a0}"),
            (b"\x1b]0;title\x07", r"\x1b]0;title\x07"),
            (b"\0\x08\r\n\x0b\x7f", r"\x00\x08\x0d\x0a\x0b\x7f"),
            // C1 as UTF-8, as single bytes, and where a character is incomplete.
            (
                "\u{80}\u{9b}2J\u{9f}".as_bytes(),
                r"\xc2\x80\xc2\x9b2J\xc2\x9f",
            ),
            (b"\x9b2J", r"\x9b2J"),
            (b"\x80\x9f", r"\x80\x9f"),
            (b"", ""),
            (b"\t", "\t"),
            (b"\x1b", r"\x1b"),
            (b"\n\n", r"\x0a\x0a"),
            ("\u{202e}".as_bytes(), "\u{202e}"),
        ];
        for (message, expected) in cases {
            let batch = batch(OutputFraming::Lines, &[message]);
            for step in [1, 3, 4096] {
                let shown = shown(&batch, step);
                assert_eq!(shown, format!("{expected}\n").as_bytes(), "{expected}");
            }
        }
        // Neither is UTF-8: what is no C1 stays.
        for (message, expected) in [
            (&b"\xe2\x80"[..], &b"\xe2\\x80\n"[..]),
            (b"\xc0\x9b", b"\xc0\\x9b\n"),
            (b"\xed\xa0\x80", b"\xed\xa0\\x80\n"),
            (b"\xf4\x90\x80\x80", b"\xf4\\x90\\x80\\x80\n"),
            (b"\xc2", b"\xc2\n"),
            (b"\xff\xa0", b"\xff\xa0\n"),
        ] {
            let batch = batch(OutputFraming::Lines, &[message]);
            assert_eq!(shown(&batch, 1), expected);
        }
    }

    #[test]
    fn only_what_ends_a_message_stays_as_it_is() {
        let two: [&[u8]; 2] = [b"a\nb\0", b"\n"];
        for (framing, expected) in [
            (OutputFraming::Lines, &b"a\\x0ab\\x00\n\\x0a\n"[..]),
            (OutputFraming::Nul, b"a\\x0ab\\x00\0\\x0a\0"),
            (OutputFraming::OctetCounted, b"4 a\\x0ab\\x001 \\x0a"),
            // A length is chosen by the peer, too: 27 is ESC.
            (
                OutputFraming::LengthPrefixed,
                b"\\x00\\x00\\x00\\x04a\\x0ab\\x00\\x00\\x00\\x00\\x01\\x0a",
            ),
        ] {
            assert_eq!(shown(&batch(framing, &two), 5), expected, "{framing}");
        }
    }

    /// Wherever a piece ends, and whatever a write takes of it. The whole is a few pieces long, so
    /// that each byte of the unit, however it is shown, ends one of them where a write takes one
    /// byte.
    #[test]
    fn pieces_put_together_are_the_whole_whatever_a_write_takes() {
        let unit = "é’🦀\u{9b}\x1b語x\n".as_bytes();
        let message = unit.repeat(200);
        let batch = batch(OutputFraming::Lines, &[&message, b"\x9b", &message]);
        let whole = shown(&batch, PIECE);
        assert!(whole.len() > 2 * PIECE);
        for step in [1, 7, 8, 1000, PIECE - 1] {
            assert!(shown(&batch, step) == whole, "{step}");
        }
        assert!(!whole.iter().any(|&byte| byte < 0x20 && byte != b'\n'));
        assert_eq!(whole.iter().filter(|&&byte| byte == b'\n').count(), 3);
    }
}
