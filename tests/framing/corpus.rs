//! What a fuzzer asks, without one: each framing's corpus, and what is nearly in it, comes to the
//! same however it is split.

use drainline::ingest::Framing;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::common::corpus;
use crate::streams::{check, check_fuzzed};

#[test]
fn the_corpus_of_each_framing_passes() {
    for &framing in Framing::ALL {
        for input in corpus::of(framing.name()) {
            check_fuzzed(framing, &input);
        }
    }
}

#[test]
fn what_is_nearly_in_the_corpus_passes() {
    for &framing in Framing::ALL {
        let inputs = corpus::of(framing.name());
        if inputs.is_empty() {
            return;
        }
        let changes = vec((any::<prop::sample::Index>(), any::<u8>()), 0..4);
        let parts = [(); 2].map(|()| {
            (
                prop::sample::select(inputs.clone()),
                any::<prop::sample::Index>(),
            )
        });
        let mut config = ProptestConfig::with_cases(200);
        config.failure_persistence = None;
        let outcome = TestRunner::new(config).run(&(parts, changes), |([head, tail], changes)| {
            // The beginning of one, the end of another, and some bytes of neither.
            let (head, tail) = ((&head.0, head.1), (&tail.0, tail.1));
            let mut input = [
                &head.0[..head.1.index(head.0.len())],
                &tail.0[tail.1.index(tail.0.len())..],
            ]
            .concat();
            for (at, byte) in changes {
                let at = at.index(input.len());
                input[at] = byte;
            }
            check_fuzzed(framing, &input);
            Ok(())
        });
        if let Err(failure) = outcome {
            panic!("{framing}: {failure}");
        }
    }
}

/// All that may stand between two messages or before the first, in every order, around messages
/// that fit and some that do not.
#[test]
fn every_row_of_marks_and_messages_passes_however_it_is_split() {
    const PIECES: [&str; 9] = [
        "\u{feff}",
        "\r",
        "\n",
        "\0",
        "1 a",
        "5 <1>b",
        "0 ",
        "c",
        "9999999 <1>",
    ];
    const MAX_PIECES: u32 = 4;
    for &framing in Framing::ALL {
        for nth in 0..PIECES.len().pow(MAX_PIECES) {
            let at = |n| nth / PIECES.len().pow(n) % PIECES.len();
            let row: String = (0..MAX_PIECES).map(|n| PIECES[at(n)]).collect();
            for max in [1, 64] {
                check(framing, max, row.as_bytes(), &[]);
            }
        }
    }
}
