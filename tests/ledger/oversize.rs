//! A message that is longer than it may be costs what the policy says, around the limit to the
//! byte, in the middle of a stream and at its end, however its bytes arrive; and the ledger closes.

use std::io::Write;
use std::net::TcpStream;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::exit::{Counted, Exit};

const MAX: usize = 64;

/// Contents of a line around the limit: without its LF, with a CR at its end or not.
fn contents() -> Vec<Vec<u8>> {
    let line = |len: usize, end: &[u8]| {
        let mut line: Vec<u8> = (0..len).map(|at| b'a' + (at % 26) as u8).collect();
        line.extend_from_slice(end);
        line
    };
    let mut contents = Vec::new();
    for len in [MAX - 1, MAX, MAX + 1, MAX + 2, 10 * MAX] {
        contents.extend([line(len, b""), line(len, b"\r")]);
    }
    contents
}

/// What a stream of one connection comes to.
#[derive(Default)]
struct Expected {
    sink: Vec<u8>,
    counted: Counted,
    oversized: u64,
    discarded: u64,
    partial: u64,
}

impl Expected {
    /// A line, or an unterminated last one, in which a CR is a byte like any other.
    fn line(&mut self, content: &[u8], is_terminated: bool, truncates: bool) {
        self.counted
            .add(1, content.len() + usize::from(is_terminated));
        let message = match content.strip_suffix(b"\r") {
            Some(message) if is_terminated => message,
            _ => content,
        };
        let kept = if message.len() <= MAX {
            message
        } else {
            self.oversized += 1;
            let kept = if truncates { &message[..MAX] } else { &[] };
            self.discarded += (content.len() - kept.len()) as u64;
            if !truncates {
                return;
            }
            kept
        };
        self.partial += u64::from(!is_terminated);
        self.sink.extend_from_slice(kept);
        self.sink.push(b'\n');
    }
}

/// Sends lines at once, or each line's delimiter only when the line before it has been read.
fn send(server: &mut Drainline, stream: &mut TcpStream, bytes: &[u8], apart: bool) {
    if !apart {
        return stream.write_all(bytes).unwrap();
    }
    let mut sent = 0;
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        let content = line.strip_suffix(b"\n").unwrap_or(line);
        stream.write_all(content).unwrap();
        server.wait_until_read(stream, sent + content.len());
        stream.write_all(&line[content.len()..]).unwrap();
        sent += line.len();
    }
}

/// Every content in the middle of a stream, then every content at the end of a stream of its own;
/// one connection after the other, so that the sink's order is known.
fn run(policy: &str) -> (Expected, Exit) {
    let mut server = Drainline::start(&["--max-message", "64B", "--oversize", policy]);
    let mut expected = Expected::default();
    let truncates = policy == "truncate";
    for apart in [false, true] {
        let mut bytes = b"first\n".to_vec();
        expected.line(b"first", true, truncates);
        for content in contents() {
            for line in [&content[..], b"between"] {
                bytes.extend_from_slice(line);
                bytes.push(b'\n');
                expected.line(line, true, truncates);
            }
        }
        let mut stream = server.connect();
        send(&mut server, &mut stream, &bytes, apart);
        client::half_close(stream);
        for content in contents() {
            let mut stream = server.connect();
            expected.line(b"before", true, truncates);
            expected.line(&content, false, truncates);
            send(
                &mut server,
                &mut stream,
                &[b"before\n", &content[..]].concat(),
                apart,
            );
            client::half_close(stream);
        }
    }
    let exit = server.terminate();
    exit.assert_code(3);
    let sink = server.stdout_bytes();
    assert!(
        sink == expected.sink,
        "the sink holds other messages:\n{}\nexpected:\n{}\n{exit}",
        sink.escape_ascii(),
        expected.sink.escape_ascii()
    );
    exit.assert_whole(&expected.counted, &sink);
    assert!(expected.oversized > 20);
    (expected, exit)
}

#[test]
fn truncate_delivers_the_beginning_and_counts_the_tail() {
    let (expected, exit) = run("truncate");
    assert_eq!(exit.u64("truncated"), expected.oversized, "{exit}");
    assert_eq!(
        exit.u64("discarded.truncated"),
        expected.discarded,
        "{exit}"
    );
    assert_eq!(
        (exit.sum("discarded"), exit.sum("dropped")),
        (expected.discarded, 0),
        "{exit}"
    );
    assert_eq!(exit.u64("unterminated"), expected.partial, "{exit}");
}

#[test]
fn drop_costs_the_whole_message_and_none_beside_it() {
    let (expected, exit) = run("drop");
    assert_eq!(exit.u64("dropped.oversize"), expected.oversized, "{exit}");
    assert_eq!(exit.u64("discarded.oversize"), expected.discarded, "{exit}");
    assert_eq!(
        (
            exit.sum("discarded"),
            exit.sum("dropped"),
            exit.u64("truncated")
        ),
        (expected.discarded, expected.oversized, 0),
        "{exit}"
    );
    assert_eq!(exit.u64("unterminated"), expected.partial, "{exit}");
}

#[test]
fn close_ends_the_connection_at_the_message_and_costs_what_came_behind_it() {
    let mut server = Drainline::start(&["--max-message", "64B", "--oversize", "close"]);
    let (mut sent, mut sink, mut oversized) = (Counted::default(), Vec::new(), 0);
    for apart in [false, true] {
        for content in contents() {
            let mut stream = server.connect();
            let bytes = [b"before\n", &content[..], b"\nbehind\n"].concat();
            let is_oversized = content.strip_suffix(b"\r").unwrap_or(&content).len() > MAX;
            sent.add(if is_oversized { 1 } else { 3 }, bytes.len());
            sink.extend_from_slice(b"before\n");
            if is_oversized {
                oversized += 1;
                // The server closes on it, so the writing may fail underway.
                let _ = stream.write_all(&bytes);
                client::wait_for_close(&mut stream);
            } else {
                let message = content.strip_suffix(b"\r").unwrap_or(&content);
                sink.extend([message, b"\nbehind\n"].concat());
                send(&mut server, &mut stream, &bytes, apart);
                client::half_close(stream);
            }
        }
    }
    let exit = server.terminate();
    // The peer broke the rules: no loss of ours.
    exit.assert_code(0);
    let found = server.stdout_bytes();
    assert!(found == sink, "{}\n{exit}", found.escape_ascii());
    exit.assert_at_most(&sent, &found);
    assert_eq!(exit.u64("received"), sent.messages, "{exit}");
    assert_eq!(exit.sum("dropped"), 0, "{exit}");
    assert!(exit.u64("discarded.oversize") > 0, "{exit}");
    assert_eq!(
        exit.u64("connections.ended.protocol_error"),
        oversized,
        "{exit}"
    );
}

/// However small batches are: what one read brought behind such a message is discarded with it.
#[test]
fn what_is_read_behind_a_message_that_closes_is_the_peers_doing_whatever_the_buffer_holds() {
    for buffer_messages in ["3", "100000"] {
        let limits = ["--max-message", "8193B", "--oversize", "close"];
        let buffer = ["--buffer-messages", buffer_messages];
        let mut server =
            Drainline::start(&[limits, [buffer[0], buffer[1], "--sink", "null"]].concat());
        let line = |len: usize| [vec![b'x'; len], vec![b'\n']].concat();
        let bytes = [line(3000).repeat(12), line(16_386), line(50).repeat(20)].concat();
        let mut stream = server.connect();
        // The server closes on it, so the writing may fail underway.
        let _ = stream.write_all(&bytes);
        client::wait_for_close(&mut stream);
        let exit = server.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert_eq!(exit.u64("received"), 12);
        assert_eq!(
            exit.sum("discarded"),
            exit.u64("discarded.oversize"),
            "{exit}"
        );
    }
}
