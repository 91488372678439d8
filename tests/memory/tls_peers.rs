//! Peers of an output that speaks TLS, and the files that it is given.

use std::fs;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use super::authority::{Authority, Pair};
use super::peers;

/// What the server's certificate is for.
pub const NAME: &str = "localhost";
/// Of a file of certificates, and of a file with a certificate and those that vouch for it: what is
/// read of them at most, but for less than a certificate.
const LARGEST_CA: usize = 1 << 20;
const LARGEST_CHAIN: usize = 256 << 10;
/// What both ends take for a message of a handshake, but for less than a certificate.
const LARGEST_MESSAGE: usize = 64_000;

struct Setup {
    authority: Authority,
    client: Pair,
    server: Arc<ServerConfig>,
}

/// One for all cells.
fn setup() -> &'static Setup {
    static SETUP: OnceLock<Setup> = OnceLock::new();
    SETUP.get_or_init(|| {
        let authority = Authority::new("all");
        let Pair { certificate, key } = authority.server();
        let der = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).unwrap();
        let root = der(&authority.certificate);
        // Nobody needs them, and they are read all the same.
        let more = (LARGEST_MESSAGE - der(&certificate).len()) / (root.len() + 5);
        let mut chain = vec![der(&certificate)];
        chain.extend(std::iter::repeat_n(root.clone(), more));
        let mut roots = RootCertStore::empty();
        roots.add(root).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .unwrap();
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier)
            .with_single_cert(
                chain,
                PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            );
        Setup {
            client: authority.client("client.test"),
            authority,
            server: Arc::new(config.unwrap()),
        }
    })
}

/// Writes what an output's options name: `ca.pem`, `large-ca.pem` and, of another authority,
/// `others.pem`; `client.pem` with its key, and `large-client.pem`.
pub fn write_files(folder: &Path) {
    let Setup {
        authority, client, ..
    } = setup();
    let root = &authority.certificate;
    let filled = |first: &str, bytes: usize| {
        let more = (bytes - first.len()) / root.len();
        format!("{first}{}", root.repeat(more))
    };
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    write("ca.pem", root);
    write("large-ca.pem", &filled(root, LARGEST_CA));
    write("others.pem", &Authority::new("others").certificate);
    write("client.pem", &client.certificate);
    write("client.key", &client.key);
    write(
        "large-client.pem",
        &filled(&client.certificate, LARGEST_CHAIN),
    );
}

fn session(stream: TcpStream) -> io::Result<StreamOwned<ServerConnection, TcpStream>> {
    let session = ServerConnection::new(Arc::clone(&setup().server)).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(session, stream);
    while stream.conn.is_handshaking() {
        stream.conn.complete_io(&mut stream.sock)?;
    }
    Ok(stream)
}

pub fn reads(stream: TcpStream) -> io::Result<()> {
    io::copy(&mut session(stream)?, &mut io::sink()).map(drop)
}

/// Shakes hands, and reads nothing.
pub fn never_reads(stream: TcpStream) -> io::Result<()> {
    peers::never_reads(session(stream)?.sock)
}

/// Shakes hands, and says without an end what nobody asked for.
pub fn talks(stream: TcpStream) -> io::Result<()> {
    let mut stream = session(stream)?;
    loop {
        stream.write_all(&[b'z'; 64 << 10])?;
    }
}

/// Begins a flight that is as long as a message may be, and ends it never.
pub fn half_a_flight(mut stream: TcpStream) -> io::Result<()> {
    let mut session =
        ServerConnection::new(Arc::clone(&setup().server)).map_err(io::Error::other)?;
    while !session.wants_write() {
        if session.read_tls(&mut stream)? == 0 {
            return Ok(());
        }
        session.process_new_packets().map_err(io::Error::other)?;
    }
    let mut flight = Vec::new();
    while session.wants_write() {
        session.write_tls(&mut flight)?;
    }
    flight.pop();
    stream.write_all(&flight)?;
    peers::never_reads(stream)
}

pub fn redis_accepts(stream: TcpStream) -> io::Result<()> {
    peers::answers_redis(session(stream)?, peers::redis_added)
}

/// Answers the greeting, and then says parts of a list without an end.
pub fn redis_lists(stream: TcpStream) -> io::Result<()> {
    let mut stream = session(stream)?;
    let _ = stream.read(&mut [0; 1024])?;
    stream.write_all(b"+OK\r\n*2000000000\r\n")?;
    loop {
        stream.write_all(&b"_\r\n".repeat(20_000))?;
    }
}

pub fn http_accepts(stream: TcpStream) -> io::Result<()> {
    peers::answers_http(session(stream)?, peers::http_accepted)
}

/// Answers the first request with a header that has no end.
pub fn http_one_header_without_end(stream: TcpStream) -> io::Result<()> {
    let mut stream = session(stream)?;
    let _ = stream.read(&mut [0; 1024])?;
    stream.write_all(b"HTTP/1.1 200 OK\r\na: ")?;
    loop {
        stream.write_all(&[b'b'; 64 << 10])?;
    }
}
