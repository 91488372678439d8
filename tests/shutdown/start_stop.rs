//! A server whose consumer dies ends by itself and says why; one connection can be aborted; a port
//! can be had again at once; a start that fails leaves nothing behind.

use std::error::Error;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::process::{PidfdFlags, PidfdGetfdFlags, getpid, pidfd_getfd, pidfd_open};
use socket2::{SockAddr, Socket};

use crate::common::client;
use crate::common::embedded::{self, Embedded};
use crate::common::handlers::{anywhere, drained, lines, wait_open};
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::policy::Activity;
use drainline::{
    BoxError, DropReason, EndReason, Received, Receiver, RejectReason, Report, Server, ServerError,
    StartError, Weigh,
};

/// A server ends by itself because its consumer did: `wait`, called before, returns; everybody was
/// joined; the port is closed; what was not delivered is booked.
#[track_caller]
fn dies_of(
    consumer: impl FnOnce(&mut Receiver<String>) -> Result<(), BoxError> + Send + 'static,
) -> Report {
    let server = small::server()
        .listen(anywhere())
        .start(lines, move |receiver| {
            let Received::Message(first) = receiver.recv(DEADLINE) else {
                panic!("no first item");
            };
            drop(first.ack());
            consumer(receiver)
        })
        .unwrap();
    let addr = server.local_addrs()[0];
    let mut clients = client::connect_many(addr, 4);
    wait_open(&server, 4);
    let server = Arc::new(server);
    let waiting = Arc::clone(&server);
    let waiting = thread::spawn(move || waiting.wait());
    for client in &mut clients {
        client.write_all(b"one\ntwo\nthree\n").unwrap();
    }
    wait_until("the server's own end", DEADLINE, || waiting.is_finished());
    let report = waiting.join().unwrap();
    let refused = client::try_connect(addr, DEADLINE).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    let stats = &report.stats;
    assert!(stats.is_balanced() && !report.timed_out, "{report:?}");
    assert!(report.stuck.is_empty() && stats.open == 0, "{report:?}");
    assert_eq!((stats.delivered, stats.in_flight), (1, 0), "{report:?}");
    assert_eq!(
        stats.dropped.get(DropReason::SinkFailed),
        stats.received - 1,
        "{report:?}"
    );
    // A shutdown that comes too late learns the same.
    let text = |report: &Report| report.error.as_ref().map(ToString::to_string);
    assert_eq!(text(&server.shutdown(Duration::ZERO)), text(&report));
    report
}

#[test]
fn a_consumer_that_fails_ends_the_server_with_its_error() {
    let report = dies_of(|_| Err("the disk is gone".into()));
    let error = report.error.unwrap();
    assert_eq!(error.to_string(), "the consumer failed: the disk is gone");
    // What a consumer returned can be asked for what it is.
    let report = dies_of(|_| Err(io::Error::from(ErrorKind::StorageFull).into()));
    let error = report.error.unwrap();
    let source = error.source().unwrap().downcast_ref::<io::Error>();
    assert_eq!(source.unwrap().kind(), ErrorKind::StorageFull);
}

#[test]
fn a_consumer_that_panics_ends_the_server_with_its_message() {
    let report = dies_of(|_| panic!("as the test asks"));
    match report.error {
        Some(ServerError::ConsumerPanicked(text)) => assert_eq!(text, "as the test asks"),
        error => panic!("{error:?}"),
    }
}

#[test]
fn a_consumer_that_leaves_early_ends_the_server_too() {
    let error = dies_of(|_| Ok(())).error;
    assert!(
        matches!(error, Some(ServerError::ConsumerLeft)),
        "{error:?}"
    );
}

/// Half of a buffer of a thousand messages, and the work of a thousand seconds for a rate of one in
/// two.
struct Half;

impl Weigh for Half {
    fn messages(&self) -> u64 {
        500
    }

    fn bytes(&self) -> usize {
        0
    }
}

/// Handlers that block each in the way that the first byte of their client says; a consumer that
/// finishes nothing.
fn blocking_server() -> Server {
    let mut config = small::config();
    config.buffer_messages = 1000;
    config.rate_limit = Some(1);
    small::server()
        .config(config)
        .listen(anywhere())
        .start(
            |conn, out| {
                let mut kind = [0];
                conn.read_exact(&mut kind)?;
                match kind[0] {
                    b'p' => out.send(Half)?,
                    b's' => loop {
                        out.send(Half)?;
                    },
                    b'w' => loop {
                        conn.write_all(&[b'x'; 64 << 10])?;
                    },
                    _ => {}
                }
                Ok(io::copy(conn, &mut io::sink()).map(drop)?)
            },
            |receiver| {
                let _held = receiver.recv(DEADLINE);
                while receiver.wait(DEADLINE) {}
                Ok(())
            },
        )
        .unwrap()
}

#[test]
fn an_abort_ends_a_blocked_reader_writer_or_sender_and_a_rate_pause_and_nobody_else() {
    let server = blocking_server();
    let addr = server.local_addrs()[0];
    let bystander = client::connect(addr);
    wait_open(&server, 1);
    for (n, (kind, state)) in [
        (b'r', Activity::Reading),
        (b'w', Activity::Writing),
        (b'p', Activity::Pausing),
        (b's', Activity::Sending),
    ]
    .into_iter()
    .enumerate()
    {
        let mut client = client::connect(addr);
        client.write_all(&[kind]).unwrap();
        let mut id = 0;
        wait_until("a blocked handler", DEADLINE, || {
            server.connections().iter().any(|it| {
                id = it.id;
                it.peer == client.local_addr().unwrap().into()
                    && it.state == state
                    && it.in_state > Duration::from_millis(250)
            })
        });
        assert!(server.abort(id), "{state:?}");
        wait_until("its end", DEADLINE, || {
            server.stats().ended.get(EndReason::Aborted) == n as u64 + 1
        });
        client::wait_for_close(&mut client);
        assert!(!server.abort(id), "it has ended");
    }
    assert!(!server.abort(999), "there is no such connection");
    let stats = server.stats();
    assert_eq!((stats.open, stats.ended.total()), (1, 4));
    // What was in line is dropped; what had room stays in flight.
    assert_eq!(stats.dropped.get(DropReason::ConnectionClosed), 500);
    assert_eq!((stats.dropped.total(), stats.in_flight), (500, 1000));
    assert!(!client::is_closed(&bystander));
}

#[test]
fn a_server_can_be_started_again_on_the_same_port_at_once() {
    let start = |addr: SocketAddr| {
        let server = small::server::<String>().listen(addr);
        server.start_each(lines, |_| Ok(())).unwrap()
    };
    let first = start(anywhere());
    let addr = first.local_addrs()[0];
    // The server closes first, so its side of these is what stays in TIME_WAIT.
    let mut clients = client::connect_many(addr, 10);
    wait_open(&first, 10);
    drained(first);
    for client in &mut clients {
        client::wait_for_close(client);
    }
    let second = start(addr);
    let mut client = client::connect(addr);
    client.write_all(b"hello again\n").unwrap();
    wait_until("its line", DEADLINE, || second.stats().delivered == 1);
    drained(second);
}

/// What listens at this address in this process, a second time: as a process has it that was just
/// forked.
fn copy_of_listener(addr: SocketAddr) -> Socket {
    let this = pidfd_open(getpid(), PidfdFlags::empty()).unwrap();
    let numbers = proc::descriptor_numbers(std::process::id()).into_iter();
    let copies = numbers.filter_map(|number| {
        let copy = pidfd_getfd(&this, number as i32, PidfdGetfdFlags::empty());
        Some(Socket::from(copy.ok()?))
    });
    let mut copies = copies.filter(|copy| {
        let is_at = |found: SockAddr| found.as_socket() == Some(addr);
        copy.is_listener().is_ok_and(|it| it) && copy.local_addr().is_ok_and(is_at)
    });
    copies.next().unwrap()
}

#[test]
fn a_port_is_free_at_once_though_a_process_that_was_just_forked_has_the_listener_too() {
    embedded::alone(
        "start_stop::a_port_is_free_at_once_though_a_process_that_was_just_forked_has_the_listener_too",
        || {
            let start = |addr: SocketAddr| {
                let server = small::server::<String>().listen(addr);
                server.start_each(lines, |_| Ok(())).unwrap()
            };
            let first = start(anywhere());
            let addr = first.local_addrs()[0];
            let copy = copy_of_listener(addr);
            drained(first);
            assert!(client::is_refused(addr));
            drained(start(addr));
            drop(copy);
        },
    );
}

/// A server whose spawner refuses threads until the flag is set.
fn without_threads() -> (Server, Arc<AtomicBool>) {
    let there_are_threads = Arc::new(AtomicBool::new(false));
    let is_there = Arc::clone(&there_are_threads);
    let server = small::server::<String>()
        .listen(anywhere())
        .spawner(
            move |builder, body| match is_there.load(Ordering::Relaxed) {
                true => builder.spawn(body),
                false => Err(ErrorKind::WouldBlock.into()),
            },
        )
        .start_each(lines, |_| Ok(()))
        .unwrap();
    (server, there_are_threads)
}

/// A client of that server that has sent a line, and that is in the table without a thread.
fn starting_client(server: &Server, line: &[u8]) -> TcpStream {
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(line).unwrap();
    client::wait_unread(&client, line.len() as u64);
    wait_until("the client in the table", DEADLINE, || {
        server.stats().starting == 1
    });
    client
}

#[test]
fn a_client_for_whom_there_is_no_thread_is_listed_and_rejected_at_last_with_its_bytes() {
    let (server, there_are_threads) = without_threads();
    let mut client = starting_client(&server, b"to nobody\n");
    let connections = server.connections();
    assert_eq!(connections[0].state, Activity::Starting);
    let stats = server.stats();
    assert_eq!((stats.starting, stats.open, stats.accepted), (1, 0, 0));
    assert!(stats.is_balanced());
    client::wait_for_close(&mut client);
    there_are_threads.store(true, Ordering::Relaxed);
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(b"to somebody\n").unwrap();
    wait_until("its line", DEADLINE, || server.stats().delivered == 1);
    let stats = drained(server).stats;
    assert_eq!(stats.rejected.get(RejectReason::NoThread), 1);
    assert_eq!(
        (stats.unread_bytes, stats.accepted, stats.starting),
        (10, 1, 0)
    );
}

#[test]
fn a_drain_serves_a_client_that_waits_for_a_thread_if_there_is_one_in_time() {
    let (server, there_are_threads) = without_threads();
    let _client = starting_client(&server, b"to somebody\n");
    server.drain(DEADLINE);
    there_are_threads.store(true, Ordering::Relaxed);
    let report = server.wait();
    assert_eq!((report.stats.accepted, report.stats.delivered), (1, 1));
    assert!(!report.timed_out, "{report:?}");
}

#[test]
fn a_drain_rejects_a_client_that_is_given_no_thread_in_time() {
    let (server, _) = without_threads();
    let mut client = starting_client(&server, b"to nobody\n");
    let report = server.shutdown(Duration::from_millis(400));
    assert!(report.timed_out, "{report:?}");
    let stats = report.stats;
    assert_eq!(stats.rejected.get(RejectReason::Shutdown), 1);
    assert_eq!(
        (stats.unread_bytes, stats.accepted, stats.starting),
        (10, 0, 0)
    );
    client::wait_for_close(&mut client);
}

#[test]
fn a_thread_that_is_free_serves_the_client_for_whom_there_is_no_thread() {
    let (server, there_are_threads) = without_threads();
    there_are_threads.store(true, Ordering::Relaxed);
    let first = client::connect(server.local_addrs()[0]);
    wait_open(&server, 1);
    there_are_threads.store(false, Ordering::Relaxed);
    let _second = starting_client(&server, b"to somebody\n");
    drop(first);
    wait_until("the second client's line", DEADLINE, || {
        server.stats().delivered == 1
    });
    let stats = drained(server).stats;
    assert_eq!((stats.accepted, stats.rejected.total()), (2, 0));
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("fails to start") => {
            let taken: SocketAddr = std::env::var("TAKEN").unwrap().parse().unwrap();
            embedded::tell("ready");
            while let Some(word) = embedded::hear() {
                let mut server = small::server::<String>().listen(anywhere());
                if word == "taken" {
                    server = server.listen(taken);
                } else {
                    let mut config = small::config();
                    config.send_timeout = Duration::ZERO;
                    server = server.config(config);
                }
                let error = server.start_each(lines, |_| Ok(())).unwrap_err();
                match error {
                    StartError::Listen { address, source } => {
                        embedded::tell(&format!("failed {address} {:?}", source.kind()));
                    }
                    error => embedded::tell(&format!("failed {error}")),
                }
            }
        }
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

#[test]
fn a_start_that_fails_names_what_failed_and_leaves_no_thread_and_no_listener_behind() {
    let taken = TcpListener::bind(anywhere()).unwrap();
    let addr = taken.local_addr().unwrap().to_string();
    let mut child = Embedded::start(
        "start_stop::child_entry",
        "fails to start",
        &[("TAKEN", &addr)],
    );
    child.wait_line("ready");
    let before = (
        proc::thread_names(child.pid()),
        proc::descriptors(child.pid()),
    );
    child.say("taken");
    assert_eq!(child.wait_line("failed "), format!("{addr} AddrInUse"));
    child.say("setting");
    let failed = child.wait_lines("failed ", 2).remove(1);
    assert!(
        failed.starts_with("invalid value '0ns' for send_timeout: "),
        "{failed}"
    );
    // A thread that was joined may stay on the kernel's list for a moment; one that was left behind
    // stays.
    wait_until("threads and descriptors as before", DEADLINE, || {
        let after = (
            proc::thread_names(child.pid()),
            proc::descriptors(child.pid()),
        );
        after == before
    });
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
