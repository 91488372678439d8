//! A server behind a balancer, and what each of its connections was.

use std::io::Read;
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, channel};

use drainline::{Config, Connection, Peer, Report, Server};

use crate::common::client;
use crate::common::handlers::{anywhere, drained};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_for};
use crate::heads::encode;

/// Two clients that no test reaches.
pub const CLIENT: &str = "192.0.2.7:4711";
pub const OTHER: &str = "[2001:db8::7]:4711";
const FRONT: &str = "198.51.100.1:514";
const FRONT_V6: &str = "[2001:db8::1]:514";

/// Trusts who connects over loopback.
pub fn config() -> Config {
    small::config().proxy_from(vec!["127.0.0.0/8".parse().unwrap()])
}

fn front_of(client: SocketAddr) -> SocketAddr {
    let front = if client.is_ipv4() { FRONT } else { FRONT_V6 };
    front.parse().unwrap()
}

/// The head for a client, version 1.
pub fn line(client: &str) -> Vec<u8> {
    let client = client.parse().unwrap();
    encode::v1(client, front_of(client))
}

/// The head for a client, version 2, with TLVs and a checksum.
pub fn binary(client: &str) -> Vec<u8> {
    let client = client.parse().unwrap();
    let tlvs = [encode::tlv(5, b"an id"), encode::checksum()].concat();
    encode::with_checksum(&encode::v2(client, front_of(client), &tlvs))
}

pub fn peer(address: &str) -> Peer {
    Peer::Tcp(address.parse().unwrap())
}

/// What a handler saw of its connection.
#[derive(Debug, PartialEq, Eq)]
pub struct Seen {
    pub peer: Peer,
    pub balancer: Option<Peer>,
    pub bytes: Vec<u8>,
}

/// Each connection is read to its end by `read`.
pub struct Behind {
    pub server: Server,
    pub seen: Receiver<Seen>,
}

impl Behind {
    pub fn start(config: Config) -> Behind {
        Behind::reading(config, |conn, bytes| {
            let _ = conn.read_to_end(bytes);
        })
    }

    pub fn reading(
        config: Config,
        read: impl Fn(&mut Connection, &mut Vec<u8>) + Send + Sync + 'static,
    ) -> Behind {
        let (tell, seen) = channel();
        let tell = Mutex::new(tell);
        let server = small::server::<Vec<u8>>()
            .config(config)
            .listen(anywhere())
            .start_each(
                move |conn, _| {
                    let mut bytes = Vec::new();
                    read(conn, &mut bytes);
                    Ok(tell.lock().unwrap().send(Seen {
                        peer: conn.peer(),
                        balancer: conn.balancer(),
                        bytes,
                    })?)
                },
                |_| Ok(()),
            )
            .unwrap();
        Behind { server, seen }
    }

    pub fn address(&self) -> SocketAddr {
        self.server.local_addrs()[0]
    }

    pub fn connect(&self) -> TcpStream {
        client::connect(self.address())
    }

    /// The next connection that a handler has seen to its end.
    #[track_caller]
    pub fn seen(&self) -> Seen {
        self.seen.recv_timeout(DEADLINE).unwrap()
    }

    /// A connection in this activity.
    #[track_caller]
    pub fn wait_handshaking(&self) -> u64 {
        wait_for("a handshake", DEADLINE, || {
            let connections = self.server.connections();
            let handshaking = drainline::Activity::Handshaking;
            let found = connections.iter().find(|it| it.state == handshaking);
            found.map(|connection| connection.id)
        })
    }

    /// Drains, and returns the report of a ledger that closes. No handler has seen anything more.
    #[track_caller]
    pub fn end(self) -> Report {
        let report = drained(self.server);
        assert_closes(&report.stats);
        assert_eq!(self.seen.try_recv().ok(), None);
        report
    }
}
