//! What a drain still delivers, and what clients and senders notice of it.

use std::io::{ErrorKind, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, channel};
use std::time::{Duration, Instant};

use crate::common::client::Closed;
use crate::common::handlers::{LONG, drained, held, lines, wait_open};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::unix::{self, Place};
use crate::common::wait::{DEADLINE, wait_until, within};
use socket2::{Domain, SockAddr, Socket, Type};

use drainline::{BoxError, Connection, EndReason, Listener, RejectReason, Sender, Server};

#[test]
fn a_drain_delivers_the_whole_lines_that_the_kernel_held_and_tells_the_sender_at_once() {
    let place = Place::new();
    let (release, gate) = channel();
    let (seen, delivered) = channel();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(held(gate, lines), move |line: String| Ok(seen.send(line)?))
        .unwrap();
    let mut client = unix::connect(&place.path);
    client.write_all(b"one\ntwo\nthr").unwrap();
    wait_open(&server, 1);
    server.drain(LONG);
    // Over TCP these bytes would be on their way, and lost.
    wait_until("the sender told", DEADLINE, || {
        client
            .write_all(b"ee\n")
            .is_err_and(|error| error.kind() == ErrorKind::BrokenPipe)
    });
    release.send(()).unwrap();
    let report = drained(server);
    let lines: Vec<_> = delivered.try_iter().collect();
    // The sender may have been quicker than the drain.
    let (whole, rest) = lines.split_at(2);
    assert_eq!(whole, ["one", "two"]);
    assert!(
        rest.iter().all(|line| line == "three" || line == "ee"),
        "{rest:?}"
    );
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 1);
    assert_eq!(report.stats.unread_bytes, 0);
}

#[test]
fn a_drain_under_a_flood_ends_and_every_line_that_the_sender_gave_away_is_delivered() {
    let place = Place::new();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(lines, |_: String| Ok(()))
        .unwrap();
    let floods: Vec<_> = (0..3)
        .map(|_| {
            let mut client = unix::connect(&place.path);
            std::thread::spawn(move || {
                let mut sent = 0;
                // One line is one write: taken whole, or not at all.
                while client.write_all(b"0123456789abcdef\n").is_ok() {
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    wait_until("a flood", DEADLINE, || server.stats().received > 10_000);
    let report = drained(server);
    let sent: u64 = floods.into_iter().map(|flood| flood.join().unwrap()).sum();
    assert_eq!(report.stats.delivered, sent, "{report:?}");
    assert_eq!(
        (report.stats.unread_bytes, report.stats.dropped.total()),
        (0, 0)
    );
}

/// A server of one connection, and clients in the kernel's queue that have sent a line each.
fn queued(
    place: &Place,
    listener: Listener,
    handler: impl Fn(&mut Connection, &Sender<String>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> (Server, UnixStream, Vec<UnixStream>) {
    let mut config = small::config();
    config.max_connections = Some(1);
    let server = small::server::<String>()
        .config(config)
        .listener(listener)
        .start_each(handler, |_| Ok(()))
        .unwrap();
    let served = unix::connect(&place.path);
    wait_open(&server, 1);
    let connect = |_| {
        let mut client = unix::connect(&place.path);
        client.write_all(b"to nobody\n").unwrap();
        client
    };
    (server, served, (0..7).map(connect).collect())
}

#[test]
fn clients_in_the_kernels_queue_are_served_and_whoever_comes_later_is_refused_at_once() {
    let place = Place::new();
    let (release, gate) = channel();
    let gate = Mutex::new(Some(gate));
    let first_waits = move |conn: &mut Connection, out: &Sender<String>| {
        let gate: Option<mpsc::Receiver<()>> = gate.lock().unwrap().take();
        if let Some(gate) = gate {
            gate.recv()?;
        }
        lines(conn, out)
    };
    let (server, _served, waiting) = queued(&place, Listener::unix(&place.path), first_waits);
    // Another name of the same file, as a container's mount is.
    let other_name = place.folder().join("other");
    std::fs::hard_link(&place.path, &other_name).unwrap();
    server.drain(LONG);
    wait_until("the name is free", DEADLINE, || !place.path.exists());
    // The name goes a moment before the socket is shut down.
    let mut came = 0;
    wait_until("nobody comes in", DEADLINE, || {
        match unix::try_connect(&other_name) {
            Ok(_) => {
                came += 1;
                false
            }
            Err(error) => error.kind() == ErrorKind::ConnectionRefused,
        }
    });
    // The next server can have the name already.
    let next = UnixListener::bind(&place.path).unwrap();
    release.send(()).unwrap();
    let report = drained(server);
    assert_eq!(report.stats.rejected.total(), 0);
    assert_eq!(report.stats.unread_bytes, 0);
    assert_eq!(
        (report.stats.accepted, report.stats.delivered),
        (8 + came, 7)
    );
    drop(waiting);
    unix::connect(&place.path);
    drop(next);
}

#[test]
fn clients_that_never_got_a_permit_are_counted_as_rejected_with_their_bytes() {
    let place = Place::new();
    let (let_go, held) = channel::<()>();
    let held = Mutex::new(held);
    let (server, _served, waiting) = queued(&place, Listener::unix(&place.path), move |_, _| {
        let _ = held.lock().unwrap().recv_timeout(DEADLINE);
        Ok(())
    });
    let began = Instant::now();
    let report = server.shutdown(Duration::from_millis(400));
    assert!(began.elapsed() < DEADLINE, "a drain ends in its time");
    assert_eq!(report.stats.rejected.get(RejectReason::Shutdown), 7);
    assert_eq!(report.stats.unread_bytes, 70);
    assert!(report.timed_out && report.is_lossy());
    drop((let_go, waiting));
}

/// The drain of an inherited listener serves as many as were in its queue, although it goes on to
/// answer: the kernel tells how many.
#[test]
fn a_listener_that_was_handed_in_is_drained_while_clients_go_on_to_come_and_keeps_its_file() {
    let place = Place::new();
    let socket = UnixListener::bind(&place.path).unwrap();
    let listener = Listener::from(socket.try_clone().unwrap()).shared();
    let (server, served, waiting) = queued(&place, listener, lines);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (path, stop) = (&place.path, &stop);
        scope.spawn(move || {
            let address = SockAddr::unix(path).unwrap();
            while !stop.load(Ordering::Relaxed) {
                let client = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).unwrap();
                // Once nobody accepts any more, the queue is full.
                let _ = client.connect(&address);
            }
        });
        let report = within("the end of the drain", DEADLINE, move || {
            server.shutdown(LONG)
        });
        stop.store(true, Ordering::Relaxed);
        assert!(!report.timed_out, "{report:?}");
        assert_closes(&report.stats);
        assert_eq!(report.stats.delivered, 7);
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let most: u64 = most.trim().parse().unwrap();
        // The one that was served, and as many as a queue can hold.
        assert!(report.stats.accepted <= most + 2, "{report:?}");
        drop((served, waiting));
    });
    // Nobody has shut it down, and its file is somebody else's.
    socket.set_nonblocking(true).unwrap();
    while socket.accept().is_ok() {}
    unix::connect(&place.path);
}

#[test]
fn a_server_that_is_dropped_closes_at_once_and_leaves_no_file() {
    let place = Place::new();
    let server = small::server::<String>()
        .listener(Listener::unix(&place.path))
        .start_each(lines, |_| Ok(()))
        .unwrap();
    let mut client = unix::connect(&place.path);
    wait_open(&server, 1);
    drop(server);
    assert_eq!(unix::read_to_end(&mut client).1, Closed::Clean);
    assert_eq!(place.names(), [""; 0]);
}

/// FIONREAD counts an urgent byte that is out of the stream; a drain must not wait for it.
#[test]
fn a_drain_ends_although_the_kernel_counts_a_byte_that_no_read_brings() {
    let place = Place::new();
    let (release, gate) = channel();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(
            held(gate, |conn, out| {
                socket2::SockRef::from(&*conn).set_out_of_band_inline(false)?;
                lines(conn, out)
            }),
            |_: String| Ok(()),
        )
        .unwrap();
    let mut client = unix::connect(&place.path);
    client.write_all(b"one\n").unwrap();
    socket2::SockRef::from(&client)
        .send_out_of_band(b"!")
        .unwrap();
    client.write_all(b"two\n").unwrap();
    wait_open(&server, 1);
    server.drain(LONG);
    release.send(()).unwrap();
    let report = drained(server);
    assert_eq!(report.stats.delivered, 2);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 1);
}
