//! Streams on which other receivers and senders went wrong, by their public bug reports.

use drainline::ingest::{Framing, Oversize};

use crate::split::{decode, rules};
use crate::streams::check_split;

/// The messages of `stream` where longer ones than `max` bytes are truncated, however it is split.
#[track_caller]
fn gives(framing: Framing, max: usize, stream: &[u8], expected: &[&[u8]]) {
    let rules = rules(framing, max, Oversize::Truncate);
    assert_eq!(decode(rules, stream).messages(), expected);
    for first in 0..stream.len() {
        check_split(rules, stream, 1, [first]);
    }
}

/// rsyslog/rsyslog#5179, #3580: the byte after the longest message began the next message.
#[test]
fn no_byte_of_a_truncated_message_begins_the_next_one() {
    let stream = b"<13>too long\n<13>short\n";
    let expected: [&[u8]; 2] = [b"<13>too lo", b"<13>short"];
    gives(Framing::Syslog, 10, stream, &expected);
    gives(Framing::Lines, 10, stream, &expected);
}

/// rsyslog/rsyslog#5078: a counted message that was too long became a message for each of its
/// bytes. #4281: where a LF was the last byte that was kept, the next messages were skipped.
#[test]
fn a_counted_message_that_is_too_long_is_one_message() {
    let stream = b"14 <13>aaaa\nbbbbb5 <13>c6 <13>d\n";
    let expected: [&[u8]; 3] = [b"<13>aaaa", b"<13>c", b"<13>d"];
    gives(Framing::Syslog, 8, stream, &expected);
    let expected: [&[u8]; 3] = [b"<13>aaaa\n", b"<13>c", b"<13>d"];
    gives(Framing::Syslog, 9, stream, &expected);
}

/// vectordotdev/vector#4895: read for ever. #4852: a line that begins with a digit lost its end.
#[test]
fn a_number_that_counts_no_priority_is_the_beginning_of_a_line() {
    let stream = b"1 <23>4\n1 <23>4\n5 apples and a pear\n";
    let expected: [&[u8]; 3] = [b"1 <23>4", b"1 <23>4", b"5 apples and a pear"];
    gives(Framing::Syslog, 64, stream, &expected);
}

/// vectordotdev/vector#20462: messages that are not UTF-8 were dropped.
#[test]
fn latin_1_is_delivered_as_it_is() {
    let stream = b"<13>caf\xe9 \xff\xfe\n8 <13>\xe9\xe9\xe9\xe9";
    let expected: [&[u8]; 2] = [b"<13>caf\xe9 \xff\xfe", b"<13>\xe9\xe9\xe9\xe9"];
    gives(Framing::Syslog, 64, stream, &expected);
}

/// fluent/fluentd#2298: where a read ended inside a message, its rest was taken for a count.
#[test]
fn a_counted_message_goes_on_in_the_next_read() {
    let message = b"<190>1 2019-02-17T18:05:00.023362+00:00 h a - - - x";
    let stream = [b"51 ", &message[..]].concat().repeat(3);
    gives(Framing::Syslog, 64, &stream, &[&message[..]; 3]);
}

/// elastic/logstash#16483: the end of a message that was too long, and those that came with it in
/// one read, became one message.
#[test]
fn what_comes_with_the_end_of_a_message_that_is_too_long_is_apart() {
    let stream = b"{\"a\":\"aaaaaaaaaaaaaaaa\"}\n{\"b\":\"b\"}\n{\"c\":\"c\"}\n";
    let expected: [&[u8]; 3] = [b"{\"a\":\"aaaa", b"{\"b\":\"b\"}", b"{\"c\":\"c\"}"];
    gives(Framing::Lines, 10, stream, &expected);
}

/// Aiven-Open/journalpump#193: a sender that truncated long messages, but counted all of them. One
/// such message takes the beginning of what follows, and a line stands where a count should be; the
/// next message is whole.
#[test]
fn after_a_wrong_count_the_next_line_begins_anew() {
    let stream = b"14 <13>aaaa\n5 <13>b\n5 <13>c";
    let expected: [&[u8]; 3] = [b"<13>aaaa\n5 <13", b">b", b"<13>c"];
    gives(Framing::Syslog, 64, stream, &expected);
}
