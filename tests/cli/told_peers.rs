//! What a peer is disconnected for, or what costs a message, is told once for many, with the limit
//! and with what was seen, in every framing.

use std::io::Write;

use crate::common::child::Drainline;
use crate::common::client::{self, Closed};
use crate::common::exit::Exit;
use crate::common::told::{assert_one_named, names, the_line};
use serde_json::Value;

/// How many do the same.
const MANY: usize = 5;

#[test]
fn peers_that_send_invalid_frames_are_named_and_once_for_many() {
    let mut child = Drainline::start(&["--framing", "octet-counted"]);
    let mut clients = client::connect_many(child.addr(), MANY);
    let peers = names(&clients);
    for client in &mut clients {
        client.write_all(b"no count\n").unwrap();
        client::wait_for_close(client);
    }
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.protocol_error"), MANY as u64);
    assert_eq!(exit.u64("discarded.invalid_frame"), MANY as u64 * 9);
    let says = r#"is closed after 9 bytes: invalid frame: no count where a message begins, but "no count\n", which holds LF (framing lines?)"#;
    assert_one_named(&exit, &peers, says, "protocol_error");
}

#[test]
fn peers_that_send_counts_beyond_belief_are_named_with_both() {
    let cases: [(_, &[u8], _, _); 3] = [
        ("octet-counted", b"99999999 ", "99999999", r#""99999999 ""#),
        (
            "syslog",
            b"1048577 <13>abc\n<13>d\n",
            "1048577",
            r#""1048577 <13>abc\n<13>d\n""#,
        ),
        (
            "length-prefixed",
            b"\x00\x10\x00\x01abc",
            "1048577",
            r#""\x00\x10\x00\x01abc""#,
        ),
    ];
    for (framing, sends, count, seen) in cases {
        let says = format!(
            "is closed after {} bytes: invalid frame: a count of {count} bytes; the maximum is 1048576; it begins {seen}",
            sends.len()
        );
        says_what_a_peer_broke(&["--framing", framing], sends, &says);
    }
}

#[test]
fn the_largest_count_is_taken_in_syslog() {
    let mut child = Drainline::start(&["--framing", "syslog", "--oversize", "drop"]);
    let mut client = client::connect(child.addr());
    client.write_all(b"1048576 <13>abc\n<13>d\n").unwrap();
    client::half_close(client);
    let exit = child.terminate();
    exit.assert_code(3);
    exit.assert_closes();
    assert_eq!(exit.u64("dropped.oversize"), 1);
    assert_eq!(exit.u64("connections.ended.eof"), 1);
}

/// A message of five bytes in each framing.
const FIVE: &[(&str, &[u8])] = &[
    ("lines", b"12345\n"),
    ("nul", b"12345\0"),
    ("octet-counted", b"5 12345"),
    ("syslog", b"12345\n"),
    ("length-prefixed", b"\0\0\0\x0512345"),
];

#[test]
fn peers_that_send_too_long_a_message_are_named_with_the_limit() {
    let says = "oversize: a message of 5 bytes or more, and max_message is 4";
    for (framing, sends) in FIVE {
        let close = [
            "--framing",
            framing,
            "--max-message",
            "4",
            "--oversize",
            "close",
        ];
        let says = format!("is closed after {} bytes: {says}", sends.len());
        says_what_a_peer_broke(&close, sends, &says);
    }
}

#[test]
fn a_message_that_is_truncated_or_dropped_is_told_with_peer_and_limit() {
    for (framing, sends) in FIVE {
        for (policy, became) in [("truncate", "truncated"), ("drop", "dropped")] {
            let flags = [
                "--framing",
                framing,
                "--max-message",
                "4",
                "--oversize",
                policy,
            ];
            let mut child = Drainline::start(&flags);
            let mut client = child.connect();
            let peers = [client.local_addr().unwrap().to_string()];
            client.write_all(sends).unwrap();
            client.write_all(sends).unwrap();
            assert_eq!(client::half_close(client), Closed::Clean);
            let exit = child.terminate();
            exit.assert_code(3);
            let says = format!("sent a message of more than 4 bytes (max_message): it is {became}");
            assert_one_named(&exit, &peers, &says, "oversize");
        }
    }
}

/// Has a peer send this, and waits until its connection is closed. Returns how the server ended
/// then, and the peer's name.
#[track_caller]
fn send_until_closed(flags: &[&str], sends: &[u8]) -> (Exit, [String; 1]) {
    let mut child = Drainline::start(flags);
    let mut client = child.connect();
    let peer = client.local_addr().unwrap().to_string();
    client.write_all(sends).unwrap();
    client::wait_for_close(&mut client);
    let exit = child.terminate();
    exit.assert_closes();
    (exit, [peer])
}

#[track_caller]
fn says_what_a_peer_broke(flags: &[&str], sends: &[u8], says: &str) {
    let (exit, peers) = send_until_closed(flags, sends);
    assert_eq!(exit.u64("connections.ended.protocol_error"), 1);
    assert_one_named(&exit, &peers, says, "protocol_error");
}

#[test]
fn peers_inside_a_frame_for_too_long_are_named_with_the_limit_and_once_for_many() {
    let mut child = Drainline::start(&["--frame-timeout", "300ms"]);
    let mut clients = client::connect_many(child.addr(), MANY);
    let peers = names(&clients);
    for client in &mut clients {
        client.write_all(b"half").unwrap();
    }
    for client in &mut clients {
        client::wait_for_close(client);
    }
    let exit = child.terminate();
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.frame_timeout"), MANY as u64);
    let says = r#"timed out: frame_timeout of 300ms passed after 4 bytes: no LF in 4 bytes; it begins "half""#;
    assert_one_named(&exit, &peers, says, "frame timeout");
}

#[test]
fn what_a_peer_speaks_instead_is_told_and_nothing_that_it_did_not_send() {
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03";
    let cases: [(&str, &[u8], &str); 5] = [
        ("octet-counted", b"x", "but \"x\""),
        (
            "octet-counted",
            hello,
            r#", but "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", which looks like a TLS handshake"#,
        ),
        (
            "length-prefixed",
            hello,
            r#"it begins "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", which looks like a TLS handshake"#,
        ),
        (
            "octet-counted",
            b"GET / HTTP/1.1\r\n\r\n",
            "looks like an HTTP request",
        ),
        (
            "octet-counted",
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
            r#", but "PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n", which looks like a PROXY protocol header"#,
        ),
    ];
    for (framing, sends, says) in cases {
        says_what_a_peer_broke(&["--framing", framing], sends, says);
    }
    // It holds what ends messages: what is left when it is truncated does not begin with it.
    let cut_later: [(&str, &[u8], &str); 4] = [
        (
            "lines",
            b"\x16\x03\x01\0\x08\x01\n\x03\x03abc",
            "looks like a TLS handshake",
        ),
        (
            "nul",
            b"\x16\x03\x01\0\x08\x01\n\x03\x03abc",
            "looks like a TLS handshake",
        ),
        (
            "lines",
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11",
            "looks like a PROXY protocol header",
        ),
        (
            "syslog",
            b"GET / HTTP/1.1\r\nHost: a",
            "looks like an HTTP request",
        ),
    ];
    for (framing, sends, says) in cut_later {
        let flags = ["--framing", framing, "--frame-timeout", "300ms"];
        let (exit, peers) = send_until_closed(&flags, sends);
        let says = format!("; what came first {says}");
        assert_one_named(&exit, &peers, &says, "frame timeout");
    }
    // A message that goes on and on.
    let mut child = Drainline::start(&["--max-message", "8"]);
    let mut client = child.connect();
    client.write_all(b"one\0two\0three\0").unwrap();
    client::half_close(client);
    let exit = child.terminate();
    let says =
        r#"it is truncated; it begins "one\x00two\x00three\x00", which holds NUL (framing nul?)"#;
    the_line(&exit, says);
}

#[test]
fn who_came_to_the_wrong_listener_is_told_even_where_the_framing_finds_no_fault() {
    let cases: [(&[u8], &str, &str); 3] = [
        (
            b"\x16\x03\x01\x02\0\x01\n\0",
            "which looks like a TLS handshake (tls://?), and",
            "TLS",
        ),
        (
            b"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\r\n\0",
            "which looks like a PROXY protocol header (proxy_from?), and",
            "PROXY",
        ),
        (
            b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
            "which looks like a PROXY protocol header (proxy_from?), and",
            "PROXY",
        ),
    ];
    for framing in ["lines", "nul", "octet-counted", "syslog", "length-prefixed"] {
        for (sends, says, reason) in cases {
            let mut child = Drainline::start(&["--framing", framing]);
            let mut clients = client::connect_many(child.addr(), MANY);
            let peers = names(&clients);
            for client in &mut clients {
                client.write_all(sends).unwrap();
            }
            for client in clients {
                client::half_close(client);
            }
            let exit = child.terminate();
            exit.assert_closes();
            // It is no more than a word: what is delivered is as it was.
            assert!(
                exit.u64("received") > 0 || !["lines", "nul"].contains(&framing),
                "{exit}"
            );
            let reason = format!("{reason} where messages are expected");
            assert_one_named(&exit, &peers, says, &reason);
        }
    }
}

#[test]
fn lines_that_begin_like_a_request_are_lines() {
    let mut child = Drainline::start(&["--framing", "lines"]);
    let mut client = child.connect();
    client.write_all(b"GET /index.html 200\n").unwrap();
    client::half_close(client);
    let exit = child.terminate();
    assert_eq!(exit.u64("delivered"), 1);
    assert!(!exit.stderr.contains("HTTP"), "{exit}");
}

/// The beginning of a message in each framing, and what is said of it.
const BEGINNINGS: &[(&str, &[u8], &str)] = &[
    ("lines", b"h", r#"1 byte: no LF in 1 byte; it begins "h""#),
    (
        "lines",
        b"12 <13>abc",
        r#"10 bytes: no LF in 10 bytes; it begins "12 <13>abc", which looks like a counted message (framing syslog?)"#,
    ),
    (
        "lines",
        b"a\0b\0",
        r#"4 bytes: no LF in 4 bytes; it begins "a\x00b\x00", which holds NUL (framing nul?)"#,
    ),
    (
        "lines",
        b"\x16\x03\x01\x02",
        r#"4 bytes: no LF in 4 bytes; it begins "\x16\x03\x01\x02", which looks like a TLS handshake (tls://?)"#,
    ),
    (
        "nul",
        b"hello\n",
        r#"6 bytes: no NUL in 6 bytes; it begins "hello\n", which holds LF (framing lines?)"#,
    ),
    (
        "octet-counted",
        b"12",
        r#"2 bytes: no whole count in 2 bytes: "12""#,
    ),
    (
        "octet-counted",
        b"20 a\nb",
        r#"6 bytes: 3 of its 20 bytes were there; it begins "20 a\nb""#,
    ),
    (
        "syslog",
        b"20 <13>abc",
        r#"10 bytes: 7 of its 20 bytes were there; it begins "20 <13>abc""#,
    ),
    (
        "syslog",
        b"20",
        r#"2 bytes: no LF in 2 bytes; it begins "20""#,
    ),
    (
        "syslog",
        b"<13>abc",
        r#"7 bytes: no LF in 7 bytes; it begins "<13>abc""#,
    ),
    (
        "length-prefixed",
        b"\0\0",
        r#"2 bytes: no whole count in 2 bytes: "\x00\x00""#,
    ),
    (
        "length-prefixed",
        b"\0\0\0\x09ab",
        r#"6 bytes: 2 of its 9 bytes were there; it begins "\x00\x00\x00\tab""#,
    ),
];

#[test]
fn what_there_is_of_a_message_is_told_when_a_deadline_passes_inside_it() {
    for (flag, reason) in [
        ("--frame-timeout", "frame_timeout"),
        ("--idle-timeout", "idle_timeout"),
    ] {
        for (framing, sends, says) in BEGINNINGS {
            let flags = ["--framing", framing, flag, "200ms"];
            let (exit, peers) = send_until_closed(&flags, sends);
            exit.assert_code(0);
            assert_eq!(exit.u64("discarded.deadline_passed"), sends.len() as u64);
            let says = format!("timed out: {reason} of 200ms passed after {says}");
            assert_one_named(&exit, &peers, &says, reason);
            assert!(the_line(&exit, &says).ends_with(&says), "{exit}");
        }
    }
}

#[test]
fn a_deadline_that_passes_outside_of_a_message_or_in_the_rest_of_a_long_one_is_told_as_such() {
    let cases: [(&[&str], &[u8], &str); 3] = [
        (
            &["--idle-timeout", "200ms"],
            b"one\n",
            "idle_timeout of 200ms passed after 4 bytes",
        ),
        (
            &["--first-byte-timeout", "200ms"],
            b"",
            "first_byte_timeout of 200ms passed without a byte",
        ),
        (
            &["--frame-timeout", "200ms", "--max-message", "4"],
            b"123456",
            "frame_timeout of 200ms passed after 6 bytes: the rest of a message longer than max_message did not come",
        ),
    ];
    for (flags, sends, says) in cases {
        let (exit, _) = send_until_closed(flags, sends);
        let says = format!(" timed out: {says}");
        assert!(the_line(&exit, " timed out: ").ends_with(&says), "{exit}");
    }
}

#[test]
fn a_counted_message_that_the_end_of_stream_cuts_short_is_told_once_for_many() {
    for (framing, sends, of) in [
        (
            "octet-counted",
            &b"20 <13>abc"[..],
            r#"7 of its 20 bytes were there; it begins "20 <13>abc""#,
        ),
        ("syslog", b"20 <13>abc", "7 of its 20 bytes were there"),
        (
            "length-prefixed",
            b"\0\0\0\x20ab",
            "2 of its 32 bytes were there",
        ),
        ("octet-counted", b"20", "no whole count in 2 bytes: \"20\""),
    ] {
        let mut child = Drainline::start(&["--framing", framing]);
        let mut peers = Vec::new();
        for _ in 0..3 {
            let mut client = child.connect();
            peers.push(client.local_addr().unwrap().to_string());
            client.write_all(sends).unwrap();
            client::half_close(client);
        }
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert_eq!(exit.u64("discarded.incomplete"), 3 * sends.len() as u64);
        let says = format!("ended inside a counted message, which is discarded: {of}");
        assert_one_named(&exit, &peers, &says, "incomplete");
    }
}

/// As at the end of stream, and discarded for the reset. What came before it is delivered.
#[test]
fn a_counted_message_that_a_reset_cuts_short_is_told_once_for_many() {
    let cases: [(&str, &[u8], &[u8], &str); 4] = [
        (
            "octet-counted",
            b"3 one",
            b"20 <13>abc",
            "7 of its 20 bytes were there",
        ),
        (
            "octet-counted",
            b"3 one",
            b"20",
            "no whole count in 2 bytes",
        ),
        (
            "syslog",
            b"<13>one\n",
            b"20 <13>abc",
            "7 of its 20 bytes were there",
        ),
        (
            "length-prefixed",
            b"\0\0\0\x03one",
            b"\0\0\0\x20ab",
            "2 of its 32 bytes were there",
        ),
    ];
    for (framing, whole, half, says) in cases {
        let mut child = Drainline::start(&["--framing", framing]);
        let mut clients = client::connect_many(child.addr(), MANY);
        let peers = names(&clients);
        for client in &mut clients {
            client.write_all(&[whole, half].concat()).unwrap();
        }
        let each = (whole.len() + half.len()) as u64;
        child.wait_for_status("all was read", |status| {
            let connections = status["connections"].as_array().unwrap();
            let all_read = |connection: &Value| connection["bytes"] == each;
            connections.len() == MANY && connections.iter().all(all_read)
        });
        clients.into_iter().for_each(client::reset);
        child.wait_until_all_ended();
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        let all = MANY as u64;
        assert_eq!((exit.u64("delivered"), exit.u64("unread_bytes")), (all, 0));
        assert_eq!(exit.u64("discarded.reset"), all * half.len() as u64);
        assert_eq!(exit.u64("connections.ended.reset"), all);
        let says = format!("ended inside a counted message, which is discarded: {says}");
        assert_one_named(&exit, &peers, &says, "incomplete");
    }
}

#[test]
fn what_a_message_was_taken_for_is_told_in_every_framing() {
    let cases: [(&str, &[u8], &str); 6] = [
        (
            "octet-counted",
            b"hello\0",
            r#"but "hello\x00", which holds NUL (framing nul?)"#,
        ),
        (
            "octet-counted",
            b"<13>a\0",
            r#"but "<13>a\x00", which holds NUL (framing nul?)"#,
        ),
        (
            "octet-counted",
            b"<13>a\n",
            "looks like a line of syslog (framing syslog?)",
        ),
        (
            "length-prefixed",
            b"hello\0",
            r#"it begins "hello\x00", which holds NUL (framing nul?)"#,
        ),
        (
            "length-prefixed",
            b"\x05\0\0\0hello",
            "looks like a little-endian length",
        ),
        (
            "length-prefixed",
            b"12 <13>a",
            "looks like a counted message (framing syslog?)",
        ),
    ];
    for (framing, sends, says) in cases {
        says_what_a_peer_broke(&["--framing", framing], sends, says);
    }
}
