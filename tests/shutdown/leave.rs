//! What a drain tells senders that nobody ever replies to: that the server leaves, at once, and
//! what becomes of what they send until they have heard it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::handlers::{LONG, anywhere, drained, wait_open};
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::ingest::sink::Null;
use drainline::ingest::{Batches, Sink, SinkError};
use drainline::{Discard, EndReason, Report, Server};

fn start(sink: impl Sink + 'static) -> (Server, TcpStream) {
    let server = small::ingest().listen(anywhere()).start(sink).unwrap();
    let client = client::connect(server.local_addrs()[0]);
    wait_open(&server, 1);
    (server, client)
}

/// Takes nothing before it is told to.
struct Gated(Receiver<()>);

impl Sink for Gated {
    fn name(&self) -> String {
        "gated".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        let _ = self.0.recv_timeout(DEADLINE);
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }
}

/// A server of a few messages, whose sink takes none before it is told to.
fn gated(max_connections: usize) -> (Sender<()>, Server) {
    let (open, gate) = channel();
    let mut config = small::config();
    config.buffer_messages = 4;
    config.max_connections = Some(max_connections);
    let server = small::ingest().config(config).listen(anywhere());
    (open, server.start(Gated(gate)).unwrap())
}

/// As [`gated`], with a client.
fn start_gated() -> (Sender<()>, Server, TcpStream) {
    let (open, server) = gated(8);
    let client = client::connect(server.local_addrs()[0]);
    (open, server, client)
}

/// The server's end of the stream, which is there before the server has closed.
#[track_caller]
fn wait_for_end(client: &mut TcpStream) {
    assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
}

/// Without the word a sender goes on until the close, and what is on its way then is lost.
#[test]
fn what_a_sender_sends_until_it_has_heard_of_the_drain_is_delivered() {
    const LINES: u64 = 1000;
    let hears = || {
        let (server, mut client) = start(Null);
        server.drain(LONG);
        wait_for_end(&mut client);
        // Whoever is held up here for a quarter of a second is too late.
        let sent = client.write_all(&b"on its way\n".repeat(LINES as usize));
        let ended = client.shutdown(Shutdown::Write);
        let report = drained(server);
        assert_both_close(&report);
        let is_whole = sent.is_ok() && ended.is_ok() && report.stats.delivered == LINES;
        assert!(!is_whole || !report.is_lossy(), "{report:?}");
        assert!(!is_whole || report.stats.ended.get(EndReason::Eof) == 1);
        is_whole
    };
    assert!((0..20).any(|_| hears()), "nothing was read any more");
}

#[test]
fn half_a_message_of_a_sender_that_leaves_is_not_delivered() {
    let (server, mut client) = start(Null);
    client.write_all(b"whole\nhalf").unwrap();
    wait_until("10 bytes read", DEADLINE, || {
        server.report().bytes.bytes_read == 10
    });
    server.drain(LONG);
    wait_for_end(&mut client);
    assert_eq!(client::half_close(client), Closed::Clean);
    let report = drained(server);
    assert_both_close(&report);
    assert_eq!((report.stats.delivered, report.bytes.unterminated), (1, 0));
    assert_eq!(report.bytes.discarded.get(Discard::Shutdown), 4);
}

/// Symptom: chaos found half a message of a sender that was disconnected. Cause: who came in while
/// the drain ran was read from no more at once, and again when the others had had their moment to
/// leave; the second time, the server's own end of reading was taken for the sender's end of its
/// stream. Consequence: half a message was delivered as if it were whole, as if nothing were wrong.
#[test]
fn half_a_message_of_whoever_comes_in_while_others_leave_is_not_delivered() {
    let (open, server) = gated(2);
    let [ends, stays] = [(); 2].map(|()| client::connect(server.local_addrs()[0]));
    wait_open(&server, 2);
    let mut waits = client::connect(server.local_addrs()[0]);
    waits.write_all(b"1\n2\n3\n4\n5\nhalf").unwrap();
    server.drain(LONG);
    drop(ends);
    wait_until("whoever waits is in", DEADLINE, || {
        server.stats().accepted == 3
    });
    // Its end of the stream was heard of by then, had there been one.
    wait_until("everybody's moment is over", DEADLINE, || {
        server.stats().ended.get(EndReason::Shutdown) == 1
    });
    drop(open);
    let report = drained(server);
    assert_both_close(&report);
    assert_eq!((report.stats.delivered, report.bytes.unterminated), (5, 0));
    assert_eq!(report.bytes.discarded.get(Discard::Shutdown), 4);
    drop((stays, waits));
}

/// Takes its time, so that senders wait for the buffer.
struct Slow;

impl Sink for Slow {
    fn name(&self) -> String {
        "slow".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        thread::sleep(Duration::from_millis(1));
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }
}

#[track_caller]
fn assert_all_arrived(report: &Report, senders: u64, lines: u64) {
    assert_both_close(report);
    assert_eq!(report.stats.delivered, lines, "{report:?}");
    assert_eq!(report.stats.ended.get(EndReason::Eof), senders);
    assert!(!report.is_lossy() && !report.timed_out);
}

/// What is in the sender's kernel waits for space in the window, and the end of its stream behind
/// it. Symptom: it was lost in a drain that had time left, and with exit code 0, since nobody had
/// seen it.
#[test]
fn all_that_was_sent_before_a_drain_arrives_through_a_buffer_that_is_full() {
    const LINES: u64 = 20_000;
    let (open, server, mut client) = start_gated();
    client
        .write_all(&b"all of it arrives\n".repeat(LINES as usize))
        .unwrap();
    drop(client);
    wait_until("a sender in line", DEADLINE, || {
        server.stats().senders_waiting == 1
    });
    server.drain(LONG);
    thread::sleep(Duration::from_secs(1));
    drop(open);
    let report = drained(server);
    assert_all_arrived(&report, 1, LINES);
}

/// Whoever waits for a permit is let in by the drain, and its kernel holds what ours has no space
/// for.
#[test]
fn all_that_clients_in_the_queue_had_sent_before_a_drain_arrives() {
    const LINES: u64 = 20_000;
    let (open, server) = gated(1);
    for _ in 0..4 {
        let mut client = client::connect(server.local_addrs()[0]);
        let lines = b"all of it arrives\n".repeat(LINES as usize);
        client.write_all(&lines).unwrap();
    }
    wait_until("a sender in line", DEADLINE, || {
        server.stats().senders_waiting == 1
    });
    server.drain(LONG);
    drop(open);
    let report = drained(server);
    assert_all_arrived(&report, 4, LINES * 4);
}

/// Much has come of each, and no more does: a moment for each of them would be more than the drain
/// has.
#[test]
fn clients_in_the_queue_that_stay_take_nobodys_time() {
    const CLIENTS: u64 = 100;
    const LINES: u64 = 3000;
    let mut config = small::config();
    config.max_connections = Some(1);
    let server = small::ingest()
        .config(config)
        .listen(anywhere())
        .start(Null)
        .unwrap();
    let lines = b"all of it arrives\n".repeat(LINES as usize);
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let mut client = client::connect(server.local_addrs()[0]);
            client.write_all(&lines).unwrap();
            client
        })
        .collect();
    let report = server.shutdown(Duration::from_secs(15));
    assert!(!report.timed_out, "{report:?}");
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, CLIENTS * LINES);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), CLIENTS);
    drop(clients);
}

#[test]
fn all_that_was_sent_before_a_drain_arrives_whatever_a_rate_limit_holds_back() {
    const LINES: u64 = 20_000;
    let mut config = small::config();
    config.rate_limit = Some(1000);
    let server = small::ingest()
        .config(config)
        .listen(anywhere())
        .start(Null)
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client
        .write_all(&b"all of it arrives\n".repeat(LINES as usize))
        .unwrap();
    drop(client);
    wait_until("a first second's worth", DEADLINE, || {
        server.stats().delivered > 0
    });
    let report = drained(server);
    assert_all_arrived(&report, 1, LINES);
}

#[test]
fn whoever_does_not_listen_holds_up_no_drain() {
    holds_up_no_drain(Null);
}

/// Held up at each look, it is read on from until it has sent what its kernel can have held. What
/// comes then is refused, and does not say how much it was.
#[test]
fn whoever_does_not_listen_and_is_held_up_holds_up_no_drain_and_its_rest_is_a_loss() {
    let report = holds_up_no_drain(Slow);
    assert!(report.is_lossy(), "{report:?}");
    assert!(report.stats.unread_ended.get(EndReason::Shutdown) > 0);
}

fn holds_up_no_drain(sink: impl Sink + 'static) -> Report {
    let (server, idle) = start(sink);
    let address = server.local_addrs()[0];
    let mut flooding = client::connect(address);
    let flood = thread::spawn(move || {
        while flooding
            .write_all(&b"again and again\n".repeat(1000))
            .is_ok()
        {}
    });
    wait_until("a flood", DEADLINE, || server.stats().delivered > 1000);
    // A drain of an hour, which none of the two ends.
    let report = drained(server);
    assert_both_close(&report);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 2);
    flood.join().unwrap();
    drop(idle);
    report
}

/// Its kernel waits for ours to have space. Both directions are shut down, so the kernel would say
/// nothing of the space, nor of the close, until it forgets the connection, after a minute.
#[test]
fn a_sender_that_waits_for_space_in_its_window_hears_of_the_close() {
    let (open, server, mut client) = start_gated();
    let flood =
        thread::spawn(
            move || {
                while client.write_all(&b"again and again\n".repeat(1000)).is_ok() {}
            },
        );
    wait_until("a sender in line", DEADLINE, || {
        server.stats().senders_waiting == 1
    });
    // Until the kernels are full, and then until nobody is read from any more.
    thread::sleep(Duration::from_secs(1));
    server.drain(LONG);
    thread::sleep(Duration::from_secs(1));
    drop(open);
    assert_both_close(&drained(server));
    within("the end of the flood", Duration::from_secs(20), move || {
        flood.join().unwrap();
    });
}
