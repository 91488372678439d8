//! How a handler learns that the server drains, and that it is never mistaken for the peer's end of
//! stream.

use std::io::{Read, Write};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::common::client;
use crate::common::handlers::{LONG, anywhere, drained, wait_open};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until, within};
use drainline::{Connection, EndReason, Ended};
use rustix::net::SendFlags;

/// What a read said: how much, or why the server ended it.
type End = Result<usize, Option<EndReason>>;

#[test]
fn a_handler_that_does_not_read_sees_that_the_server_drains() {
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(
            |conn, out| {
                wait_until("the drain", DEADLINE, || conn.is_draining());
                // It may still send its last words.
                Ok(out.send("drained".to_owned())?)
            },
            |_| Ok(()),
        )
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    wait_open(&server, 1);
    let report = drained(server);
    assert_eq!(report.stats.delivered, 1);
    assert_eq!(report.stats.ended.get(EndReason::HandlerReturned), 1);
}

/// Reads to the end, and once more; tells what the last two reads said.
fn last_reads(conn: &mut Connection) -> [End; 2] {
    let mut buffer = [0; 100];
    let mut read = || {
        conn.read(&mut buffer)
            .map_err(|error| Ended::reason_of(&error))
    };
    loop {
        match read() {
            Ok(1..) => {}
            end => return [end, read()],
        }
    }
}

#[test]
fn a_read_returns_0_at_the_peers_end_of_stream_and_never_because_of_a_drain_or_a_deadline() {
    for deadline in [LONG, Duration::ZERO] {
        let (ends, ended) = channel();
        let ends = Mutex::new(ends);
        let mut config = small::config();
        config.max_connections = Some(100);
        let server = small::server::<String>()
            .config(config)
            .listen(anywhere())
            .start_each(
                move |conn, _| {
                    let reads = last_reads(conn);
                    Ok(ends.lock().unwrap().send((conn.peer(), reads))?)
                },
                |_| Ok(()),
            )
            .unwrap();
        let mut clients = client::connect_many(server.local_addrs()[0], 100);
        let leavers = clients.split_off(50);
        wait_open(&server, 100);
        for client in &mut clients {
            client.write_all(b"in a message").unwrap();
        }
        let left: Vec<_> = leavers
            .iter()
            .map(|it| it.local_addr().unwrap().into())
            .collect();
        drop(leavers);
        wait_open(&server, 50);
        within("the shutdown", DEADLINE, move || server.shutdown(deadline));
        for _ in 0..100 {
            let (peer, reads) = ended.recv_timeout(DEADLINE).unwrap();
            if left.contains(&peer) {
                assert_eq!(reads, [Ok(0), Ok(0)], "{peer} left");
            } else {
                let cut = Err(Some(EndReason::Shutdown));
                assert_eq!(reads, [cut, cut], "{peer} stayed, {deadline:?}");
            }
        }
    }
}

#[test]
fn a_stream_that_had_ended_stays_ended_while_the_server_drains() {
    let (tell, told) = channel();
    let tell = Mutex::new(tell);
    let server = small::server::<String>()
        .listen(anywhere())
        .start_each(
            move |conn, _| {
                tell.lock().unwrap().send(last_reads(conn))?;
                wait_until("the drain", DEADLINE, || conn.is_draining());
                Ok(tell.lock().unwrap().send(last_reads(conn))?)
            },
            |_| Ok(()),
        )
        .unwrap();
    drop(client::connect(server.local_addrs()[0]));
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), [Ok(0); 2]);
    let report = drained(server);
    assert_eq!(told.recv_timeout(DEADLINE).unwrap(), [Ok(0); 2]);
    assert_eq!(report.stats.ended.get(EndReason::NoData), 1);
}

/// Before and after an urgent byte.
const AROUND: [usize; 2] = [10, 20_000];

#[test]
fn an_urgent_byte_hides_nothing_from_a_drain_or_from_what_is_told_as_unread() {
    let own = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for (reads, inherited) in [(true, None), (false, None), (true, Some(own))] {
        let (tell, told) = channel();
        let tell = Mutex::new(tell);
        let mut builder = small::server::<String>();
        builder = match inherited {
            None => builder.listen(anywhere()),
            Some(listener) => builder.listener(listener),
        };
        let server = builder
            .start_each(
                move |conn, _| {
                    wait_until("the drain", DEADLINE, || conn.is_draining());
                    let mut read = Vec::new();
                    if reads {
                        let _ = conn.read_to_end(&mut read);
                    }
                    Ok(tell.lock().unwrap().send(read)?)
                },
                |_| Ok(()),
            )
            .unwrap();
        let mut client = client::connect(server.local_addrs()[0]);
        client.write_all(&[b'x'; AROUND[0]]).unwrap();
        rustix::net::send(&client, b"!", SendFlags::OOB).unwrap();
        client.write_all(&[b'x'; AROUND[1]]).unwrap();
        let all = AROUND[0] + 1 + AROUND[1];
        wait_open(&server, 1);
        client::wait_unread(&client, all as u64);
        let report = drained(server);
        let read = told.recv_timeout(DEADLINE).unwrap();
        if reads {
            assert_eq!((read.len(), read[AROUND[0]]), (all, b'!'));
        } else {
            assert_eq!(report.stats.unread_bytes, all as u64);
        }
    }
}
