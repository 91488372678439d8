//! A real HAProxy in front of the real binary: clients arrive whole and by their own addresses, and
//! its health checks are probes.

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use socket2::{Domain, Socket, Type};

use crate::before::before;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::programs::finish;
use crate::common::wait::{DEADLINE, wait_until};

/// How HAProxy tells of its clients.
const SENDS: [&str; 3] = [
    "send-proxy",
    "send-proxy-v2",
    "send-proxy-v2 proxy-v2-options crc32c,unique-id,authority",
];

/// Two addresses of clients.
const CLIENTS: [Ipv4Addr; 2] = [Ipv4Addr::new(127, 0, 0, 2), Ipv4Addr::new(127, 0, 0, 3)];
const PER_CLIENT: usize = 20;

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect_timeout(&to.into(), DEADLINE).unwrap();
    socket.into()
}

fn start() -> Drainline {
    Drainline::start(&["--proxy-from", "127.0.0.1", "--log-level", "debug"])
}

#[test]
fn clients_behind_haproxy_arrive_whole_and_by_their_own_addresses() {
    for options in SENDS {
        let child = start();
        let Some(haproxy) = before(child.addr(), options) else {
            return;
        };
        let mut expected = BTreeSet::new();
        let mut named = Vec::new();
        for nth in 0..PER_CLIENT {
            for from in CLIENTS {
                let mut connection = connect_from(from, haproxy.front);
                let (short, long) = (format!("{from} {nth}\n"), "x".repeat(nth * 3000) + "\n");
                connection
                    .write_all((short.clone() + &long).as_bytes())
                    .unwrap();
                named.push(connection.local_addr().unwrap());
                expected.extend([short, long]);
                client::half_close(connection);
            }
        }
        let bytes = CLIENTS.len()
            * (0..PER_CLIENT)
                .map(|nth| format!("127.0.0.2 {nth}\n").len() + nth * 3000 + 1)
                .sum::<usize>();
        let (exit, sink) = finish(child, |sink| sink.len() == bytes);
        let sink = String::from_utf8(sink).unwrap();
        let arrived: BTreeSet<String> = sink.split_inclusive('\n').map(str::to_owned).collect();
        assert!(arrived == expected, "{options}");
        for client in named {
            let by = format!(" from {client} by {}:", Ipv4Addr::LOCALHOST);
            assert!(exit.stderr.contains(&by), "{options}: {client}\n{exit}");
        }
        // Beside them, only the connects that found out whether HAProxy listens.
        let (eof, probes) = (
            exit.u64("connections.ended.eof"),
            exit.u64("connections.ended.no_data"),
        );
        assert_eq!(eof as usize, CLIENTS.len() * PER_CLIENT);
        assert_eq!(eof + probes, exit.u64("connections.accepted"));
    }
}

#[test]
fn health_checks_of_haproxy_are_probes() {
    for options in [
        "send-proxy check check-send-proxy inter 50ms",
        "send-proxy-v2 check check-send-proxy inter 50ms",
        "send-proxy-v2 proxy-v2-options crc32c check check-send-proxy inter 50ms",
    ] {
        let child = start();
        let Some(haproxy) = before(child.addr(), options) else {
            return;
        };
        // In version 1 there is no head without a client, so HAProxy names itself, and is no other
        // peer than who connects.
        let is_probe = |line: &&str| line.contains(" ended: no_data") && !line.contains(" by ");
        wait_until("five checks", DEADLINE, || {
            child.stderr_text().lines().filter(is_probe).count() >= 5
        });
        drop(haproxy);
        let (exit, _) = finish(child, |_| true);
        let probes = exit.u64("connections.ended.no_data");
        assert_eq!(
            probes,
            exit.u64("connections.accepted"),
            "{options}: {exit}"
        );
    }
}
