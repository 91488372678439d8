//! What is followed of each connection, and how it is told.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::super::args::assert_refused;
use super::super::args::{PAGE, flags};
use super::super::report;
use super::super::sequence_check::SequenceCheck;
use super::typed;
use crate::cli::tests::rows;

#[test]
fn the_text_says_what_is_where_and_is_bounded() {
    let mut check = SequenceCheck::new(None, Some(10), 3);
    for connection in 0..6 {
        for seq in [0, 1, 4, 5, 2, 5, 9] {
            check.arrived(connection, seq).expect("few");
        }
    }
    check.finish();
    let text = report::text(&check, 3);
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
fn every_row_is_read_and_told_and_what_is_no_request_is_one_line() {
    rows::assert_hold(&PAGE, &flags(), typed);
    let table = "
        2 => missing value for FILE: expected a path, or - for stdin
        2 - --connections 4000001 => invalid value '4000001' for --connections: expected a number from 1 to 4000000
        2 - --framing syslog => invalid value 'syslog' for --framing: expected lines
        2 - two => unexpected argument 'two': expected one FILE and flags
    ";
    assert_refused(table, typed);
}

proptest! {
    /// Against a list of all that arrived.
    #[test]
    fn gaps_are_what_a_list_says(seqs in proptest::collection::vec(0u64..40, 0..80)) {
        let mut check = SequenceCheck::new(None, None, 5);
        let (mut known, mut highest) = (HashSet::new(), None);
        let (mut duplicated, mut misordered) = (0, 0);
        for &seq in &seqs {
            check.arrived(0, seq).expect("few");
            if !known.insert(seq) {
                duplicated += 1;
            } else {
                misordered += u64::from(Some(seq) < highest);
                highest = highest.max(Some(seq));
            }
        }
        check.finish();
        let missing = highest.map_or(0, |highest| highest + 1 - known.len() as u64);
        let total = check.total();
        prop_assert_eq!((total.missing, total.duplicated, total.misordered), (missing, duplicated, misordered));
    }

    /// With fewer gaps than there are, nothing is lost from the counts but which of two kinds it
    /// is.
    #[test]
    fn forgotten_gaps_are_still_missing(seqs in proptest::collection::vec(0u64..1000, 1..80)) {
        let mut check = SequenceCheck::new(None, None, 5);
        check.keep_gaps(3);
        for &seq in &seqs {
            check.arrived(0, seq).expect("few");
        }
        check.finish();
        let known: HashSet<u64> = seqs.iter().copied().collect();
        let least = known.iter().max().map_or(0, |highest| highest + 1 - known.len() as u64);
        let total = check.total();
        prop_assert!(total.missing >= least);
        prop_assert!(total.is_rough || total.missing == least);
        prop_assert_eq!(total.is_clean(), least == 0 && seqs.len() == known.len() && seqs.is_sorted());
    }
}
