//! Waiting for a head ends: by its deadline, a drain, an abort and a peer that is gone, and by no
//! other deadline.

use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use drainline::{EndReason, FirstByteTimeout};

use crate::behind::{Behind, CLIENT, binary, config, line};
use crate::common::client::{self, Closed};
use crate::common::handlers::{LONG, anywhere, wait_open};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until, within};
use crate::heads::encode::{PROXY, v2_of};

const SHORT: Duration = Duration::from_millis(300);

#[test]
fn a_silent_and_a_trickled_head_time_out() {
    let behind = Behind::start(config().handshake_timeout(SHORT));
    // As long as one may be, 4,096 bytes: to trickle it takes two minutes.
    let head = v2_of(PROXY, 0x11, &[0; 4080]);
    for sent in 1..=2 {
        let mut connection = behind.connect();
        if sent == 2 {
            let taken = client::trickle(&mut connection, &head, Duration::from_millis(30));
            assert!(taken < head.len(), "it was never disconnected");
        }
        client::wait_for_close(&mut connection);
        wait_until("the deadline", DEADLINE, || {
            let stats = behind.server.stats();
            stats.ended.get(EndReason::HandshakeTimeout) == sent
        });
    }
    let report = behind.end();
    assert_eq!(report.stats.ended.total(), 2);
    assert!(!report.is_lossy());
}

#[test]
fn other_deadlines_begin_behind_the_head() {
    let mut config = config();
    config.idle_timeout = Some(SHORT);
    config.first_byte_timeout = FirstByteTimeout::After(SHORT);
    config.frame_timeout = Some(SHORT);
    let behind = Behind::start(config);
    let mut connection = behind.connect();
    let head = binary(CLIENT);
    connection.write_all(&head[..20]).unwrap();
    behind.wait_handshaking();
    stays("waiting for the head", 4 * SHORT, || {
        behind.server.stats().open == 1
    });
    connection.write_all(&head[20..]).unwrap();
    assert!(behind.seen().bytes.is_empty());
    let stats = behind.end().stats;
    let silent =
        stats.ended.get(EndReason::IdleTimeout) + stats.ended.get(EndReason::FirstByteTimeout);
    assert_eq!((silent, stats.ended.total()), (1, 1));
}

#[test]
fn a_drain_ends_the_wait_for_a_head_and_loses_nothing_by_it() {
    let behind = Behind::start(config());
    let silent = behind.connect();
    let mut half = behind.connect();
    half.write_all(&line(CLIENT)[..20]).unwrap();
    wait_open(&behind.server, 2);
    client::wait_unread(&half, 0);
    let report = behind.end();
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 2);
    assert_eq!(report.stats.unread_bytes, 0);
    assert!(!report.is_lossy());
    drop(silent);
}

/// And of what a client sends, no more than the kernel had by then: the head is not counted twice.
#[test]
fn a_drain_serves_who_has_sent_a_whole_head() {
    let may_begin = Arc::new(AtomicBool::new(false));
    let begins = Arc::clone(&may_begin);
    let (begun, has_begun) = channel();
    let (go_on, may_read) = channel::<()>();
    let (tell, told) = channel();
    let ends = Mutex::new((begun, may_read, tell));
    let server = small::server::<Vec<u8>>()
        .config(config())
        .listen(anywhere())
        // The client waits for its thread meanwhile.
        .spawner(move |builder, body| match begins.load(Ordering::SeqCst) {
            true => builder.spawn(body),
            false => Err(io::ErrorKind::WouldBlock.into()),
        })
        .start_each(
            move |conn, _| {
                let (begun, may_read, tell) = &*ends.lock().unwrap();
                begun.send(conn.peer())?;
                may_read.recv()?;
                let mut bytes = Vec::new();
                let _ = conn.read_to_end(&mut bytes);
                Ok(tell.send(bytes)?)
            },
            |_| Ok(()),
        )
        .unwrap();
    let address = server.local_addrs()[0];
    let mut client = client::connect(address);
    let stream = [&line(CLIENT)[..], &[b'x'; 3000]].concat();
    client.write_all(&stream).unwrap();
    wait_until("a client without a thread", DEADLINE, || {
        server.stats().starting == 1
    });
    client::wait_unread(&client, stream.len() as u64);
    server.drain(LONG);
    let draining = thread::spawn(move || server.wait());
    may_begin.store(true, Ordering::SeqCst);
    let peer = has_begun.recv_timeout(DEADLINE).unwrap();
    assert_eq!(peer.to_string(), CLIENT);
    client.write_all(&[b'y'; 3000]).unwrap();
    client::wait_unread(&client, 6000);
    go_on.send(()).unwrap();
    let bytes = told.recv_timeout(DEADLINE).unwrap();
    assert!(bytes == [b'x'; 3000], "{} bytes", bytes.len());
    let report = within("the drain", DEADLINE, || draining.join().unwrap());
    assert!(!report.timed_out);
    assert_closes(&report.stats);
    assert_eq!(report.stats.unread_ended.get(EndReason::Shutdown), 3000);
}

/// Who waits in the kernel's queue has its turn when a permit comes back: clients that do not go on
/// do not take the drain's time from who stands behind them, one after the other.
#[test]
fn a_drain_waits_for_all_who_do_not_go_on_at_once() {
    let head = v2_of(PROXY, 0x11, &[0; 4080]);
    for trickles in [false, true] {
        let mut config = config();
        config.max_connections = Some(1);
        let behind = Behind::start(config);
        let clients = client::connect_many(behind.address(), 30);
        let mut last = behind.connect();
        let stream = [&line(CLIENT)[..], b"in time"].concat();
        last.write_all(&stream).unwrap();
        client::wait_unread(&last, stream.len() as u64);
        wait_open(&behind.server, 1);
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for byte in head.chunks(1).take_while(|_| trickles) {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    for mut client in &clients {
                        let _ = client.write_all(byte);
                    }
                    thread::sleep(Duration::from_millis(50));
                }
            });
            behind.server.drain(Duration::from_secs(24));
            let report = behind.server.wait();
            is_over.store(true, Ordering::SeqCst);
            assert!(!report.timed_out, "{trickles}: {report:?}");
            assert_eq!(report.stats.rejected.total(), 0, "{trickles}: {report:?}");
            assert_eq!(report.stats.ended.get(EndReason::Shutdown), 31);
            assert_closes(&report.stats);
            assert_eq!(
                behind.seen.recv_timeout(DEADLINE).unwrap().bytes,
                b"in time"
            );
        });
    }
}

#[test]
fn an_abort_ends_the_wait_for_a_head() {
    let behind = Behind::start(config());
    let mut connection = behind.connect();
    connection.write_all(&line(CLIENT)[..20]).unwrap();
    let id = behind.wait_handshaking();
    assert!(behind.server.abort(id));
    client::wait_for_close(&mut connection);
    let stats = behind.end().stats;
    assert_eq!(stats.ended.get(EndReason::Aborted), 1);
}

#[test]
fn a_peer_that_is_gone_ends_the_wait_for_a_head() {
    let behind = Behind::start(config());
    for close in [client::reset, |connection| {
        assert_eq!(client::half_close(connection), Closed::Clean);
    }] {
        let mut connection = behind.connect();
        connection.write_all(&binary(CLIENT)[..20]).unwrap();
        behind.wait_handshaking();
        client::wait_unread(&connection, 0);
        close(connection);
        wait_open(&behind.server, 0);
    }
    let stats = behind.end().stats;
    assert_eq!(stats.ended.get(EndReason::ProtocolError), 1);
    assert_eq!(stats.ended.total(), 2);
}
