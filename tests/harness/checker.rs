//! The checker and the reader of reports: each fault that they are there to detect is detected.

use std::panic::catch_unwind;

use crate::common::checker::{Checker, Counters};
use crate::common::exit::{Counted, Exit};
use crate::common::tagged::{MIN_MESSAGE, Tagged, parse};

const SIZE: usize = 120;

fn lines(connection: u32, seqs: impl IntoIterator<Item = u64>) -> Vec<u8> {
    seqs.into_iter()
        .flat_map(|seq| Tagged::new(connection).lines(seq..seq + 1, SIZE))
        .collect()
}

/// What the panic says.
fn refusal(expect: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let panic = catch_unwind(expect).expect_err("a fault passed");
    panic.downcast_ref::<String>().cloned().unwrap_or_default()
}

fn refuses_exact(output: &[u8], sent: &[(u32, u64)]) -> String {
    refusal(|| Checker::read(output).expect_exact(sent))
}

#[test]
fn a_message_names_its_connection_and_number() {
    for (connection, seq, size) in [(0, 0, 0), (17, 42, 64), (99_999, 9_999_999_999, 5000)] {
        let line = Tagged::new(connection).line(seq, size);
        assert!(line.starts_with(format!("c{connection:05} s{seq:010} ").as_bytes()));
        assert!(
            line.len() <= size.max(MIN_MESSAGE) && line.len() + 15 >= size,
            "{} of {size}",
            line.len()
        );
        assert!(line.iter().all(|byte| (b' '..0x7f).contains(byte)));
        assert_eq!(parse(&line), Ok((connection, seq)));
    }
}

#[test]
fn no_part_and_no_join_of_messages_is_a_message() {
    let (one, two) = (Tagged::new(1).line(7, SIZE), Tagged::new(1).line(8, SIZE));
    for cut in 0..one.len() {
        assert!(parse(&one[..cut]).is_err(), "the first {cut} bytes");
        assert!(
            cut == 0 || parse(&one[cut..]).is_err(),
            "all but the first {cut} bytes"
        );
        for rest in 0..two.len() {
            let joined = [&one[..cut], &two[rest..]].concat();
            assert!(
                parse(&joined).is_err() || joined == two,
                "{cut} bytes, then from {rest}"
            );
        }
    }
    for at in 0..one.len() {
        let mut changed = one.clone();
        changed[at] ^= 1;
        assert_ne!(parse(&changed), Ok((1, 7)), "byte {at} changed");
    }
}

#[test]
fn everything_in_order_is_exact_and_a_prefix() {
    let mut output = Vec::new();
    for seq in 0..50 {
        output.extend(lines(3, [seq]));
        output.extend(lines(4, [seq]));
    }
    let checker = Checker::read(&output);
    checker.expect_exact(&[(3, 50), (4, 50), (5, 0)]);
    checker.expect_prefix(&[(3, 50), (4, 60), (5, 9)]);
    checker.expect_ordered(&[(3, 50), (4, 60)]);
    assert_eq!(
        (checker.total(), checker.seen(3), checker.torn()),
        (100, 50, 0)
    );
    Checker::read(b"").expect_exact(&[]);
}

#[test]
fn a_missing_message_is_detected() {
    let output = lines(3, [0, 1, 3]);
    let checker = Checker::read(&output);
    let counters = Counters {
        seen: 3,
        missing: 1,
        first_missing: Some(2),
        ..Counters::default()
    };
    assert_eq!(checker.counters(3, 4), counters);
    assert!(refuses_exact(&output, &[(3, 4)]).contains("first_missing: Some(2)"));
    refusal(|| Checker::read(&output).expect_prefix(&[(3, 4)]));
    checker.expect_ordered(&[(3, 4)]);
    // At the end it is a prefix; at the start it is none.
    Checker::read(&lines(3, [0, 1])).expect_prefix(&[(3, 4)]);
    refuses_exact(&lines(3, [0, 1]), &[(3, 4)]);
    refusal(|| Checker::read(&lines(3, [1, 2])).expect_prefix(&[(3, 3)]));
}

#[test]
fn a_duplicated_message_is_detected() {
    let output = lines(3, [0, 1, 1, 2]);
    assert_eq!(
        Checker::read(&output).counters(3, 3),
        Counters {
            seen: 4,
            duplicated: 1,
            ..Counters::default()
        }
    );
    refuses_exact(&output, &[(3, 3)]);
    refusal(|| Checker::read(&output).expect_prefix(&[(3, 3)]));
    refusal(|| Checker::read(&output).expect_ordered(&[(3, 3)]));
}

#[test]
fn swapped_messages_are_detected() {
    let output = lines(3, [0, 2, 1, 3]);
    assert_eq!(
        Checker::read(&output).counters(3, 4),
        Counters {
            seen: 4,
            misordered: 1,
            ..Counters::default()
        }
    );
    refuses_exact(&output, &[(3, 4)]);
    refusal(|| Checker::read(&output).expect_prefix(&[(3, 4)]));
    refusal(|| Checker::read(&output).expect_ordered(&[(3, 4)]));
}

#[test]
fn a_torn_message_is_detected() {
    let whole = lines(3, [0, 1, 2]);
    let middle = lines(3, [0]).len() + 40;
    let split = [&whole[..middle], b"\n", &whole[middle..]].concat();
    let cut = [&whole[..middle], &whole[middle + 1..]].concat();
    let merged = [&whole[..middle], &lines(4, [0])[40..]].concat();
    for output in [&split[..], &cut, &merged, &whole[..whole.len() - 1]] {
        assert!(Checker::read(output).torn() > 0);
        refuses_exact(output, &[(3, 3), (4, 1)]);
        refusal(|| Checker::read(output).expect_prefix(&[(3, 3), (4, 1)]));
        refusal(|| Checker::read(output).expect_ordered(&[(3, 3), (4, 1)]));
    }
    assert!(refuses_exact(b"hello\n", &[]).contains("too short, 5 bytes: hello"));
}

#[test]
fn what_nobody_sent_is_detected() {
    assert!(refuses_exact(&lines(4, [0]), &[(3, 0)]).contains("connection 4 sent nothing"));
    assert_eq!(
        Checker::read(&lines(3, [0, 1])).counters(3, 1),
        Counters {
            seen: 2,
            beyond: 1,
            ..Counters::default()
        }
    );
    refusal(|| Checker::read(&lines(3, [0, 1])).expect_prefix(&[(3, 1)]));
}

const REPORT: &str = r#"{"received":10,"delivered":7,"dropped":{"connection_closed":2,"full":1},"in_flight":0,"bytes_read":100,
    "message_bytes":90,"framing_bytes":8,"discarded":{"reset":2},"pending":0,"unread_bytes":0,
    "connections":{"accepted":3,"rejected":{},"open":0,"ended":{"eof":3}},"balanced":true,"uptime_seconds":1.5,
    "listeners":[{"received":10,"delivered":7,"dropped":{"connection_closed":2,"full":1},"in_flight":0,"bytes_read":100,
    "message_bytes":90,"framing_bytes":8,"discarded":{"reset":2},"pending":0,"unread_bytes":0,
    "connections":{"accepted":3,"rejected":{},"open":0,"ended":{"eof":3}},"balanced":true}],"outputs":[]}"#;

fn exit(report: &str) -> Exit {
    Exit::new(
        Some(3),
        None,
        format!("listening\n{}\n", report.replace('\n', "")),
    )
}

#[test]
fn a_report_is_read_by_path() {
    let exit = exit(REPORT);
    exit.assert_code(3);
    exit.assert_balanced();
    exit.assert_nothing_left();
    assert_eq!(
        (
            exit.u64("received"),
            exit.u64("dropped.connection_closed"),
            exit.u64("connections.ended.eof")
        ),
        (10, 2, 3)
    );
    assert_eq!(
        (
            exit.u64("dropped.shutdown"),
            exit.sum("dropped"),
            exit.f64("uptime_seconds")
        ),
        (0, 3, 1.5)
    );
}

#[test]
fn a_figure_that_is_not_there_is_no_zero() {
    for path in [
        "no_such",
        "dropped.misspelt",
        "discarded.misspelt",
        "connections.ended.paused",
        "balanced",
        "no.such",
    ] {
        assert!(refusal(|| _ = exit(REPORT).u64(path)).contains(path));
    }
    refusal(|| _ = exit("no JSON").u64("received"));
}

#[test]
fn an_unbalanced_report_is_detected() {
    for (from, to) in [
        ("\"full\":1", "\"full\":0"),
        ("\"reset\":2", "\"reset\":3"),
        ("\"open\":0", "\"open\":1"),
        ("true", "false"),
    ] {
        refusal(|| exit(&REPORT.replace(from, to)).assert_balanced());
        // Only in the listener's row, which comes last.
        let (all, row) = REPORT.split_at(REPORT.find("listeners").unwrap());
        refusal(|| exit(&format!("{all}{}", row.replace(from, to))).assert_balanced());
    }
}

#[test]
fn a_ledger_that_is_not_what_clients_and_sink_say_is_detected() {
    let sent = |messages, bytes| Counted { messages, bytes };
    let sink = |lines| b"x\n".repeat(lines);
    exit(REPORT).assert_whole(&sent(10, 100), &sink(7));
    exit(REPORT).assert_at_most(&sent(11, 120), &sink(7));
    for (messages, bytes, lines) in [(11, 100, 7), (10, 101, 7), (10, 100, 6)] {
        refusal(|| exit(REPORT).assert_whole(&sent(messages, bytes), &sink(lines)));
    }
    for (messages, bytes, lines) in [(9, 100, 7), (10, 99, 7), (10, 100, 8)] {
        refusal(|| exit(REPORT).assert_at_most(&sent(messages, bytes), &sink(lines)));
    }
    let unread = REPORT.replace("\"unread_bytes\":0", "\"unread_bytes\":1");
    refusal(|| exit(&unread).assert_whole(&sent(10, 100), &sink(7)));
    refusal(|| exit(&unread).assert_at_most(&sent(10, 100), &sink(7)));
}
