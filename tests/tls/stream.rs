//! Lines by an ingest over TLS: nothing is lost, and nothing that was cut counts as whole.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use drainline::{Config, Discard, EndReason, Listener, Report, Server};
use proptest::prelude::*;
use rustls::ClientConfig;

use crate::authority::{Client, VERSIONS, config, tls};
use crate::common::handlers::{LONG, anywhere, drained};
use crate::common::ledger::assert_both_close;
use crate::common::programs;
use crate::common::small;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};

/// An ingest of lines over TLS, which keeps what it delivers, and what its clients need.
struct Stage {
    server: Server,
    valve: Valve,
    config: Arc<ClientConfig>,
}

impl Stage {
    fn new(change: impl FnOnce(&mut Config)) -> Stage {
        let (tls, authority) = tls();
        let mut server = small::config();
        change(&mut server);
        let valve = Valve::open();
        let server = small::ingest()
            .config(server)
            .listener(Listener::on(anywhere()).tls(tls))
            .start(valve.sink())
            .unwrap();
        Stage {
            server,
            valve,
            config: config(&authority, None, &VERSIONS),
        }
    }

    fn addr(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    fn connect(&self) -> Client {
        Client::connect(self.addr(), &self.config)
    }

    #[track_caller]
    fn wait_ended(&self, reason: EndReason, count: u64) {
        wait_until("ends", DEADLINE, || {
            self.server.stats().ended.get(reason) == count
        });
    }

    /// What was delivered, and the report.
    #[track_caller]
    fn end(self) -> (String, Report) {
        let report = drained(self.server);
        assert_both_close(&report);
        (String::from_utf8(self.valve.bytes()).unwrap(), report)
    }
}

#[test]
fn a_last_line_without_its_end_counts_only_where_the_end_was_said() {
    let stage = Stage::new(|_| {});
    let mut closed = stage.connect();
    closed.send(b"one\ntwo");
    closed.close();
    stage.wait_ended(EndReason::Eof, 1);
    let mut cut = stage.connect();
    cut.send(b"three\nfour");
    drop(cut);
    stage.wait_ended(EndReason::Unclosed, 1);
    let (delivered, report) = stage.end();
    assert_eq!(delivered, "one\ntwo\nthree\n");
    assert_eq!(report.bytes.discarded.get(Discard::Unclosed), 4);
    // It is the peer's fault.
    assert!(!report.is_lossy(), "{report:?}");
}

#[test]
fn a_record_that_does_not_come_to_its_end_is_the_inside_of_a_frame() {
    let stage = Stage::new(|config| config.frame_timeout = Some(Duration::from_millis(500)));
    let mut client = stage.connect();
    let record = client.seal(b"a line\n");
    for byte in &record[..record.len() - 1] {
        if client.socket.write_all(&[*byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(30));
    }
    stage.wait_ended(EndReason::FrameTimeout, 1);
    assert_eq!(stage.end().0, "");
}

#[test]
fn whole_records_of_one_byte_do_not_keep_a_frame_alive() {
    let stage = Stage::new(|config| config.frame_timeout = Some(Duration::from_millis(500)));
    let mut client = stage.connect();
    let begun = Instant::now();
    loop {
        let record = client.seal(b"x");
        if client.socket.write_all(&record).is_err() {
            break;
        }
        assert!(begun.elapsed() < DEADLINE, "the frame is still alive");
        thread::sleep(Duration::from_millis(10));
    }
    stage.wait_ended(EndReason::FrameTimeout, 1);
    stage.end();
}

/// rustls ends a session after 32 new keys in a row; rustls/rustls#2709 saw it on connections that
/// lived for hours. With bytes between them there is no limit.
#[test]
fn who_sends_may_have_new_keys_for_ever() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    for _ in 0..200 {
        client.session.refresh_traffic_keys().unwrap();
        client.send(b"a line\n");
    }
    client.close();
    stage.wait_ended(EndReason::Eof, 1);
    assert_eq!(stage.end().0, "a line\n".repeat(200));
}

#[test]
fn a_stream_of_records_is_not_one_unfinished_frame() {
    // The stream lasts longer, and no frame a tenth of it, even on a machine that stumbles.
    const KEPT: Duration = Duration::from_secs(3);
    let stage = Stage::new(|config| config.frame_timeout = Some(KEPT));
    let mut client = stage.connect();
    // At each look a record has begun.
    let lines: Vec<Vec<u8>> = (0..20).map(|_| client.seal(b"a line\n")).collect();
    let all = lines.concat();
    let half = lines[0].len() / 2;
    client.socket.write_all(&all[..half]).unwrap();
    let mut rest = &all[half..];
    while !rest.is_empty() {
        thread::sleep(KEPT / 15);
        let (now, later) = rest.split_at(rest.len().min(lines[0].len()));
        client.socket.write_all(now).unwrap();
        rest = later;
    }
    client.close();
    stage.wait_ended(EndReason::Eof, 1);
    assert_eq!(stage.end().0, "a line\n".repeat(20));
}

#[test]
fn a_broken_record_ends_the_connection_behind_what_was_whole() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    let mut records = client.seal(b"good\nhal");
    records.extend(client.seal(b"f\n"));
    *records.last_mut().unwrap() ^= 1;
    client.socket.write_all(&records).unwrap();
    let (_, error) = client.rest();
    assert!(error.contains("BadRecordMac"), "{error}");
    stage.wait_ended(EndReason::ProtocolError, 1);
    let (delivered, report) = stage.end();
    assert_eq!(delivered, "good\n");
    assert_eq!(report.bytes.discarded.get(Discard::InvalidFrame), 3);
    assert!(!report.is_lossy(), "{report:?}");
}

#[test]
fn a_drain_under_bulk_delivers_whole_lines_and_closes_the_ledger() {
    let stage = Stage::new(|_| {});
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let mut client = stage.connect();
            thread::spawn(move || {
                let lines = "0123456789012345678901234567890\n".repeat(500);
                while client.stream().write_all(lines.as_bytes()).is_ok() {}
            })
        })
        .collect();
    wait_until("bulk", DEADLINE, || stage.server.stats().delivered > 10_000);
    let (delivered, report) = stage.end();
    assert_eq!(delivered.len() as u64, report.stats.delivered * 32);
    assert!(delivered.lines().all(|line| line.len() == 31));
    for sender in senders {
        sender.join().unwrap();
    }
}

/// The sender's kernel holds what ours has no space for, and no goodbye of the drain may reach it:
/// nobody reads there any more, so it would answer with a reset, and throw away what it has.
#[test]
fn all_that_was_sent_before_a_drain_arrives_though_its_sender_has_closed() {
    const LINES: usize = 20_000;
    let stage = Stage::new(|config| config.buffer_messages = 4);
    stage.valve.stall();
    let mut client = stage.connect();
    client.send("all of it arrives\n".repeat(LINES).as_bytes());
    client.close();
    wait_until("a sender in line", DEADLINE, || {
        stage.server.stats().senders_waiting == 1
    });
    stage.server.drain(LONG);
    thread::sleep(Duration::from_millis(500));
    stage.valve.heal();
    let (_, report) = stage.end();
    assert_eq!(report.stats.delivered, LINES as u64, "{report:?}");
    assert_eq!(report.stats.ended.get(EndReason::Eof), 1);
    assert!(!report.is_lossy() && !report.timed_out);
}

/// The clients of the report that made session tickets a danger (openssl/openssl#10880): they send,
/// and close without reading.
#[test]
fn clients_that_never_read_lose_nothing() {
    const CLIENTS: usize = 20;
    const LINES: usize = 1000;
    let Some(python) = programs::find("python3") else {
        return;
    };
    let stage = Stage::new(|_| {});
    let script = r#"
import socket, ssl, sys
context = ssl.create_default_context()
context.check_hostname = False
context.verify_mode = ssl.CERT_NONE
for n in range(int(sys.argv[2])):
    tls = context.wrap_socket(socket.create_connection(("127.0.0.1", int(sys.argv[1]))))
    tls.sendall(b"0123456789\n" * int(sys.argv[3]))
    tls.close()
"#;
    let [port, clients, lines] =
        [stage.addr().port() as usize, CLIENTS, LINES].map(|n| n.to_string());
    let status = std::process::Command::new(python)
        .args(["-c", script, &port, &clients, &lines])
        .status()
        .unwrap();
    assert!(status.success());
    wait_until("every end", DEADLINE, || {
        let stats = stage.server.stats();
        stats.ended.total() == CLIENTS as u64
    });
    let (_, report) = stage.end();
    assert_eq!(
        report.stats.delivered,
        (CLIENTS * LINES) as u64,
        "{report:?}"
    );
    assert_eq!(report.stats.ended.get(EndReason::Reset), 0);
}

/// Without a goodbye: a client that has closed already, with its end on its way, would answer that
/// with a reset.
#[test]
fn the_end_of_an_ingest_is_an_end_of_the_stream_without_a_goodbye() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    client.send(b"a line\n");
    wait_until("a line", DEADLINE, || stage.server.stats().delivered == 1);
    let reading = thread::spawn(move || client.rest());
    let (_, report) = stage.end();
    let (rest, error) = reading.join().unwrap();
    assert!(rest.is_empty() && error.contains("close_notify"), "{error}");
    assert!(!report.is_lossy());
}

#[test]
fn what_a_client_half_closes_is_read_to_the_end() {
    let stage = Stage::new(|_| {});
    let mut client = stage.connect();
    let mut records = client.seal(&b"a line\n".repeat(20_000));
    client.session.send_close_notify();
    records.extend(client.records());
    client.socket.write_all(&records).unwrap();
    client.socket.shutdown(Shutdown::Write).unwrap();
    let mut all = Vec::new();
    client.socket.read_to_end(&mut all).unwrap();
    stage.wait_ended(EndReason::Eof, 1);
    assert_eq!(stage.end().0.len(), 7 * 20_000);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// However lines fall into records, and records into segments.
    #[test]
    fn splits_change_nothing(
        lines in prop::collection::vec("[a-z]{0,40}", 1..40),
        records in prop::collection::vec(1usize..60, 1..20),
        segments in prop::collection::vec(1usize..90, 1..20),
    ) {
        let stage = Stage::new(|_| {});
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let mut client = stage.connect();
        let mut sealed = Vec::new();
        let mut rest = text.as_bytes();
        for len in records.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*len));
            sealed.extend(client.seal(now));
            rest = later;
        }
        client.session.send_close_notify();
        sealed.extend(client.records());
        let mut rest = &sealed[..];
        for len in segments.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (now, later) = rest.split_at(rest.len().min(*len));
            client.socket.write_all(now).unwrap();
            rest = later;
        }
        stage.wait_ended(EndReason::Eof, 1);
        let (delivered, _) = stage.end();
        prop_assert_eq!(delivered, text);
    }
}
