//! Writers: what other threads push to a peer while its handler reads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::{Receiver as Told, channel};
use std::thread;
use std::time::Duration;

use drainline::{EndReason, Ended, Server, Writer};

use super::builder;
use super::common::client;
use super::common::wait::{DEADLINE, within};

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
