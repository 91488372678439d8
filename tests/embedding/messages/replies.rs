//! Replies keep their order, and no read is delayed behind one.

use std::io::{self, BufRead, BufReader, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::{Handler, MAX, connect, echo_lines, start};
use crate::common::client::{self, Closed};
use crate::common::handlers::drained;
use crate::common::small;
use crate::encode;
use drainline::Activity;
use drainline::ingest::{Framing, ReadMessages};

#[test]
fn a_burst_of_pipelined_requests_is_answered_in_order() {
    const REQUESTS: usize = 10_000;
    for &framing in Framing::ALL {
        let (server, _messages) = start(small::config(), move |conn, _| {
            let mut requests = conn.messages(framing, MAX);
            while let Some(request) = requests.next_message()? {
                writeln!(requests, "re {}", String::from_utf8(request)?)?;
            }
            Ok(())
        });
        let burst: Vec<u8> = (0..REQUESTS)
            .flat_map(|nth| encode::input(framing, nth.to_string().as_bytes()))
            .collect();
        let mut client = connect(&server);
        client.write_all(&burst).unwrap();
        let mut replies = BufReader::new(client.try_clone().unwrap()).lines();
        for nth in 0..REQUESTS {
            let reply = replies.next().unwrap().unwrap();
            assert_eq!(reply, format!("re {nth}"), "{framing}");
        }
        assert_eq!(client::half_close(client), Closed::Clean);
        drained(server);
    }
}

#[test]
fn a_reply_longer_than_what_is_gathered_keeps_its_place() {
    let (server, _messages) = start(small::config(), |conn, _| {
        let mut lines = conn.messages(Framing::Lines, MAX);
        while let Some(line) = lines.next_message()? {
            let len: usize = String::from_utf8(line)?.parse()?;
            lines.write_all(&vec![b'a' + (len % 26) as u8; len])?;
        }
        // Sent as the messages are dropped.
        Ok(lines.write_all(b"bye")?)
    });
    let lengths = [1, 4095, 4096, 4097, 5, 100_000, 2, 300, 4000];
    let requests: String = lengths.iter().map(|len| format!("{len}\n")).collect();
    let replies = lengths
        .iter()
        .map(|&len| vec![b'a' + (len % 26) as u8; len]);
    let expected = [replies.flatten().collect(), b"bye".to_vec()].concat();
    let mut client = connect(&server);
    client.write_all(requests.as_bytes()).unwrap();
    client.shutdown(std::net::Shutdown::Write).unwrap();
    let (replies, closed) = client::read_to_end(&mut client);
    assert!(replies == expected, "{} bytes", replies.len());
    assert_eq!(closed, Closed::Clean);
    drained(server);
}

/// A handler's connection while the server is busy, as far as its state shows: whether it was ever
/// delayed before a read in `lines` lines.
fn is_delayed(handler: Handler, lines: u64) -> bool {
    /// Between two lines, each of which is a read of its own.
    const GAP: Duration = Duration::from_millis(5);
    let mut config = small::config();
    config.busy_reads = 1;
    config.max_read_delay = Some(Duration::from_millis(200));
    let (server, _messages) = start(config, handler);
    let mut client = connect(&server);
    let replies = client.try_clone().unwrap();
    let reads = thread::spawn(move || io::copy(&mut &replies, &mut io::sink()));
    let is_over = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        let sends = scope.spawn(|| {
            for _ in 0..lines {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                client.write_all(b"a line\n").unwrap();
                thread::sleep(GAP);
            }
        });
        let mut seen = false;
        while !seen && !sends.is_finished() {
            let connections = server.connections();
            seen = connections.iter().any(|one| one.state == Activity::Delayed);
            thread::sleep(GAP / 50);
        }
        is_over.store(true, Ordering::Relaxed);
        seen
    });
    client::half_close(client);
    let _ = reads.join();
    drained(server);
    seen
}

#[test]
fn reads_are_delayed_until_the_first_reply() {
    let one_way: Handler = |conn, out| {
        for line in conn.messages(Framing::Lines, MAX) {
            out.send(line?)?;
        }
        Ok(())
    };
    assert!(is_delayed(one_way, 5000));
    assert!(!is_delayed(echo_lines, 200));
}
