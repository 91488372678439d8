//! Writers: what other threads push to a peer while its handler reads.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver as Told, channel};
use std::thread;
use std::time::{Duration, Instant};

use drainline::{EndReason, Ended, Server, Writer};
use rustix::io::ioctl_fionread;
use rustix::process::{Pid, Signal, kill_process};
use socket2::{Domain, SockRef, Socket, Type};

use super::builder;
use super::common::wait::{DEADLINE, stays, wait_until, within};
use super::common::{client, proc};

/// More than the kernel holds for a peer that reads nothing.
const FAR_TOO_MUCH: usize = 64 << 20;

/// A server whose handlers hand out a writer, and read to the end.
fn subscribed(write_timeout: Option<Duration>) -> (Server, TcpStream, Writer) {
    let (tell, told): (_, Told<Writer>) = channel();
    let server = builder(|config| config.write_timeout = write_timeout)
        .serve(move |conn| {
            tell.send(conn.writer())?;
            Ok(std::io::copy(conn, &mut std::io::sink()).map(drop)?)
        })
        .unwrap();
    let client = client::connect(server.local_addrs()[0]);
    let writer = told.recv_timeout(DEADLINE).unwrap();
    (server, client, writer)
}

fn fails_for(mut writer: &Writer) -> Option<EndReason> {
    let error = writer.write(b"-").unwrap_err();
    Ended::reason_of(&error)
}

#[test]
fn what_others_push_reaches_the_peer_while_its_handler_reads() {
    let (server, mut client, mut writer) = subscribed(Some(DEADLINE));
    let mut clone = writer.clone();
    thread::spawn(move || clone.write_all(b"from afar\n").unwrap())
        .join()
        .unwrap();
    writer.write_all(b"and again\n").unwrap();
    let mut said = [0; 20];
    client.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"from afar\nand again\n");
    assert!(!writer.is_closed());
    drop(client);
    // The handler has read to the end.
    within("the writer closed", DEADLINE, move || {
        while !writer.is_closed() {
            thread::yield_now();
        }
        assert_eq!(fails_for(&writer), Some(EndReason::HandlerReturned));
    });
    drop(server);
}

#[test]
fn what_one_call_writes_is_not_torn_apart_by_another() {
    const EACH: usize = 4 << 20;
    let (_server, mut client, writer) = subscribed(Some(DEADLINE));
    let writers: Vec<_> = (b'a'..=b'd')
        .map(|letter| {
            let mut writer = writer.clone();
            thread::spawn(move || writer.write_all(&vec![letter; EACH]).unwrap())
        })
        .collect();
    let mut all = vec![0; 4 * EACH];
    client.read_exact(&mut all).unwrap();
    writers.into_iter().for_each(|one| one.join().unwrap());
    for part in all.chunks(EACH) {
        assert!(part.iter().all(|letter| *letter == part[0]));
    }
}

#[test]
fn a_peer_that_takes_nothing_ends_by_the_write_timeout() {
    let (server, _client, mut writer) = subscribed(Some(Duration::from_millis(200)));
    let error = within("the write", DEADLINE, move || {
        writer.write_all(&vec![0; FAR_TOO_MUCH]).unwrap_err()
    });
    assert_eq!(Ended::reason_of(&error), Some(EndReason::WriteTimeout));
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.ended.get(EndReason::WriteTimeout), 1);
}

/// Ends a connection from one side; what is left of the client lives on.
type End = fn(&Server, TcpStream) -> Option<TcpStream>;

#[test]
fn a_write_that_is_under_way_ends_with_the_connection() {
    let ends: [End; 3] = [
        |server, client| {
            assert!(server.abort(1));
            Some(client)
        },
        // The handler reads to the end, and returns.
        |_, client| {
            client.shutdown(std::net::Shutdown::Write).unwrap();
            Some(client)
        },
        |_, client| {
            client::reset(client);
            None
        },
    ];
    for end in ends {
        let (server, client, mut writer) = subscribed(None);
        let write = thread::spawn(move || writer.write_all(&vec![0; FAR_TOO_MUCH]));
        // The kernel has all that it takes.
        let mut first = [0; 1];
        client.peek(&mut first).unwrap();
        let _client = end(&server, client);
        let outcome = within("the write", DEADLINE, move || write.join().unwrap());
        assert!(Ended::reason_of(&outcome.unwrap_err()).is_some());
        let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
        assert!(
            report.stuck.is_empty() && report.is_balanced(),
            "{report:?}"
        );
    }
}

/// Nothing that a writer holds may outlive the connection: a descriptor above the limits, first of
/// all.
#[test]
fn a_writer_that_is_kept_keeps_no_socket() {
    let (server, mut client, writer) = subscribed(Some(DEADLINE));
    assert!(server.abort(1));
    let (_, _) = client::read_to_end(&mut client);
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.threads, 0, "{report:?}");
    assert!(writer.is_closed());
    assert!(fails_for(&writer).is_some());
}

/// No deadline applies any more to a connection that has ended: nothing would end the wait.
#[test]
fn a_goodbye_does_not_wait_for_a_writer_whose_peer_takes_nothing() {
    let (tell, told) = channel();
    let server = builder(|config| {
        config.write_timeout = None;
        config.idle_timeout = Some(Duration::from_millis(300));
    })
    .serve(move |conn| {
        tell.send(conn.writer())?;
        let end = io::copy(conn, &mut io::sink()).unwrap_err();
        let _ = conn.write(b"goodbye");
        Err(end.into())
    })
    .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    let mut writer: Writer = told.recv_timeout(DEADLINE).unwrap();
    let error = within("the write", Duration::from_secs(20), move || {
        writer.write_all(&vec![0; FAR_TOO_MUCH]).unwrap_err()
    });
    assert_eq!(Ended::reason_of(&error), Some(EndReason::IdleTimeout));
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert_eq!(report.stats.ended.get(EndReason::IdleTimeout), 1);
}

/// Whether connection `id` is shown in this state.
fn is_in_state(server: &Server, id: u64, state: &str) -> bool {
    let connections = server.connections();
    let mut of_id = connections.iter().filter(|connection| connection.id == id);
    of_id.any(|connection| connection.state.name() == state)
}

/// The handler's code is not what takes the time, and the write's own deadline has not begun.
#[test]
fn a_handler_behind_a_writer_of_its_own_connection_is_not_taken_for_stuck() {
    let (tell, told) = channel();
    let server = builder(|config| config.write_timeout = None)
        .serve(move |conn| {
            tell.send(conn.writer())?;
            conn.read_exact(&mut [0])?;
            Ok(conn.write_all(b"answer")?)
        })
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let mut writer: Writer = told.recv_timeout(DEADLINE).unwrap();
    let push = thread::spawn(move || writer.write_all(&vec![0; FAR_TOO_MUCH]));
    // The push is under way: the kernel has some of it.
    client.peek(&mut [0]).unwrap();
    client.write_all(b"?").unwrap();
    wait_until("the handler waits", DEADLINE, || {
        is_in_state(&server, 1, "waiting_to_write")
    });
    client.read_exact(&mut vec![0; FAR_TOO_MUCH]).unwrap();
    let mut answer = [0; 6];
    client.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"answer");
    push.join().unwrap().unwrap();
}

/// Blocks until the kernel has taken what it takes for a peer that reads nothing.
fn wait_until_full(peer: &TcpStream) {
    let (mut unread, mut since) = (0, Instant::now());
    wait_until("the kernel is full", DEADLINE, || {
        let now = ioctl_fionread(peer).unwrap();
        if now != std::mem::replace(&mut unread, now) {
            since = Instant::now();
        }
        now > 0 && since.elapsed() > Duration::from_millis(300)
    });
}

/// A server whose first connection is a subscriber that takes nothing. Every later connection
/// publishes to it: its handler writes far too much through the subscriber's writer.
fn publishing(publishers: usize) -> (Server, Vec<TcpStream>) {
    let (tell, told) = channel();
    let subscriber: Mutex<Option<Writer>> = Mutex::default();
    let server = builder(|config| config.write_timeout = None)
        .serve(move |conn| {
            let writer = subscriber.lock().unwrap().clone();
            match writer {
                None => {
                    *subscriber.lock().unwrap() = Some(conn.writer());
                    tell.send(())?;
                    Ok(io::copy(conn, &mut io::sink()).map(drop)?)
                }
                Some(mut writer) => Ok(writer.write_all(&vec![0; FAR_TOO_MUCH])?),
            }
        })
        .unwrap();
    let mut clients = vec![client::connect(server.local_addrs()[0])];
    told.recv_timeout(DEADLINE).unwrap();
    for publisher in 0..publishers {
        clients.push(client::connect(server.local_addrs()[0]));
        wait_until("the publisher waits", DEADLINE, || {
            is_in_state(&server, publisher as u64 + 2, "waiting_to_write")
        });
        if publisher == 0 {
            wait_until_full(&clients[0]);
        }
    }
    (server, clients)
}

/// The publisher's own socket is not what its thread waits for.
#[test]
fn an_abort_ends_a_handler_that_waits_in_the_writer_of_another_connection() {
    let (server, mut clients) = publishing(2);
    // The second publisher waits behind the write of the first. Nothing of its own is written, so
    // the subscriber goes on.
    assert!(server.abort(3));
    wait_until("the second publisher ended", DEADLINE, || {
        server.stats().ended.get(EndReason::Aborted) == 1
    });
    assert!(is_in_state(&server, 1, "reading") && is_in_state(&server, 2, "waiting_to_write"));
    // The first is in the middle of its write. What would follow could not be told apart from that
    // part, so the subscriber ends, too.
    assert!(server.abort(2));
    wait_until("the first publisher ended", DEADLINE, || {
        server.stats().ended.get(EndReason::Aborted) == 3
    });
    assert!(server.connections().is_empty());
    let (_, _) = client::read_to_end(&mut clients[0]);
    let report = within("the end", DEADLINE, move || server.shutdown(DEADLINE));
    assert!(
        report.stuck.is_empty() && report.is_balanced(),
        "{report:?}"
    );
}

/// What a handler has to say as it ends is said, as far as that takes no wait.
#[test]
fn a_handler_whose_own_connection_was_aborted_can_still_tell_another() {
    let (tell, told) = channel();
    let subscriber: Mutex<Option<Writer>> = Mutex::default();
    let server = builder(|_| {})
        .serve(move |conn| {
            let writer = subscriber.lock().unwrap().clone();
            if writer.is_none() {
                *subscriber.lock().unwrap() = Some(conn.writer());
            }
            tell.send(())?;
            let end = io::copy(conn, &mut io::sink());
            if let Some(mut writer) = writer {
                writer.write_all(b"left\n")?;
            }
            Ok(end.map(drop)?)
        })
        .unwrap();
    let mut subscriber = client::connect(server.local_addrs()[0]);
    told.recv_timeout(DEADLINE).unwrap();
    let _publisher = client::connect(server.local_addrs()[0]);
    told.recv_timeout(DEADLINE).unwrap();
    assert!(server.abort(2));
    let mut said = [0; 5];
    subscriber.read_exact(&mut said).unwrap();
    assert_eq!(&said, b"left\n");
}

/// The socket of a publisher whose peer is gone can wake nobody any more.
#[test]
fn an_abort_ends_a_handler_in_the_writer_of_another_whose_own_peer_was_reset_before() {
    let (server, mut clients) = publishing(1);
    client::reset(clients.pop().unwrap());
    // Its end is not the server's, so the write goes on.
    stays("the publisher waits", Duration::from_millis(300), || {
        is_in_state(&server, 2, "waiting_to_write")
    });
    assert!(server.abort(2));
    wait_until("the publisher ended", DEADLINE, || {
        server.stats().ended.get(EndReason::Aborted) == 2
    });
}

/// The time that the writer of [`a_process_that_is_stopped_times_no_writer_out`] has.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// Longer than the writer's time.
const STOPPED_FOR: Duration = WRITE_TIMEOUT.saturating_add(Duration::from_millis(500));
/// All of it is far less than the writer's time.
const PEER_RESTS: Duration = Duration::from_millis(200);
const PEER_READS_EVERY: Duration = Duration::from_millis(5);

/// What is stopped is a second process of this test binary.
#[test]
fn a_process_that_is_stopped_times_no_writer_out() {
    const IS_SECOND: &str = "DRAINLINE_TEST_IS_SECOND";
    if std::env::var_os(IS_SECOND).is_some() {
        return writes_to_a_slow_peer();
    }
    let name = "writers::a_process_that_is_stopped_times_no_writer_out";
    let mut second = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture"])
        .env(IS_SECOND, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(second.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().ends_with("writing")));
    let pid = Pid::from_child(&second);
    kill_process(pid, Signal::STOP).unwrap();
    while !proc::is_stopped(second.id()) {
        thread::yield_now();
    }
    thread::sleep(STOPPED_FOR);
    kill_process(pid, Signal::CONT).unwrap();
    said.for_each(drop);
    assert!(second.wait().unwrap().success());
}

/// The kernel takes little at a time, so that one write waits often.
fn writes_to_a_slow_peer() {
    let (tell, told) = channel();
    let server = builder(|config| config.write_timeout = Some(WRITE_TIMEOUT))
        .serve(move |conn| {
            SockRef::from(&*conn).set_send_buffer_size(4096)?;
            tell.send(conn.writer())?;
            Ok(io::copy(conn, &mut io::sink()).map(drop)?)
        })
        .unwrap();
    let client = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    client.set_recv_buffer_size(2048).unwrap();
    client.connect(&server.local_addrs()[0].into()).unwrap();
    let mut client = TcpStream::from(client);
    let mut writer: Writer = told.recv_timeout(DEADLINE).unwrap();
    let write = thread::spawn(move || writer.write_all(&[0; 64 << 10]));
    client.read_exact(&mut [0; 2048]).unwrap();
    io::stdout().write_all(b"writing\n").unwrap();
    // Stopped in here.
    thread::sleep(PEER_RESTS);
    for _ in 1..32 {
        thread::sleep(PEER_READS_EVERY);
        client.read_exact(&mut [0; 2048]).unwrap();
    }
    write.join().unwrap().unwrap();
}
