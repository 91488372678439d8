//! Clients of TLS, each left where it costs the server the most.

use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rcgen::{CertificateParams, KeyPair, SanType};
use rustls::ClientConfig;

use super::authority::{self, Authority, Client, Pair};
use super::driver::{Part, Script};

/// What a client has sent before it is measured, and what it has still to send.
#[derive(Debug, Clone, Copy)]
pub enum Left {
    /// Records of lines, the largest there are.
    Lines,
    /// A line, and the largest record but for its last byte.
    HalfRecord,
    /// Its hello, and it reads nothing.
    Hello,
    /// The flight with its certificate, but for the last byte.
    HalfCertificate,
}

/// What is sent as lines: more than a buffer's share and what the kernel holds.
const LINES: usize = 256 << 10;

struct Setup {
    server: Pair,
    clients: String,
    config: Arc<ClientConfig>,
}

/// One for all cells.
fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| {
        let (servers, clients) = (Authority::new("servers"), Authority::new("clients"));
        let config = authority::config(&servers, Some(&long(&clients)), &authority::VERSIONS);
        Setup {
            server: servers.server(),
            clients: clients.certificate,
            config,
        }
    })
}

/// A certificate of 14 KiB: with its message it is as large as one record.
fn long(authority: &Authority) -> Pair {
    let mut params = CertificateParams::default();
    let name = |n: usize| format!("{n:03}.{}.example", "a".repeat(50));
    params.subject_alt_names = (0..210)
        .map(|n| SanType::DnsName(name(n).try_into().unwrap()))
        .collect();
    authority.sign(params, KeyPair::generate().unwrap())
}

/// Writes what a server's flags name: `server.pem`, with its key, and `clients.pem`.
pub fn write_files(folder: &Path) {
    let Pair { certificate, key } = &setup().server;
    fs::write(folder.join("server.pem"), format!("{certificate}{key}")).unwrap();
    fs::write(folder.join("clients.pem"), &setup().clients).unwrap();
}

/// A client's socket, and what it has still to send.
pub fn connect(addr: SocketAddr, left: Left) -> (Box<dyn Write + Send>, Arc<Script>) {
    let mut client = Client::new(addr, &setup().config);
    let bytes = match left {
        Left::Hello => client.records(),
        Left::HalfCertificate => {
            let mut flight = client.records();
            client.socket.write_all(&flight).unwrap();
            flight.clear();
            while flight.len() < 10_000 {
                client.session.read_tls(&mut client.socket).unwrap();
                client.session.process_new_packets().unwrap();
                flight.extend(client.records());
            }
            flight.pop();
            flight
        }
        Left::Lines | Left::HalfRecord => {
            client.stream().flush().unwrap();
            match left {
                Left::Lines => client.seal(&b"0123456789abcde\n".repeat(LINES / 16)),
                _ => {
                    let mut records = client.seal(b"a line\n");
                    records.extend(client.seal(&[b'x'; 16 << 10]));
                    records.pop();
                    records
                }
            }
        }
    };
    let script = Script::new(vec![Part(bytes, 1)]);
    let socket = client.socket;
    socket.set_nonblocking(true).unwrap();
    (Box::new(socket), script)
}
