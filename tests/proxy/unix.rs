//! Over a Unix socket: users are listed by their uid, and so are balancers.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use drainline::{Listener, Peer, Peers, RejectReason, Server};

use crate::behind::{CLIENT, OTHER, binary, line, peer};
use crate::common::echo;
use crate::common::handlers::drained;
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::unix::{self, Place};

fn start(set: impl FnOnce(Listener) -> Listener) -> (Server, Place) {
    let place = Place::new();
    let server = small::server::<Vec<u8>>()
        .listener(set(Listener::unix(&place.path)))
        .start_each(echo::echo, |_| Ok(()))
        .unwrap();
    (server, place)
}

fn me() -> u32 {
    rustix::process::geteuid().as_raw()
}

/// Whether what is sent behind `head` comes back.
fn is_served(place: &Place, head: &[u8]) -> (bool, UnixStream) {
    let mut stream = unix::connect(&place.path);
    let _ = stream.write_all(&[head, b"."].concat());
    let mut byte = [0];
    let is_served = matches!(stream.read(&mut byte), Ok(1));
    (is_served && byte == *b".", stream)
}

#[test]
fn users_are_allowed_by_their_uid() {
    for (allow, is_allowed) in [
        (vec![Peers::Uid(me())], true),
        (vec![Peers::Uid(me() + 1), "::/0".parse().unwrap()], false),
    ] {
        let (server, place) = start(|listener| listener.allow(allow));
        let (served, stream) = is_served(&place, b"");
        assert_eq!(served, is_allowed);
        drop(stream);
        let stats = drained(server).stats;
        assert_closes(&stats);
        assert_eq!(
            stats.rejected.get(RejectReason::NotAllowed),
            u64::from(!is_allowed)
        );
    }
}

#[test]
fn a_balancer_on_a_unix_socket_names_its_clients() {
    let (server, place) = start(|listener| {
        let clients: Peers = "192.0.2.0/24".parse().unwrap();
        listener.proxy_from([Peers::Uid(me())]).allow([clients])
    });
    for head in [line(CLIENT), binary(CLIENT)] {
        let (served, stream) = is_served(&place, &head);
        assert!(served);
        let connections = server.connections();
        let balancer = Peer::Unix {
            pid: Some(std::process::id() as i32),
            uid: me(),
        };
        let found = connections.iter().find(|it| it.peer == peer(CLIENT));
        assert_eq!(found.unwrap().balancer, Some(balancer));
        drop(stream);
    }
    assert!(!is_served(&place, &line(OTHER)).0);
    assert!(!is_served(&place, b"<13>no head\n").0);
    let stats = drained(server).stats;
    assert_closes(&stats);
    assert_eq!(stats.rejected.total(), 0);
    // Somebody else is no balancer.
    let (server, place) = start(|listener| listener.proxy_from([Peers::Uid(me() + 1)]));
    assert!(!is_served(&place, &line(CLIENT)).0);
    assert_eq!(
        drained(server).stats.rejected.get(RejectReason::NotAllowed),
        1
    );
}
