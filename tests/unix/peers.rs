//! What clients send arrives whole, and the server says who they are.

use std::io::{IoSlice, Read, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::sync::mpsc::channel;

use crate::common::client::{self, Closed};
use crate::common::echo::echo;
use crate::common::handlers::{drained, lines, wait_open};
use crate::common::ledger::{assert_both_close, assert_closes};
use crate::common::small;
use crate::common::tagged::Tagged;
use crate::common::unix::{self, Place};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use drainline::ingest::{Batches, Sink, SinkError};
use drainline::policy::Activity;
use drainline::{Address, EndReason, Listener, Peer, Peers, RejectReason};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};

/// This process, as a peer.
fn this_process() -> Peer {
    Peer::Unix {
        pid: Some(std::process::id() as i32),
        uid: rustix::process::geteuid().as_raw(),
    }
}

#[test]
fn what_many_clients_send_in_pieces_arrives_once_and_both_ledgers_close() {
    const CLIENTS: u32 = 8;
    const MESSAGES: u64 = 2_000;
    let place = Place::new();
    let valve = Valve::open();
    let server = small::ingest()
        .listener(Listener::unix(&place.path))
        .start(valve.sink())
        .unwrap();
    std::thread::scope(|scope| {
        for number in 0..CLIENTS {
            let path = &place.path;
            scope.spawn(move || {
                let bytes = Tagged::new(number).lines(0..MESSAGES, 100);
                let mut client = unix::connect(path);
                for piece in bytes.chunks(777) {
                    client.write_all(piece).unwrap();
                }
                assert_eq!(unix::half_close(client), Closed::Clean);
            });
        }
    });
    let report = drained(server);
    let sent: Vec<_> = (0..CLIENTS).map(|number| (number, MESSAGES)).collect();
    valve.checker().expect_exact(&sent);
    assert_both_close(&report);
    assert_eq!(report.stats.ended.get(EndReason::Eof), u64::from(CLIENTS));
    assert!(!report.is_lossy(), "{report:?}");
}

#[test]
fn a_peer_is_its_process_and_user_for_handlers_and_batches_and_in_the_list_of_connections() {
    struct Told(std::sync::mpsc::Sender<(Peer, String)>);
    impl Sink for Told {
        fn name(&self) -> String {
            "peers".to_owned()
        }

        fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
            while let Some(batch) = batches.first() {
                let told = (batch.peer(), batch.listener().to_owned());
                self.0.send(told).unwrap();
                batches.ack();
            }
            Ok(())
        }
    }
    let place = Place::new();
    let (tell, told) = channel();
    let server = small::ingest()
        .listener(Listener::unix(&place.path))
        .listen("127.0.0.1:0".parse().unwrap())
        .start(Told(tell))
        .unwrap();
    let address = Address::Unix(place.path.clone());
    assert_eq!(server.addresses()[0], address);
    assert_eq!(server.local_addrs().len(), 1, "TCP alone");
    let mut client = unix::connect(&place.path);
    client.write_all(b"hello\n").unwrap();
    let batch = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(batch, (this_process(), address.to_string()));
    let info = wait_for("a connection that reads", DEADLINE, || {
        let mut connections = server.connections().into_iter();
        connections.find(|info| info.state == Activity::Reading)
    });
    assert_eq!(info.peer, this_process());
    let (pid, uid) = (std::process::id(), rustix::process::geteuid().as_raw());
    let text = format!("1 unix:uid={uid},pid={pid} at {address} reading, for ");
    assert!(info.to_string().starts_with(&text), "{info}");
    // TCP beside it is as ever.
    let mut tcp = client::connect(server.local_addrs()[0]);
    tcp.write_all(b"hello\n").unwrap();
    let batch = told.recv_timeout(DEADLINE).unwrap();
    assert_eq!(batch.0, tcp.local_addr().unwrap().into());
    drop((client, tcp));
    assert_both_close(&drained(server));
}

#[test]
fn a_handler_reads_replies_and_ends_its_direction_as_over_tcp() {
    let place = Place::new();
    let path = place.path.clone();
    let server = small::server::<Vec<u8>>()
        .listener(Listener::unix(&path).named("local"))
        .start_each(
            move |conn, _| {
                assert_eq!(conn.local_addr()?, Address::Unix(path.clone()));
                assert_eq!((conn.peer(), conn.listener()), (this_process(), "local"));
                let mut text = String::new();
                (&*conn).read_to_string(&mut text)?;
                write!(&*conn, "you said {text}")?;
                conn.shutdown_write()?;
                Ok(())
            },
            |_| Ok(()),
        )
        .unwrap();
    let mut client = unix::connect(&place.path);
    client.write_all(b"hello").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    let answer = unix::read_to_end(&mut client);
    assert_eq!(answer, (b"you said hello".to_vec(), Closed::Clean));
    assert_closes(&drained(server).stats);
}

#[test]
fn a_peer_that_leaves_without_reading_its_reply_loses_nothing_that_it_had_sent() {
    let place = Place::new();
    let (seen, delivered) = channel();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(
            |conn, out| {
                (&*conn).write_all(b"a greeting that nobody reads")?;
                lines(conn, out)
            },
            move |line: String| Ok(seen.send(line)?),
        )
        .unwrap();
    let mut client = unix::connect(&place.path);
    wait_until("the greeting", DEADLINE, || {
        rustix::io::ioctl_fionread(&client).unwrap() > 0
    });
    client.write_all(&b"x\n".repeat(1000)).unwrap();
    drop(client);
    wait_until("its end", DEADLINE, || server.stats().ended.total() == 1);
    let report = drained(server);
    assert_eq!(report.stats.delivered, 1000);
    assert_eq!(report.stats.ended.get(EndReason::Reset), 1);
    assert_eq!(delivered.try_iter().count(), 1000);
}

/// Out of the stream, FIONREAD would count it all the same, and a drain would wait for a byte that
/// never comes.
#[test]
fn an_urgent_byte_stays_in_the_stream() {
    let place = Place::new();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(echo, |_| Ok(()))
        .unwrap();
    let mut client = unix::connect(&place.path);
    let send = |bytes: &[u8], flags| {
        let bytes = [IoSlice::new(bytes)];
        sendmsg::<()>(client.as_raw_fd(), &bytes, &[], flags, None).unwrap();
    };
    send(b"one", MsgFlags::empty());
    send(b"!", MsgFlags::MSG_OOB);
    send(b"two", MsgFlags::empty());
    client.shutdown(Shutdown::Write).unwrap();
    let answer = unix::read_to_end(&mut client);
    assert_eq!(answer, (b"one!two".to_vec(), Closed::Clean));
    assert_eq!(drained(server).stats.unread_bytes, 0);
}

#[test]
fn descriptors_that_a_peer_sends_are_not_kept() {
    let place = Place::new();
    let server = small::server()
        .listener(Listener::unix(&place.path))
        .start_each(echo, |_| Ok(()))
        .unwrap();
    let mut client = unix::connect(&place.path);
    client.write_all(b".").unwrap();
    client.read_exact(&mut [0]).unwrap();
    let (mut ours, theirs) = std::io::pipe().unwrap();
    let sent = [theirs.as_raw_fd()];
    for _ in 0..10 {
        let bytes = [IoSlice::new(b".")];
        let rights = [ControlMessage::ScmRights(&sent)];
        sendmsg::<()>(client.as_raw_fd(), &bytes, &rights, MsgFlags::empty(), None).unwrap();
        client.read_exact(&mut [0]).unwrap();
    }
    drop(theirs);
    // Whoever kept the other end would keep this one from its end of stream.
    assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    wait_open(&server, 1);
    drop(client);
    drained(server);
}

#[test]
fn a_list_by_user_lets_in_its_users_alone() {
    let own = rustix::process::geteuid().as_raw();
    for (list, is_allowed) in [
        (vec![Peers::Uid(own)], true),
        (
            vec![Peers::Uid(own + 1), "127.0.0.0/8".parse().unwrap()],
            false,
        ),
    ] {
        let place = Place::new();
        let server = small::server()
            .listener(Listener::unix(&place.path).allow(list))
            .start_each(echo, |_| Ok(()))
            .unwrap();
        let mut client = unix::connect(&place.path);
        match is_allowed {
            true => {
                client.write_all(b".").unwrap();
                client.read_exact(&mut [0]).unwrap();
            }
            false => assert_eq!(unix::read_to_end(&mut client).1, Closed::Clean),
        }
        drop(client);
        let stats = drained(server).stats;
        assert_closes(&stats);
        let rejected = stats.rejected.get(RejectReason::NotAllowed);
        assert_eq!(
            (stats.accepted, rejected),
            (u64::from(is_allowed), u64::from(!is_allowed))
        );
    }
}

/// A balancer on this machine, such as HAProxy with `server local unix@/run/a.sock send-proxy`.
#[test]
fn behind_a_balancer_on_a_unix_socket_the_peer_is_the_client_that_it_names() {
    let place = Place::new();
    let own = Peers::Uid(rustix::process::geteuid().as_raw());
    let mut config = small::config();
    config.max_connections_per_ip = Some(1);
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(Listener::unix(&place.path).proxy_from([own]))
        .start_each(
            |conn, _| {
                writeln!(&*conn, "{}", conn.peer())?;
                Ok(std::io::copy(&mut &*conn, &mut std::io::sink()).map(drop)?)
            },
            |_| Ok(()),
        )
        .unwrap();
    let behind = || {
        let mut client = unix::connect(&place.path);
        client
            .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 514\r\n")
            .unwrap();
        client
    };
    let mut first = behind();
    let mut answer = [0; 15];
    first.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"192.0.2.7:4711\n");
    // Its address has its share, which a peer of a Unix socket has not.
    let mut second = behind();
    assert_eq!(unix::read_to_end(&mut second).0, b"");
    drop(first);
    let stats = drained(server).stats;
    assert_eq!(stats.ended.get(EndReason::PerAddress), 1);
}
