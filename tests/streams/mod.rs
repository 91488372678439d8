//! What holds of every stream, in every framing: however it comes apart, it is what
//! [`reference::amounts_to`] says.
//!
//! The property tests and the fuzz targets share this: they differ in where their streams are from.

// Each of them uses a part.
#![allow(dead_code)]
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used)]

pub mod encode;
pub mod reference;
pub mod sum;

use drainline::Discard;
use drainline::ingest::framing::{Decoder, End};
use drainline::ingest::{Framing, Oversize};

use sum::{Limited, Sum};

const ENDS: [End; 2] = [End::Eof, End::Interrupted(Discard::Reset)];

/// Up to here a stream is also tried a byte at a time.
const SHORT: usize = 96;
/// After so many reads, only the end is compared: to compare is more work than to decode.
const COMPARED: usize = 16;

/// How a stream is split into messages.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    pub framing: Framing,
    pub max: usize,
    pub oversize: Oversize,
}

impl Rules {
    pub fn decoder(self) -> Decoder {
        Decoder::new(self.framing, self.max, self.oversize)
    }

    /// What is kept of an unfinished message at most: the longest one with its header or its end;
    /// and before one that is longer is truncated, the rest of a character.
    fn max_pending(self) -> usize {
        let (cr, end, digits_and_space, character, priority) = (1, 2, 11, 3, 5);
        let character = match self.oversize {
            Oversize::Truncate => character - 1,
            _ => 0,
        };
        match self.framing {
            Framing::Lines => self.max + character.max(cr),
            Framing::Nul => self.max + character,
            Framing::LengthPrefixed => self.max + 4 + character,
            Framing::Syslog => digits_and_space + (self.max + character.max(end)).max(priority),
            Framing::OctetCounted => self.max + digits_and_space + character,
            other => panic!("a framing that is not known here: {other}"),
        }
    }
}

/// Feeds a stream in reads of the given lengths, the rest in one, keeping what was not consumed, as
/// a reader does, and takes at most `capacity` messages at a time. After each of the first reads,
/// and at the end, what was found must be what the reference finds in all that has come, were that
/// the end.
///
/// # Panics
/// When it is not.
pub fn check_split(
    rules: Rules,
    stream: &[u8],
    capacity: u64,
    reads: impl IntoIterator<Item = usize>,
) {
    let mut decoder = rules.decoder();
    let mut sum = Sum::default();
    let mut pending = Vec::new();
    let mut came = 0_usize;
    for (nth, read) in reads.into_iter().chain([usize::MAX]).enumerate() {
        let now = &stream[came..came.saturating_add(read).min(stream.len())];
        came += now.len();
        pending.extend_from_slice(now);
        loop {
            let mut batch = Limited::new(&mut sum, &pending, capacity);
            let consumed = decoder.decode(&pending, &mut batch);
            assert_eq!(
                batch.at, consumed,
                "the events' lengths are what was consumed"
            );
            assert!(
                batch.taken <= capacity,
                "it was not asked whether there is capacity"
            );
            let is_full = batch.is_full;
            pending.drain(..consumed);
            if !is_full {
                break;
            }
            assert!(consumed > 0, "it does not go on: {rules:?} {stream:?}");
        }
        assert!(
            pending.len() <= rules.max_pending(),
            "{} bytes are kept: {rules:?}",
            pending.len()
        );
        assert!(pending.is_empty() || decoder.is_inside(pending.len()));
        if nth >= COMPARED && came < stream.len() {
            continue;
        }
        for end in ENDS {
            let (mut decoder, mut sum) = (decoder.clone(), sum.clone());
            let mut at = 0;
            decoder.finish(&pending, end, &mut |event| {
                at += sum.take(event, &pending[at..])
            });
            assert_eq!(at, pending.len(), "nothing is left over");
            assert_eq!(sum.bytes(), came, "no byte is unaccounted for");
            let expected = reference::amounts_to(rules, &stream[..came], end);
            assert_eq!(sum, expected, "{rules:?} {end:?} after {came}: {stream:?}");
        }
        if came == stream.len() {
            break;
        }
    }
}

/// Under every policy: in one piece, in reads of these lengths over and over, and a byte at a time.
///
/// # Panics
/// As [`check_split`].
pub fn check(framing: Framing, max: usize, stream: &[u8], reads: &[usize]) {
    for &oversize in Oversize::ALL {
        let rules = Rules {
            framing,
            max,
            oversize,
        };
        for capacity in [u64::MAX, 3, 1] {
            check_split(rules, stream, capacity, []);
            if reads.iter().any(|&read| read > 0) {
                check_split(rules, stream, capacity, reads.iter().copied().cycle());
            }
        }
        if stream.len() <= SHORT {
            check_split(rules, stream, u64::MAX, std::iter::repeat(1));
        }
    }
}

/// What a fuzzer's bytes mean: the longest message, three lengths of reads, and the stream.
///
/// # Panics
/// As [`check_split`].
pub fn check_fuzzed(framing: Framing, data: &[u8]) {
    const MAX_MESSAGES: [usize; 8] = [1, 2, 3, 7, 16, 64, 255, 100_000];
    let Some((&[longest, reads @ ..], stream)) = data.split_first_chunk::<4>() else {
        return;
    };
    let max = MAX_MESSAGES[usize::from(longest) % MAX_MESSAGES.len()];
    check(framing, max, stream, &reads.map(usize::from));
}
