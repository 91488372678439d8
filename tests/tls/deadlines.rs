//! Deadlines are the same over every transport: what comes of the wire is activity, however little
//! of it a session makes of it, and what never becomes whole is limited by the time of a frame.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use drainline::{Config, EndReason, FirstByteTimeout, IpNet, Listener, Report, Server};
use rustls::{ClientConfig, SupportedProtocolVersion, version};

use crate::authority::{self, Client};
use crate::common::client;
use crate::common::handlers::{anywhere, drained};
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::unix::{self, Place};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};

const SHORT: Duration = Duration::from_millis(500);
const BETWEEN: Duration = Duration::from_millis(20);
/// At ten bytes each [`BETWEEN`] this takes several times [`SHORT`].
const LINE: usize = 1_000;

#[derive(Clone, Copy, Debug)]
enum Transport {
    Tcp,
    Unix,
    Tls(&'static SupportedProtocolVersion),
    /// Of version 1.3, behind a balancer.
    ProxiedTls,
}

const TRANSPORTS: [Transport; 5] = [
    Transport::Tcp,
    Transport::Unix,
    Transport::Tls(&version::TLS12),
    Transport::Tls(&version::TLS13),
    Transport::ProxiedTls,
];
const SESSIONS: [Transport; 3] = [TRANSPORTS[2], TRANSPORTS[3], TRANSPORTS[4]];

/// A client at the point where bytes of its own come next.
enum Sender {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Client>),
}

impl Sender {
    /// The bytes of the wire that carry these.
    fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        match self {
            Sender::Tls(client) => client.seal(plain),
            _ => plain.to_vec(),
        }
    }

    /// What says that the stream ends.
    fn end(&mut self) -> Vec<u8> {
        match self {
            Sender::Tls(client) => {
                client.session.send_close_notify();
                client.records()
            }
            _ => Vec::new(),
        }
    }

    fn write(&mut self, wire: &[u8]) -> io::Result<()> {
        match self {
            Sender::Tcp(socket) => socket.write_all(wire),
            Sender::Unix(socket) => socket.write_all(wire),
            Sender::Tls(client) => client.socket.write_all(wire),
        }
    }

    /// Writes ten bytes at a time, as far as the server lets it.
    fn trickle(&mut self, wire: &[u8]) {
        let begun = Instant::now();
        for piece in wire.chunks(10) {
            if self.write(piece).is_err() {
                return;
            }
            assert!(begun.elapsed() < DEADLINE, "it trickles still");
            thread::sleep(BETWEEN);
        }
    }

    /// Blocks until the server has closed.
    fn wait_closed(&mut self) {
        let socket: &mut dyn Read = match self {
            Sender::Tcp(socket) => socket,
            Sender::Unix(socket) => socket,
            Sender::Tls(client) => &mut client.socket,
        };
        // A reset is an end, too.
        let _ = socket.read_to_end(&mut Vec::new());
    }
}

/// An ingest of lines that listens on one transport.
struct Stage {
    server: Server,
    valve: Valve,
    transport: Transport,
    place: Place,
    config: Arc<ClientConfig>,
}

impl Stage {
    /// Without deadlines but those that `change` sets.
    fn new(transport: Transport, change: impl FnOnce(&mut Config)) -> Stage {
        let (tls, authority) = authority::tls();
        let place = Place::new();
        let listener = match transport {
            Transport::Tcp => Listener::on(anywhere()),
            Transport::Unix => Listener::unix(&place.path),
            Transport::Tls(_) => Listener::on(anywhere()).tls(tls),
            Transport::ProxiedTls => {
                let balancers: IpNet = "127.0.0.1/32".parse().unwrap();
                Listener::on(anywhere()).proxy_from([balancers]).tls(tls)
            }
        };
        let versions = match transport {
            Transport::Tls(version) => vec![version],
            _ => vec![&version::TLS13],
        };
        let mut config = small::config();
        config.frame_timeout = None;
        change(&mut config);
        let valve = Valve::open();
        let server = small::ingest()
            .config(config)
            .listener(listener)
            .start(valve.sink())
            .unwrap();
        Stage {
            server,
            valve,
            transport,
            place,
            config: authority::config(&authority, None, &versions),
        }
    }

    fn connect(&self) -> Sender {
        if let Transport::Unix = self.transport {
            return Sender::Unix(unix::connect(&self.place.path));
        }
        let addr = self.server.local_addrs()[0];
        match self.transport {
            Transport::Tcp | Transport::Unix => Sender::Tcp(client::connect(addr)),
            Transport::Tls(_) => Sender::Tls(Box::new(Client::connect(addr, &self.config))),
            Transport::ProxiedTls => {
                let mut client = Client::new(addr, &self.config);
                let head = b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 6514\r\n";
                client.socket.write_all(head).unwrap();
                client.stream().flush().unwrap();
                Sender::Tls(Box::new(client))
            }
        }
    }

    /// Blocks until the one connection has ended so, and returns what was delivered.
    #[track_caller]
    fn end(self, reason: EndReason) -> (Vec<u8>, Report) {
        let transport = self.transport;
        wait_until("the end", DEADLINE, || {
            self.server.stats().ended.total() == 1
        });
        let report = drained(self.server);
        assert_both_close(&report);
        assert_eq!(
            report.stats.ended.get(reason),
            1,
            "{transport:?}: {report:?}"
        );
        (self.valve.bytes(), report)
    }
}

/// Runs a case over several transports at the same time.
fn over(transports: &[Transport], case: impl Fn(Transport) + Sync) {
    thread::scope(|scope| {
        for &transport in transports {
            let case = &case;
            scope.spawn(move || case(transport));
        }
    });
}

fn idle(config: &mut Config) {
    config.idle_timeout = Some(SHORT);
}

fn first_byte(config: &mut Config) {
    config.first_byte_timeout = FirstByteTimeout::After(SHORT);
}

fn line() -> Vec<u8> {
    let mut line = vec![b'x'; LINE - 1];
    line.push(b'\n');
    line
}

/// A record is up to 16 KiB, and no byte of it can be read before all have come: over a slow line,
/// its sender was cut off as silent.
#[test]
fn who_trickles_is_neither_idle_nor_without_a_first_byte() {
    for change in [idle, first_byte] {
        over(&TRANSPORTS, |transport| {
            let stage = Stage::new(transport, change);
            let mut sender = stage.connect();
            let mut wire = sender.seal(&line());
            wire.extend(sender.end());
            sender.trickle(&wire);
            drop(sender);
            let (delivered, _) = stage.end(EndReason::Eof);
            assert_eq!(delivered, line(), "{transport:?}");
        });
    }
}

#[test]
fn who_trickles_for_ever_is_past_the_deadline_of_a_frame_whatever_other_deadlines_there_are() {
    for change in [idle, first_byte] {
        over(&TRANSPORTS, |transport| {
            let stage = Stage::new(transport, |config| {
                change(config);
                config.frame_timeout = Some(SHORT * 2);
            });
            let mut sender = stage.connect();
            // A record that is never whole before the deadline, and a line.
            let wire = sender.seal(&[b'x'; 16_000]);
            sender.trickle(&wire);
            stage.end(EndReason::FrameTimeout);
        });
    }
}

#[test]
fn who_falls_silent_inside_a_record_or_a_line_is_idle() {
    over(&TRANSPORTS, |transport| {
        let stage = Stage::new(transport, idle);
        let mut sender = stage.connect();
        let wire = sender.seal(&line());
        sender.write(&wire[..LINE / 2]).unwrap();
        sender.wait_closed();
        stage.end(EndReason::IdleTimeout);
    });
}

#[test]
fn who_sends_nothing_is_idle_and_without_a_first_byte() {
    for (change, reason) in [
        (idle as fn(&mut Config), EndReason::IdleTimeout),
        (first_byte, EndReason::FirstByteTimeout),
    ] {
        over(&TRANSPORTS, |transport| {
            let stage = Stage::new(transport, change);
            let mut sender = stage.connect();
            sender.wait_closed();
            stage.end(reason);
        });
    }
}

/// New keys are a sign of life, and none of the peer's bytes: whoever sends nothing else has still
/// not begun.
#[test]
fn records_without_content_put_off_both_deadlines_and_are_no_first_byte() {
    for (change, reason) in [
        (idle as fn(&mut Config), EndReason::IdleTimeout),
        (first_byte, EndReason::FirstByteTimeout),
    ] {
        over(&SESSIONS[1..], |transport| {
            let stage = Stage::new(transport, change);
            let Sender::Tls(mut client) = stage.connect() else {
                unreachable!();
            };
            for _ in 0..15 {
                client.session.refresh_traffic_keys().unwrap();
                let records = client.records();
                client.socket.write_all(&records).unwrap();
                thread::sleep(SHORT / 5);
                assert_eq!(stage.server.stats().ended.total(), 0, "{transport:?}");
            }
            Sender::Tls(client).wait_closed();
            stage.end(reason);
        });
    }
}
