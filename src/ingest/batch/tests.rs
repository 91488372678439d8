//! However a batch is written in parts, each of its messages is counted once, in the part that
//! holds its last byte.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A batch of these messages, and where each ends in its bytes. With `is_indexed` they may hold
/// what ends one.
fn batch(messages: &[Vec<u8>], framing: OutputFraming, is_indexed: bool) -> (Batch, Vec<usize>) {
    let (mut bytes, mut ends) = (Buffer::default(), Vec::new());
    for message in messages {
        bytes.append_framed(message, framing);
        ends.push(bytes.len());
    }
    let index = ends.iter().map(|&end| (end - 1) as u32);
    let index = if is_indexed {
        index.collect()
    } else {
        Vec::new()
    };
    let batch = Batch::new(bytes, messages.len() as u64, framing, index);
    (batch, ends)
}

const FORMS: [(OutputFraming, bool); 6] = [
    (OutputFraming::Lines, false),
    (OutputFraming::Lines, true),
    (OutputFraming::Nul, false),
    (OutputFraming::Nul, true),
    (OutputFraming::OctetCounted, false),
    (OutputFraming::LengthPrefixed, false),
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_message_is_counted_in_the_part_that_ends_it(
        messages in vec(vec(prop::sample::select(b"\n\0 01x".to_vec()), 0..12), 1..12),
        parts in vec(1usize..9, 0..40),
    ) {
        for (framing, is_indexed) in FORMS {
            let is_its_own = |byte: &u8| is_indexed || Some(*byte) != framing.delimiter();
            let messages: Vec<Vec<u8>> = messages
                .iter()
                .map(|message| message.iter().copied().filter(is_its_own).collect())
                .collect();
            let (batch, ends) = batch(&messages, framing, is_indexed);
            prop_assert!(batch.iter().eq(messages.iter().map(|message| &message[..])));
            let len = batch.as_bytes().len();
            let mut from = 0;
            for part in parts.iter().copied().chain([len]) {
                let to = (from + part).min(len);
                let expected = ends.iter().filter(|&&end| from < end && end <= to).count();
                prop_assert_eq!(batch.count_in(from..to), expected as u64, "{:?} {}..{}", framing, from, to);
                from = to;
            }
        }
    }
}

#[test]
fn a_message_that_is_written_in_part_begins_where_the_one_before_it_ends() {
    for (framing, starts) in [
        (OutputFraming::Lines, [0, 0, 4, 4, 5]),
        (OutputFraming::OctetCounted, [0, 0, 0, 0, 5]),
        (OutputFraming::LengthPrefixed, [0, 0, 0, 0, 0]),
    ] {
        let messages = [b"a\nb".to_vec(), Vec::new(), b"ccc".to_vec()];
        let (batch, _) = batch(&messages, framing, framing.delimiter().is_some());
        let seen: Vec<_> = [0, 3, 4, 4, 5]
            .map(|offset| batch.message_start(offset))
            .to_vec();
        assert_eq!(seen, starts, "{framing}");
        let len = batch.as_bytes().len();
        assert_eq!(batch.message_start(len), len, "{framing}");
        assert_eq!(batch.count_in(0..len), 3, "{framing}");
    }
}
