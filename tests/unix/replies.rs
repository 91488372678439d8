//! Replies, writers of other threads and requests are over a Unix socket as they are over TCP.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use drainline::{EndReason, Ended, Listener, Server, Writer};

use crate::common::client::Closed;
use crate::common::handlers::{drained, large_reply, upper_case};
use crate::common::small;
use crate::common::unix::{self, Place};
use crate::common::wait::{DEADLINE, wait_until, within};

/// Pub/sub: who sends a line, sends it to all, by the writers of their connections.
#[test]
fn what_one_publishes_all_get_whole_and_in_one_order() {
    const SUBSCRIBERS: usize = 4;
    const LINES: usize = 500;
    let line = |n: usize| format!("{n} {}\n", "x".repeat(n * 37 % 5000));
    let place = Place::new();
    let room: Arc<Mutex<Vec<Writer>>> = Arc::default();
    let in_room = Arc::clone(&room);
    let server = small::server::<()>()
        .listener(Listener::unix(&place.path))
        .serve(move |conn| {
            in_room.lock().unwrap().push(conn.writer());
            for line in BufReader::new(&*conn).lines() {
                let line = format!("{}\n", line?);
                for writer in in_room.lock().unwrap().iter_mut() {
                    writer.write_all(line.as_bytes())?;
                }
            }
            Ok(())
        })
        .unwrap();
    let clients: Vec<_> = (0..SUBSCRIBERS)
        .map(|_| unix::connect(&place.path))
        .collect();
    wait_until("all in the room", DEADLINE, || {
        room.lock().unwrap().len() == SUBSCRIBERS
    });
    let mut publisher = clients[0].try_clone().unwrap();
    let publishing = thread::spawn(move || {
        for n in 0..LINES {
            publisher.write_all(line(n).as_bytes()).unwrap();
        }
    });
    thread::scope(|scope| {
        for client in &clients {
            scope.spawn(move || {
                let mut reader = BufReader::new(client);
                for n in 0..LINES {
                    let mut got = String::new();
                    reader.read_line(&mut got).unwrap();
                    assert_eq!(got, line(n));
                }
            });
        }
    });
    publishing.join().unwrap();
    room.lock().unwrap().clear();
    drop(clients);
    drained(server);
}

#[test]
fn a_request_is_answered() {
    let place = Place::new();
    let server = upper_case(Listener::unix(&place.path));
    let mut client = unix::connect(&place.path);
    client.write_all(b"one\ntwo\n").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    assert_eq!(
        unix::read_to_end(&mut client),
        (b"ONE\nTWO\n".to_vec(), Closed::Clean)
    );
    drained(server);
}

#[test]
fn a_large_reply_arrives_whole_and_so_does_the_end_before_the_handler_returns() {
    const LEN: usize = 5_000_000;
    let place = Place::new();
    let (server, tell) = large_reply(Listener::unix(&place.path), LEN);
    let mut client = unix::connect(&place.path);
    let (all, closed) = unix::read_to_end(&mut client);
    assert_eq!((all.len(), closed), (LEN, Closed::Clean));
    client.write_all(b"y").unwrap();
    tell.send(()).unwrap();
    wait_until("an end", DEADLINE, || {
        server.stats().ended.get(EndReason::HandlerReturned) == 1
    });
    drained(server);
}

/// A server whose handlers hand out a writer, and read to the end.
fn subscribed(place: &Place, write_timeout: Option<Duration>) -> (Server, Writer, UnixStream) {
    let mut config = small::config();
    config.write_timeout = write_timeout;
    let (tell, told) = channel();
    let server = Server::builder::<()>()
        .config(config)
        .listener(Listener::unix(&place.path))
        .serve(move |conn| {
            tell.send(conn.writer())?;
            Ok(std::io::copy(conn, &mut std::io::sink()).map(drop)?)
        })
        .unwrap();
    let client = unix::connect(&place.path);
    let writer = told.recv_timeout(DEADLINE).unwrap();
    (server, writer, client)
}

#[test]
fn a_peer_that_takes_nothing_ends_a_writers_connection_by_its_deadline() {
    let place = Place::new();
    let (server, mut writer, client) = subscribed(&place, Some(Duration::from_millis(500)));
    let writing = within("the write", DEADLINE, move || {
        let error = writer.write_all(&vec![b'x'; 64 << 20]).unwrap_err();
        (writer, error)
    });
    let (writer, error) = writing;
    assert_eq!(Ended::reason_of(&error), Some(EndReason::WriteTimeout));
    assert!(writer.is_closed());
    wait_until("an end", DEADLINE, || {
        server.stats().ended.get(EndReason::WriteTimeout) == 1
    });
    drop(client);
    drained(server);
}

#[test]
fn a_write_that_is_under_way_ends_with_its_peer() {
    let place = Place::new();
    let (server, mut writer, client) = subscribed(&place, None);
    let write = thread::spawn(move || writer.write_all(&vec![b'x'; 64 << 20]));
    // The kernel has all that it takes.
    let mut first = [0];
    (&client).read_exact(&mut first).unwrap();
    drop(client);
    let error = within("the write", DEADLINE, move || write.join().unwrap());
    assert!(error.is_err());
    drained(server);
}
