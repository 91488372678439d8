//! What is followed of each connection, and how it is told.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::Path;

use proptest::prelude::*;

use super::super::super::args::{Typed, assert_refused, command, read as read_args};
use super::super::args::{Args, PAGE};
use super::super::report;
use super::super::sequence_check::SequenceCheck;

#[test]
fn the_text_says_what_is_where_and_is_bounded() {
    let mut sequence_check = SequenceCheck::new(None, Some(10), 3);
    for connection in 0..6 {
        for seq in [0, 1, 4, 5, 2, 5, 9] {
            sequence_check.arrived(connection, seq).expect("few");
        }
    }
    sequence_check.finish();
    let text = report::text(&sequence_check, 3);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 5, "{text}");
    assert_eq!(
        lines[2],
        "connection 2: 4 missing (3, 6-8), 1 duplicated, 1 misordered"
    );
    assert_eq!(lines[3], "and 3 more connections");
    assert!(lines[4].starts_with("42 messages of 6 connections: 24 missing, 6 duplicated"));
}

#[test]
fn what_is_no_request_is_one_line() {
    let table = "
        2 => missing file for verify: expected a path, or - for stdin
        2 - --connections 0 => invalid value '0' for --connections: expected 1 to 4000000
        2 - --connections 4000001 => invalid value '4000001' for --connections: expected
        2 - --messages 0 => invalid value '0' for --messages: expected 1 to
        2 - --show 100001 => invalid value '100001' for --show: expected 0 to
        2 - --framing syslog => invalid value 'syslog' for --framing: expected lines
        2 - two => unexpected argument 'two': expected one FILE and flags
    ";
    assert_refused(table, |words| {
        let words: Vec<OsString> = ["verify"].iter().chain(words).map(OsString::from).collect();
        match read_args::<Args>(&words, &PAGE)? {
            Typed::Args(args) => args.file().map(Path::to_owned),
            Typed::Print(text) => panic!("{text}"),
        }
    });
    command::<Args>(&PAGE).debug_assert();
}

proptest! {
    /// Against a list of all that arrived.
    #[test]
    fn gaps_are_what_a_list_says(seqs in proptest::collection::vec(0u64..40, 0..80)) {
        let mut sequence_check = SequenceCheck::new(None, None, 5);
        let (mut known, mut highest) = (HashSet::new(), None);
        let (mut duplicated, mut misordered) = (0, 0);
        for &seq in &seqs {
            sequence_check.arrived(0, seq).expect("few");
            if !known.insert(seq) {
                duplicated += 1;
            } else {
                misordered += u64::from(Some(seq) < highest);
                highest = highest.max(Some(seq));
            }
        }
        sequence_check.finish();
        let missing = highest.map_or(0, |highest| highest + 1 - known.len() as u64);
        let total = sequence_check.total();
        prop_assert_eq!((total.missing, total.duplicated, total.misordered), (missing, duplicated, misordered));
    }

    /// With fewer gaps than there are, nothing is lost from the counts but which of two kinds it
    /// is.
    #[test]
    fn forgotten_gaps_are_still_missing(seqs in proptest::collection::vec(0u64..1000, 1..80)) {
        let mut sequence_check = SequenceCheck::new(None, None, 5);
        sequence_check.keep_gaps(3);
        for &seq in &seqs {
            sequence_check.arrived(0, seq).expect("few");
        }
        sequence_check.finish();
        let known: HashSet<u64> = seqs.iter().copied().collect();
        let least = known.iter().max().map_or(0, |highest| highest + 1 - known.len() as u64);
        let total = sequence_check.total();
        prop_assert!(total.missing >= least);
        prop_assert!(total.is_rough || total.missing == least);
        prop_assert_eq!(total.is_clean(), least == 0 && seqs.len() == known.len() && seqs.is_sorted());
    }
}
