//! However the wire cuts records, and whatever somebody in between does to them: what is read was
//! sent.

use proptest::collection::vec;
use proptest::prelude::*;

use crate::common::corpus;
use crate::records::{Change, How, Stream, check, check_fuzzed};

fn how() -> impl Strategy<Value = How> {
    prop_oneof![
        4 => (any::<usize>(), 1..=u8::MAX).prop_map(|(at, bits)| How::Flip(at, bits)),
        1 => Just(How::Drop),
        1 => Just(How::Twice),
        1 => Just(How::Swap),
        2 => vec(any::<u8>(), 1..100).prop_map(How::Before),
        1 => (0..100usize).prop_map(How::Cut),
    ]
}

fn stream() -> impl Strategy<Value = Stream> {
    let change = (0..12usize, how()).prop_map(|(record, how)| Change { record, how });
    (
        any::<bool>(),
        vec(prop_oneof![1..100usize, 10_000..40_000usize], 0..5),
        any::<bool>(),
        vec(prop_oneof![1..8usize, 100..40_000usize], 1..6),
        prop_oneof![Just(7), Just(5_000), Just(64 << 10)],
        proptest::option::of(change),
    )
        .prop_map(
            |(is_tls12, parts, is_closed, pieces, read, change)| Stream {
                is_tls12,
                parts,
                is_closed,
                pieces,
                read,
                change,
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_read_of_records_was_sent_whatever_happens_on_the_way(stream in stream()) {
        check(&stream);
    }

    #[test]
    fn what_a_fuzzer_makes_up_is_checked(data in vec(any::<u8>(), 6..64)) {
        check_fuzzed(&data);
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_passes() {
    let inputs = corpus::of("tls-records");
    assert!(inputs.is_empty() || inputs.len() > 5);
    for input in inputs {
        check_fuzzed(&input);
    }
}
