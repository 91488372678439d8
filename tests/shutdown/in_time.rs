//! A shutdown ends within its deadline whatever peers, handlers and sinks do, and books what it
//! left.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{self, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crate::common::client;
use crate::common::handlers::{LONG, anywhere, drained, lines, wait_open};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::policy::Activity;
use drainline::{
    BoxError, Connection, DropReason, EndReason, Received, Receiver, Report, Sender, Server,
};

/// A deadline that passes. Handlers are cut after three quarters of it, half a second before its
/// end.
const SHORT: Duration = Duration::from_secs(2);
/// What may be left of it on a busy machine: whatever hangs here hangs for ever.
const IN_TIME: Duration = Duration::from_secs(20);

/// Shuts down with a deadline that will pass.
#[track_caller]
fn timed_out(server: Server, deadline: Duration) -> Report {
    let report = within("the end of the shutdown", IN_TIME, move || {
        server.shutdown(deadline)
    });
    assert!(report.stats.is_balanced(), "{report:?}");
    report
}

fn start(
    consumer: impl FnOnce(&mut Receiver<String>) -> Result<(), BoxError> + Send + 'static,
) -> Server {
    small::server()
        .listen(anywhere())
        .start(lines, consumer)
        .unwrap()
}

/// Takes one item, then waits in a loop of its own that looks at nothing but the last deadline.
fn blocks_until_the_deadline(receiver: &mut Receiver<String>) -> Result<(), BoxError> {
    let held = receiver.recv(DEADLINE);
    wait_until("the last deadline", LONG, || receiver.is_timed_out());
    drop(held);
    Ok(())
}

#[test]
fn idle_peers_do_not_hold_up_a_shutdown() {
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(lines, |_| Ok(()))
        .unwrap();
    let mut clients = client::connect_many(server.local_addrs()[0], 50);
    wait_open(&server, 50);
    let report = drained(server);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 50);
    for client in &mut clients {
        client::wait_for_close(client);
    }
}

/// Sends lines until the connection is gone.
fn flood(addr: SocketAddr) -> JoinHandle<()> {
    let mut stream = client::connect(addr);
    thread::spawn(move || while stream.write_all(&b"again and again\n".repeat(1000)).is_ok() {})
}

#[test]
fn peers_that_never_stop_sending_do_not_hold_up_a_shutdown() {
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(lines, |_| Ok(()))
        .unwrap();
    let floods: Vec<_> = (0..3).map(|_| flood(server.local_addrs()[0])).collect();
    wait_until("a flood", DEADLINE, || server.stats().delivered > 1000);
    let report = drained(server);
    assert_eq!(report.stats.delivered, report.stats.received);
    for flood in floods {
        flood.join().unwrap();
    }
}

#[test]
fn peers_that_never_read_replies_are_disconnected_at_three_quarters_of_the_deadline() {
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(
            |conn, _| {
                loop {
                    conn.write_all(&[b'x'; 64 << 10])?;
                }
            },
            |_| Ok(()),
        )
        .unwrap();
    let _clients = client::connect_many(server.local_addrs()[0], 3);
    wait_blocked(&server, 3, Activity::Writing);
    let report = timed_out(server, SHORT);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 3);
    assert!(report.stuck.is_empty() && report.timed_out, "{report:?}");
}

/// So many handlers have been in one and the same wait for several ticks.
#[track_caller]
fn wait_blocked(server: &Server, count: usize, state: Activity) {
    wait_until("blocked handlers", DEADLINE, || {
        let connections = server.connections();
        let blocked = connections
            .iter()
            .filter(|it| it.state == state && it.in_state > Duration::from_millis(250));
        blocked.count() == count
    });
}

fn send_lines(server: &Server, lines: usize) -> TcpStream {
    let mut client = client::connect(server.local_addrs()[0]);
    client.write_all(&b"x\n".repeat(lines)).unwrap();
    wait_until("the lines received", DEADLINE, || {
        server.stats().received == lines as u64
    });
    client
}

#[test]
fn a_sink_that_waits_until_the_deadline_is_ended_and_what_it_held_is_booked_as_shut_down() {
    let server = start(blocks_until_the_deadline);
    let _client = send_lines(&server, 10);
    let report = timed_out(server, Duration::from_millis(400));
    assert!(report.timed_out && report.error.is_none(), "{report:?}");
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 10);
    assert_eq!((report.stats.delivered, report.stats.in_flight), (0, 0));
    assert!(report.stuck.is_empty());
}

#[test]
fn a_sink_that_never_returns_is_left_behind_and_what_it_holds_is_booked_as_shut_down() {
    let (release, never) = channel::<()>();
    let (took, taken) = channel();
    let (told, acknowledged) = channel();
    let server = start(move |receiver| {
        let held = receiver.recv(DEADLINE);
        took.send(())?;
        let _ = never.recv();
        if let Received::Message(delivery) = held {
            told.send(delivery.ack())?;
        }
        Ok(())
    });
    let _client = send_lines(&server, 10);
    taken.recv_timeout(DEADLINE).unwrap();
    let server = Arc::new(server);
    let over = Arc::clone(&server);
    let report = within("the end of the shutdown", IN_TIME, move || {
        over.shutdown(Duration::from_millis(400))
    });
    assert!(report.timed_out && report.error.is_none(), "{report:?}");
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 10);
    let sums = (report.stats.delivered, report.stats.in_flight);
    assert_eq!(sums, (0, 0), "{report:?}");
    // What the thread says that was left behind comes too late.
    drop(release);
    acknowledged.recv_timeout(DEADLINE).unwrap();
    assert_eq!(format!("{:?}", server.report()), format!("{report:?}"));
}

/// A buffer of one message, in whose line handlers wait. The consumer has no message in its hands
/// any more when the drain's last deadline passes: only these sends were cut.
fn cut_in_line(clients: u64) -> Report {
    let mut config = small::config();
    config.buffer_messages = 1;
    let server = small::server()
        .config(config)
        .listen(anywhere())
        .start(
            |_: &mut Connection, out: &Sender<String>| Ok(out.send("one".to_owned())?),
            |receiver| loop {
                match receiver.recv(DEADLINE) {
                    Received::Message(delivery) => {
                        while !receiver.is_closing() {
                            receiver.wait(DEADLINE);
                        }
                        delivery.ack();
                    }
                    Received::Timeout | Received::RoomWanted => {}
                    Received::Closed => return Ok(()),
                }
            },
        )
        .unwrap();
    let _clients = client::connect_many(server.local_addrs()[0], clients as usize);
    wait_until("all but one in line", DEADLINE, || {
        server.stats().received == clients && server.stats().senders_waiting as u64 == clients - 1
    });
    let report = timed_out(server, Duration::from_secs(4));
    let dropped = report.stats.dropped.get(DropReason::Shutdown);
    assert_eq!((report.stats.delivered, dropped), (1, clients - 1));
    report
}

#[test]
fn sends_that_the_handlers_deadline_cuts_say_that_a_deadline_passed_however_soon_they_return() {
    for clients in [2, 16] {
        let report = cut_in_line(clients);
        assert!(report.timed_out, "{report:?}");
    }
}

/// The handler says itself why it drops what it has, and no deadline has passed.
#[test]
fn what_a_handler_drops_by_itself_for_the_shutdown_is_no_deadline_that_passed() {
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(
            |conn, out| {
                let _ = std::io::copy(&mut &*conn, &mut std::io::sink());
                out.record_dropped(DropReason::Shutdown, 3);
                Ok(())
            },
            |_| Ok(()),
        )
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    wait_open(&server, 1);
    let report = drained(server);
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 3);
}

/// Holds everything undone until the receiver is closed, then tells whether that came before the
/// last deadline.
fn flushes_at_the_end(
    told: mpsc::Sender<bool>,
) -> impl FnOnce(&mut Receiver<String>) -> Result<(), BoxError> + Send {
    move |receiver| {
        let mut held = Vec::new();
        loop {
            match receiver.recv(DEADLINE) {
                Received::Message(delivery) => held.push(delivery),
                Received::Timeout | Received::RoomWanted => {}
                Received::Closed => break,
            }
        }
        told.send(!receiver.is_timed_out())?;
        for delivery in held {
            drop(delivery.ack());
        }
        Ok(())
    }
}

#[test]
fn a_handler_that_never_returns_is_named_and_holds_up_nobody_elses_messages() {
    let (release, never) = channel::<()>();
    let (never, (tell, told)) = (Mutex::new(never), channel());
    let handler = move |conn: &mut Connection, out: &Sender<String>| {
        if conn.id() == 1 {
            out.send("before it is stuck".to_owned())?;
            let _ = never.lock().unwrap().recv();
            return Ok(());
        }
        lines(conn, out)
    };
    let server = small::server()
        .listen(anywhere())
        .start(handler, flushes_at_the_end(tell))
        .unwrap();
    let stuck = client::connect(server.local_addrs()[0]);
    wait_until("one received", DEADLINE, || server.stats().received == 1);
    let mut other = client::connect(server.local_addrs()[0]);
    other.write_all(b"two\nthree\n").unwrap();
    wait_until("all received", DEADLINE, || server.stats().received == 3);
    let report = timed_out(server, SHORT);
    assert!(
        told.recv_timeout(DEADLINE).unwrap(),
        "the consumer could flush before the last deadline"
    );
    assert_eq!((report.stats.delivered, report.stats.in_flight), (3, 0));
    assert!(report.timed_out, "{report:?}");
    let [left] = &report.stuck[..] else {
        panic!("one is stuck: {report:?}");
    };
    assert_eq!(
        (left.id, left.peer, left.state),
        (1, stuck.local_addr().unwrap().into(), Activity::Working)
    );
    assert_eq!((report.stats.open, report.stats.ended.total()), (1, 1));
    drop(release);
}

#[test]
fn a_shutdown_from_several_threads_and_once_more_is_one_shutdown() {
    let server = start(|receiver| {
        while !matches!(receiver.recv(DEADLINE), Received::Closed) {}
        Ok(())
    });
    let _clients = client::connect_many(server.local_addrs()[0], 5);
    wait_open(&server, 5);
    let server = Arc::new(server);
    let (waiting, again) = (Arc::clone(&server), Arc::clone(&server));
    let waiting = thread::spawn(move || waiting.wait());
    let mut reports = within("four shutdowns", IN_TIME, move || {
        let shutdowns: Vec<_> = (0..4)
            .map(|_| Arc::clone(&again))
            .map(|server| thread::spawn(move || server.shutdown(LONG)))
            .collect();
        let all = shutdowns.into_iter().chain([waiting]);
        all.map(|thread| thread.join().unwrap())
            .collect::<Vec<Report>>()
    });
    reports.push(server.shutdown(Duration::ZERO));
    reports.push(server.wait());
    for report in &reports {
        assert_eq!(format!("{report:?}"), format!("{:?}", reports[0]));
        assert!(!report.timed_out, "{report:?}");
    }
}

#[test]
fn a_second_shutdown_brings_the_deadline_of_the_first_nearer_and_never_farther() {
    let server = start(blocks_until_the_deadline);
    let _client = send_lines(&server, 3);
    let server = Arc::new(server);
    let first = Arc::clone(&server);
    let first = thread::spawn(move || first.shutdown(LONG));
    wait_until("the drain", DEADLINE, || server.stats().open == 0);
    server.drain(Duration::from_millis(200));
    server.drain(LONG);
    wait_until("the first one's end", IN_TIME, || first.is_finished());
    assert!(first.join().unwrap().timed_out);
}

/// Counts how many there are.
struct Counted(#[allow(dead_code)] Arc<()>);

impl drainline::Weigh for Counted {
    fn bytes(&self) -> usize {
        1000
    }
}

/// A server whose every part is blocked: readers, senders in line, and its consumer.
fn all_blocked(count: Arc<()>) -> (Server, Vec<TcpStream>) {
    let mut config = small::config();
    config.buffer_messages = 5;
    let server = small::server()
        .config(config)
        .listen(anywhere())
        .start(
            move |conn, out| {
                while conn.id() % 2 == 0 {
                    out.send(Counted(Arc::clone(&count)))?;
                }
                std::io::Read::read(conn, &mut [0])?;
                Ok(())
            },
            |receiver| {
                let held = receiver.recv(DEADLINE);
                while receiver.wait(DEADLINE) {}
                drop(held);
                Ok(())
            },
        )
        .unwrap();
    let clients = client::connect_many(server.local_addrs()[0], 20);
    wait_blocked(&server, 10, Activity::Sending);
    wait_blocked(&server, 10, Activity::Reading);
    (server, clients)
}

#[test]
fn a_drop_without_a_shutdown_ends_everything_at_once() {
    let count = Arc::new(());
    let (server, mut clients) = all_blocked(Arc::clone(&count));
    within("the drop", IN_TIME, move || drop(server));
    for client in &mut clients {
        client::wait_for_close(client);
    }
    // No item is left anywhere, nor is the handler that made them.
    wait_until("every item let go of", DEADLINE, || {
        Arc::strong_count(&count) == 1
    });
}

#[test]
fn a_shutdown_within_nothing_books_everything_that_it_ended() {
    let (server, _clients) = all_blocked(Arc::new(()));
    let received = server.stats().received;
    let report = timed_out(server, Duration::ZERO);
    assert_eq!(received, 15, "5 in the buffer, 10 in line");
    assert!(report.timed_out, "{report:?}");
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), received);
    assert_eq!(
        (report.stats.received, report.stats.in_flight),
        (received, 0)
    );
}
