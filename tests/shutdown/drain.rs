//! What a drain still delivers and answers, and what it leaves.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::handlers::{LONG, anywhere, drained, held, lines, wait_open};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::ingest::{Batches, Sink, SinkError};
use drainline::{
    BoxError, Connection, Discard, DropReason, EndReason, Listener, Received, Receiver,
    RejectReason, Sender, Server,
};

/// A consumer that takes nothing before it is told to, and passes on each item when it is.
fn gated(
    open: mpsc::Receiver<()>,
    seen: mpsc::Sender<String>,
) -> impl FnOnce(&mut Receiver<String>) -> Result<(), BoxError> {
    move |receiver| {
        open.recv()?;
        loop {
            match receiver.recv(DEADLINE) {
                Received::Message(delivery) => seen.send(delivery.ack())?,
                Received::Timeout | Received::RoomWanted => {}
                Received::Closed => return Ok(()),
            }
        }
    }
}

/// Without the promise that somebody else has the socket, they would be reset with its close.
#[test]
fn a_drain_leaves_clients_in_the_queue_of_a_shared_listener_and_rejects_them_in_any_other() {
    for is_shared in [true, false] {
        let socket = TcpListener::bind(anywhere()).unwrap();
        let mut listener = Listener::from(socket.try_clone().unwrap());
        if is_shared {
            listener = listener.shared();
        }
        let (release, gate) = channel::<()>();
        let gate = Mutex::new(gate);
        let mut config = small::config();
        config.max_connections = Some(1);
        let server = small::server()
            .config(config)
            .listener(listener)
            .serve(move |_| Ok(gate.lock().unwrap().recv()?))
            .unwrap();
        let address = server.local_addrs()[0];
        let _served = client::connect(address);
        wait_open(&server, 1);
        let mut waiting = client::connect(address);
        waiting.write_all(b"to the next\n").unwrap();
        // The only permit is taken, and stays so until the handlers' time is over.
        let report = server.shutdown(Duration::from_millis(400));
        let rejected = report.stats.rejected.get(RejectReason::Shutdown);
        assert_eq!(rejected, if is_shared { 0 } else { 1 });
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.accept().is_ok(), is_shared);
        drop(release);
    }
}

#[test]
fn a_drain_delivers_what_is_in_the_buffer() {
    let (open, gate) = channel();
    let (seen, delivered) = channel();
    let server = small::server()
        .listen(anywhere())
        .start(lines, gated(gate, seen))
        .unwrap();
    let mut clients = client::connect_many(server.local_addrs()[0], 3);
    for client in &mut clients {
        client.write_all(&b"x\n".repeat(100)).unwrap();
    }
    wait_until("300 messages in the buffer", DEADLINE, || {
        server.stats().in_flight == 300
    });
    server.drain(LONG);
    // Every handler is gone before the consumer takes its first item.
    wait_open(&server, 0);
    open.send(()).unwrap();
    let report = drained(server);
    assert_eq!((report.stats.received, report.stats.delivered), (300, 300));
    assert_eq!(delivered.try_iter().count(), 300);
}

#[test]
fn a_drain_delivers_the_whole_lines_that_the_kernel_held() {
    let (release, gate) = channel();
    let (seen, delivered) = channel();
    let server = small::server()
        .listen(anywhere())
        .start_each(held(gate, lines), move |line: String| Ok(seen.send(line)?))
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let sent: Vec<String> = (0..2000).map(|n| format!("line {n}")).collect();
    client
        .write_all((sent.join("\n") + "\nhalf").as_bytes())
        .unwrap();
    client::wait_unread(&client, sent.join("\n").len() as u64 + 5);
    wait_open(&server, 1);
    server.drain(LONG);
    release.send(()).unwrap();
    let report = drained(server);
    assert_eq!(delivered.try_iter().collect::<Vec<_>>(), sent);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 1);
    assert_eq!(
        report.stats.unread_bytes, 0,
        "the half line was read, and discarded"
    );
    assert_eq!(client::wait_for_close(&mut client), Closed::Clean);
}

/// Keeps what it is given.
struct Kept(Arc<Mutex<Vec<u8>>>);

impl Sink for Kept {
    fn name(&self) -> String {
        "kept".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while let Some(batch) = batches.first() {
            self.0.lock().unwrap().extend_from_slice(batch.as_bytes());
            batches.ack();
        }
        Ok(())
    }
}

#[test]
fn half_a_line_is_discarded_by_a_drain_and_delivered_at_the_peers_end_of_stream() {
    let kept = Arc::default();
    let server = small::ingest()
        .listen(anywhere())
        .start(Kept(Arc::clone(&kept)))
        .unwrap();
    let mut clients = client::connect_many(server.local_addrs()[0], 2);
    for client in &mut clients {
        client.write_all(b"whole\nhalf").unwrap();
    }
    wait_until("20 bytes read", DEADLINE, || {
        server.report().bytes.bytes_read == 20
    });
    assert_eq!(client::half_close(clients.remove(0)), Closed::Clean);
    let report = within("the shutdown", DEADLINE, move || server.shutdown(LONG));
    assert!(report.is_balanced() && !report.timed_out);
    assert_eq!((report.stats.delivered, report.bytes.unterminated), (3, 1));
    assert_eq!(report.bytes.discarded.get(Discard::Shutdown), 4);
    let mut delivered: Vec<Vec<u8>> = kept
        .lock()
        .unwrap()
        .split(|b| *b == b'\n')
        .map(<[u8]>::to_vec)
        .collect();
    delivered.sort();
    assert_eq!(delivered, [&b""[..], b"half", b"whole", b"whole"]);
}

#[test]
fn whole_requests_are_answered_during_a_drain() {
    let (release, gate) = channel();
    let answer = |conn: &mut Connection, log: &drainline::Sender<String>| {
        let mut conn = BufReader::new(conn);
        loop {
            let mut request = String::new();
            if conn.read_line(&mut request)? == 0 {
                return Ok(());
            }
            write!(conn.get_mut(), "answer to {request}")?;
            log.send(request)?;
        }
    };
    let server = small::server()
        .listen(anywhere())
        .start_each(held(gate, answer), |_| Ok(()))
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"one\ntwo\nthree\nfo").unwrap();
    client::wait_unread(&client, 16);
    wait_open(&server, 1);
    server.drain(LONG);
    release.send(()).unwrap();
    let (answers, closed) = client::read_to_end(&mut client);
    assert_eq!(
        String::from_utf8(answers).unwrap(),
        "answer to one\nanswer to two\nanswer to three\n"
    );
    assert_eq!(closed, Closed::Clean);
    assert_eq!(drained(server).stats.delivered, 3);
}

/// A server of one connection, and clients in the kernel's queue that have sent a line each.
fn queued(
    handler: impl Fn(&mut Connection, &Sender<String>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> (Server, TcpStream, Vec<TcpStream>) {
    let mut config = small::config();
    config.max_connections = Some(1);
    let server = small::server::<String>()
        .config(config)
        .listen(anywhere())
        .start_each(handler, |_| Ok(()))
        .unwrap();
    let addr = server.local_addrs()[0];
    let served = client::connect(addr);
    wait_open(&server, 1);
    let mut waiting = client::connect_many(addr, 7);
    for client in &mut waiting {
        client.write_all(b"to nobody\n").unwrap();
        client::wait_unread(client, 10);
    }
    (server, served, waiting)
}

#[test]
fn clients_in_the_kernels_queue_are_served_as_permits_come_back() {
    let (server, _served, waiting) = queued(lines);
    let addr = server.local_addrs()[0];
    let report = drained(server);
    assert_eq!(report.stats.rejected.total(), 0);
    assert_eq!(report.stats.unread_bytes, 0);
    assert_eq!((report.stats.accepted, report.stats.delivered), (8, 7));
    assert!(!report.timed_out);
    let refused = client::try_connect(addr, DEADLINE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    drop(waiting);
}

#[test]
fn clients_that_never_got_a_permit_are_counted_as_rejected_with_their_bytes() {
    let (let_go, held) = std::sync::mpsc::channel::<()>();
    let held = Mutex::new(held);
    let (server, _served, waiting) = queued(move |_, _| {
        let _ = held.lock().unwrap().recv_timeout(DEADLINE);
        Ok(())
    });
    let began = Instant::now();
    let report = server.shutdown(Duration::from_millis(400));
    assert!(began.elapsed() < DEADLINE, "a drain ends in its time");
    assert_eq!(report.stats.rejected.get(RejectReason::Shutdown), 7);
    assert_eq!(report.stats.rejected.total(), 7);
    assert_eq!(report.stats.unread_bytes, 70);
    assert!(report.timed_out);
    drop((let_go, waiting));
}

#[test]
fn a_send_in_line_goes_on_during_a_drain_until_it_is_granted() {
    let mut config = small::config();
    config.buffer_messages = 4;
    let (open, gate) = channel();
    let (seen, delivered) = channel();
    let server = small::server()
        .config(config)
        .listen(anywhere())
        .start(lines, gated(gate, seen))
        .unwrap();
    let mut clients = client::connect_many(server.local_addrs()[0], 3);
    for client in &mut clients {
        client.write_all(&b"x\n".repeat(10)).unwrap();
    }
    wait_until("3 senders in line", DEADLINE, || {
        server.stats().senders_waiting == 3
    });
    server.drain(LONG);
    open.send(()).unwrap();
    let report = drained(server);
    // Their BufReaders held all ten lines when the drain began.
    assert_eq!(
        (report.stats.delivered, report.stats.dropped.total()),
        (30, 0)
    );
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 0);
    assert_eq!(delivered.try_iter().count(), 30);
}

/// A sink that backs off is to make its last try while there is time, and nobody is to wait for
/// that.
#[test]
fn a_consumer_that_waits_before_it_tries_again_is_told_when_the_last_handler_is_gone() {
    const HOUR: Duration = Duration::from_secs(3600);
    let server = small::server::<Vec<u8>>()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(
            |connection, out| Ok(out.send(read_all(connection)?)?),
            |receiver| loop {
                match receiver.recv(Duration::from_millis(10)) {
                    Received::Message(delivery) => {
                        // First it is told of the drain.
                        while !receiver.is_closing() {
                            assert!(receiver.wait(HOUR));
                        }
                        delivery.ack();
                    }
                    Received::Timeout | Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            },
        )
        .unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    stream.write_all(b"a message").unwrap();
    client::half_close(stream);
    let report = within("a drain of an hour", DEADLINE, move || {
        server.shutdown(HOUR)
    });
    assert_closes(&report.stats);
    assert_eq!(report.stats.delivered, 1, "{report:?}");
    assert!(!report.timed_out, "{report:?}");
}

fn read_all(connection: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    connection.read_to_end(&mut bytes)?;
    Ok(bytes)
}
