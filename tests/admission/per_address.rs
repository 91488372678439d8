//! So many connections per peer address; networks that are exempt; an address is one however it is
//! written.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};

use crate::common::client::{self, Closed};
use crate::common::echo;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{Config, Peer, RejectReason};
use socket2::{Domain, Socket, Type};

/// A whole network of them is on loopback.
const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);

fn at_most_per_ip(connections: usize, exempt: &[&str]) -> Config {
    let mut config = small::config();
    config.max_connections_per_ip = Some(connections);
    config.per_ip_exempt = exempt.iter().map(|net| net.parse().unwrap()).collect();
    config
}

fn connect_from(from: Ipv4Addr, port: u16) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_write_timeout(Some(DEADLINE)).unwrap();
    stream
}

fn served_from(from: Ipv4Addr, port: u16) -> TcpStream {
    let mut client = connect_from(from, port);
    echo::assert_served(&mut client);
    client
}

#[track_caller]
fn assert_turned_away(mut client: TcpStream) {
    assert_eq!(client::wait_for_close(&mut client), Closed::Clean);
}

#[test]
fn each_address_has_its_own_share_and_gets_it_back() {
    let server = echo::start(at_most_per_ip(2, &[]), &[echo::ANY]);
    let port = server.local_addrs()[0].port();
    let mut one: Vec<_> = (0..2).map(|_| served_from(ONE, port)).collect();
    for _ in 0..3 {
        assert_turned_away(connect_from(ONE, port));
    }
    let mut other: Vec<_> = (0..2).map(|_| served_from(OTHER, port)).collect();
    assert_turned_away(connect_from(OTHER, port));
    one.iter_mut()
        .chain(&mut other)
        .for_each(echo::assert_served);
    let stats = server.stats();
    assert_eq!((stats.open, stats.accepted), (4, 4));
    assert_eq!(stats.rejected.get(RejectReason::PerAddress), 4);
    assert_eq!(stats.rejected.total(), 4);

    // A place that comes back is that address's, and no other's.
    drop(one.pop());
    wait_until("its place again", DEADLINE, || {
        echo::is_served(&mut connect_from(ONE, port), DEADLINE)
    });
    assert_turned_away(connect_from(OTHER, port));
    let stats = server.shutdown(DEADLINE).stats;
    assert!(stats.is_balanced(), "{stats:?}");
}

#[test]
fn exempt_networks_have_no_limit() {
    let config = at_most_per_ip(1, &["10.0.0.0/8", "127.0.0.2/32"]);
    let server = echo::start(config, &[echo::ANY]);
    let port = server.local_addrs()[0].port();
    let _one: Vec<_> = (0..5).map(|_| served_from(ONE, port)).collect();
    let _other = served_from(OTHER, port);
    assert_turned_away(connect_from(OTHER, port));
    server.shutdown(DEADLINE);
}

#[test]
fn without_a_limit_an_address_has_as_many_as_there_are() {
    let server = echo::start(small::config(), &[echo::ANY]);
    let port = server.local_addrs()[0].port();
    let _one: Vec<_> = (0..20).map(|_| served_from(ONE, port)).collect();
    assert_eq!(server.shutdown(DEADLINE).stats.rejected.total(), 0);
}

/// A machine without IPv6 has no such listener.
fn has_ipv6() -> bool {
    let has_ipv6 = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has_ipv6 {
        eprintln!("skipped: this machine has no IPv6");
    }
    has_ipv6
}

#[test]
fn an_ipv4_mapped_address_counts_as_ipv4_over_all_listeners() {
    if !has_ipv6() {
        return;
    }
    let server = echo::start(at_most_per_ip(2, &[]), &["[::]:0", "127.0.0.1:0"]);
    let [dual, v4] = [0, 1].map(|at| server.local_addrs()[at].port());
    let _served = [served_from(ONE, dual), served_from(ONE, v4)];
    let peers: Vec<_> = server.connections().iter().map(|info| info.peer).collect();
    let is_v4 = |peer: &Peer| peer.ip().is_some_and(|ip| ip.is_ipv4());
    assert!(peers.iter().all(is_v4), "{peers:?}");
    assert_turned_away(connect_from(ONE, dual));
    assert_turned_away(connect_from(ONE, v4));
    let _other = served_from(OTHER, dual);

    // IPv6 has a count of its own.
    let to = SocketAddr::from((Ipv6Addr::LOCALHOST, dual));
    let _v6: Vec<_> = (0..2).map(|_| echo::connect_served(to)).collect();
    assert_turned_away(client::connect(to));
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!(stats.rejected.get(RejectReason::PerAddress), 3);
}

#[test]
fn an_exempt_ipv4_network_holds_the_mapped_addresses_too() {
    if !has_ipv6() {
        return;
    }
    let server = echo::start(at_most_per_ip(1, &["127.0.0.2/32"]), &["[::]:0"]);
    let port = server.local_addrs()[0].port();
    let _one: Vec<_> = (0..3).map(|_| served_from(ONE, port)).collect();
    let _other = served_from(OTHER, port);
    assert_turned_away(connect_from(OTHER, port));
    server.shutdown(DEADLINE);
}

#[test]
fn an_ipv4_client_of_an_ipv6_listener_is_told_and_exempt_as_ipv4() {
    let server = echo::start(at_most_per_ip(1, &["::ffff:127.0.0.2/128"]), &["[::]:0"]);
    let port = server.local_addrs()[0].port();
    let _exempt: Vec<_> = (0..3).map(|_| served_from(ONE, port)).collect();
    let _one = served_from(OTHER, port);
    assert_turned_away(connect_from(OTHER, port));
    let mut peers: Vec<_> = server
        .connections()
        .iter()
        .map(|connection| connection.peer.ip().unwrap().to_string())
        .collect();
    peers.sort_unstable();
    assert_eq!(peers, ["127.0.0.2", "127.0.0.2", "127.0.0.2", "127.0.0.3"]);
    server.shutdown(DEADLINE);
}

#[test]
fn an_address_above_its_share_spends_nothing_of_the_accept_rate() {
    let mut config = at_most_per_ip(1, &[]);
    config.accept_rate = Some(1);
    let server = echo::start(config, &[echo::ANY]);
    let port = server.local_addrs()[0].port();
    let _one = served_from(ONE, port);
    // At one accept a second these alone would take minutes, and whoever comes behind them would
    // wait as long.
    let greedy: Vec<_> = (0..200).map(|_| connect_from(ONE, port)).collect();
    let _other = served_from(OTHER, port);
    greedy.into_iter().for_each(assert_turned_away);
    let stats = server.shutdown(DEADLINE).stats;
    let rejected = stats.rejected.get(RejectReason::PerAddress);
    assert_eq!((stats.accepted, rejected), (2, 200));
}
