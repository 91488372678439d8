//! A real HAProxy in front of the real binary: clients arrive whole and by their own addresses, and
//! its health checks are probes.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Command, Stdio};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::guard::Guarded;
use crate::common::launch::free_port;
use crate::common::programs::{finish, installed};
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

struct HaProxy {
    front: SocketAddr,
    _process: Guarded,
    _folder: TempDir,
}

/// `None`: HAProxy is not installed.
fn before(server: &Drainline, options: &str) -> Option<HaProxy> {
    let program = installed("haproxy")?;
    let folder = tempfile::tempdir().unwrap();
    let front = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let configuration = format!(
        "global\n\
         \x20   maxconn 500\n\
         defaults\n\
         \x20   mode tcp\n\
         \x20   timeout connect 60s\n\
         \x20   timeout client 60s\n\
         \x20   timeout server 60s\n\
         frontend front\n\
         \x20   bind {front}\n\
         \x20   unique-id-format %{{+X}}o%ci%cp%Ts%rt%pid\n\
         \x20   default_backend back\n\
         backend back\n\
         \x20   server drainline {} {options}\n",
        server.addr()
    );
    let path = folder.path().join("configuration");
    fs::write(&path, configuration).unwrap();
    let mut command = Command::new(program);
    command.arg("-db").arg("-f").arg(&path);
    let errors = fs::File::create(folder.path().join("errors")).unwrap();
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors);
    let mut process = Guarded(command.spawn().unwrap());
    let told = || fs::read_to_string(folder.path().join("errors")).unwrap();
    wait_until("HAProxy listens", DEADLINE, || {
        assert_eq!(process.ended(), None, "{}", told());
        client::try_connect(front, DEADLINE).is_ok()
    });
    Some(HaProxy {
        front,
        _process: process,
        _folder: folder,
    })
}

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
        let Some(haproxy) = before(&child, options) else {
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
        let Some(haproxy) = before(&child, options) else {
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
