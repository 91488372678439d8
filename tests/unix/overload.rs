//! What new clients meet while the server is not accepting.

use std::io::{Read, Write};
use std::time::Duration;

use crate::common::client::Closed;
use crate::common::echo::echo;
use crate::common::handlers::{drained, wait_open};
use crate::common::small;
use crate::common::unix::{self, Place};
use crate::common::wait::{DEADLINE, stays, wait_until};
use drainline::{Listener, NotAcceptingReason, OnOverload, RejectReason, Server};

/// A server of one connection, which is taken.
fn full(place: &Place, on_overload: OnOverload) -> (Server, std::os::unix::net::UnixStream) {
    let mut config = small::config();
    config.max_connections = Some(1);
    config.on_overload = on_overload;
    // A limit for each address is none for a process of this machine.
    config.max_connections_per_ip = Some(1);
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(Listener::unix(&place.path))
        .start_each(echo, |_| Ok(()))
        .unwrap();
    let mut served = unix::connect(&place.path);
    served.write_all(b".").unwrap();
    served.read_exact(&mut [0]).unwrap();
    (server, served)
}

#[test]
fn in_the_backlog_clients_wait_and_are_served_in_turn() {
    let place = Place::new();
    let (server, served) = full(&place, OnOverload::Backlog);
    let mut waiting: Vec<_> = (0..5).map(|_| unix::connect(&place.path)).collect();
    for client in &mut waiting {
        client.write_all(b"!").unwrap();
    }
    stays("they wait", Duration::from_millis(300), || {
        let stats = server.stats();
        (stats.accepted, stats.rejected.total()) == (1, 0)
    });
    drop(served);
    for mut client in waiting {
        client.read_exact(&mut [0]).unwrap();
        assert_eq!(unix::half_close(client), Closed::Clean);
    }
    let report = drained(server);
    assert_eq!(
        (report.stats.accepted, report.stats.rejected.total()),
        (6, 0)
    );
}

/// A Unix socket that was shut down would never listen again.
#[test]
fn refuse_and_close_both_close_clients_and_accept_again_when_there_is_room() {
    for on_overload in [OnOverload::Close, OnOverload::Refuse] {
        let place = Place::new();
        let (server, served) = full(&place, on_overload);
        for _ in 0..3 {
            let mut client = unix::connect(&place.path);
            assert_eq!(unix::read_to_end(&mut client).1, Closed::Clean);
        }
        let stats = server.stats();
        assert_eq!(stats.rejected.get(RejectReason::MaxConnections), 3);
        wait_until("it is said", DEADLINE, || {
            let reason = server.stats().not_accepting.map(|now| now.reason);
            reason == Some(NotAcceptingReason::MaxConnections)
        });
        drop(served);
        wait_until("it accepts", DEADLINE, || {
            let mut client = unix::connect(&place.path);
            client.write_all(b".").is_ok() && matches!(client.read(&mut [0]), Ok(1))
        });
        let report = drained(server);
        assert!(report.stats.rejected.get(RejectReason::PerAddress) == 0);
    }
}

#[test]
fn no_limit_of_an_address_holds_for_processes_of_this_machine() {
    let place = Place::new();
    let mut config = small::config();
    config.max_connections_per_ip = Some(1);
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listener(Listener::unix(&place.path))
        .start_each(echo, |_| Ok(()))
        .unwrap();
    let clients: Vec<_> = (0..5).map(|_| unix::connect(&place.path)).collect();
    wait_open(&server, 5);
    drop(clients);
    assert_eq!(drained(server).stats.rejected.total(), 0);
}
