//! TCP keepalive: on by default, as configured, inherited from the listener, and off where it is
//! off. The kernel tells (proc(5), /proc/net/tcp).

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use crate::common::echo::{self, ANY};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_for};
use drainline::{Config, Keepalive, Server};

/// The kernel's ticks a second in /proc.
const HZ: u64 = 100;

fn in_hex(addr: SocketAddr) -> String {
    let SocketAddr::V4(addr) = addr else {
        panic!("{addr} is not IPv4")
    };
    let ip = u32::from_ne_bytes(addr.ip().octets());
    format!("{ip:08X}:{:04X}", addr.port())
}

/// The timer of the server's end of a connection, and the time until it fires; the kernel shows
/// one, and a retransmission goes first.
fn timer(client: &TcpStream) -> (u64, Duration) {
    let ends = (client.peer_addr().unwrap(), client.local_addr().unwrap());
    let (local, remote) = (in_hex(ends.0), in_hex(ends.1));
    wait_for("nothing to retransmit", DEADLINE, || {
        let table = fs::read_to_string("/proc/net/tcp").unwrap();
        let line = table.lines().find_map(|line| {
            let fields: Vec<_> = line.split_whitespace().collect();
            (fields[1] == local && fields[2] == remote).then(|| fields[5].to_owned())
        });
        let line = line.expect("the connection is in the table");
        let (active, when) = line.split_once(':').unwrap();
        let active = u64::from_str_radix(active, 16).unwrap();
        let when = u64::from_str_radix(when, 16).unwrap();
        (active != 1 && active != 4).then(|| (active, Duration::from_millis(when * 1000 / HZ)))
    })
}

const KEEPALIVE: u64 = 2;

#[track_caller]
fn assert_probes_after(server: &Server, idle: Duration) {
    let client = echo::connect_served(server.local_addrs()[0]);
    let (active, when) = timer(&client);
    assert_eq!(active, KEEPALIVE);
    // The connection is a moment old, at most a deadline.
    assert!(
        when <= idle + Duration::from_secs(1) && when + DEADLINE > idle,
        "a probe in {when:?}"
    );
    if idle > DEADLINE {
        assert!(when > Duration::ZERO);
    }
}

fn keepalive(keepalive: Option<Keepalive>) -> Config {
    let mut config = small::config();
    config.keepalive = keepalive;
    config
}

fn after(idle: Duration) -> Keepalive {
    Keepalive {
        idle,
        ..Keepalive::default()
    }
}

#[test]
fn keepalive_is_on_by_default_after_a_minute() {
    let server = echo::start(small::config(), &[ANY]);
    assert_probes_after(&server, Duration::from_secs(60));
}

#[test]
fn keepalive_begins_after_the_idle_time_that_was_set() {
    let idle = Duration::from_secs(1000);
    let server = echo::start(keepalive(Some(after(idle))), &[ANY]);
    assert_probes_after(&server, idle);
}

#[test]
fn keepalive_is_set_on_an_inherited_listener_too() {
    let idle = Duration::from_secs(1000);
    let listener = TcpListener::bind(ANY).unwrap();
    let server = echo::start_on(keepalive(Some(after(idle))), listener);
    assert_probes_after(&server, idle);
}

#[test]
fn keepalive_is_off_where_it_is_off() {
    let server = echo::start(keepalive(None), &[ANY]);
    let client = echo::connect_served(server.local_addrs()[0]);
    assert_eq!(timer(&client).0, 0);
}

#[test]
fn keepalive_that_is_off_is_turned_off_on_an_inherited_listener() {
    let listener = TcpListener::bind(ANY).unwrap();
    socket2::SockRef::from(&listener)
        .set_keepalive(true)
        .unwrap();
    let server = echo::start_on(keepalive(None), listener);
    let client = echo::connect_served(server.local_addrs()[0]);
    assert_eq!(timer(&client).0, 0);
}
