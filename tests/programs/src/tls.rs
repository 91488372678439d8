//! Lines over TLS, each answered when it is in the buffer: rustls around a connection.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use drainline::{BoxError, Config, Connection, Sender, Server};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

const MAX_LINE: u64 = 4096;
/// What rustls buffers of records that come and go, and a line.
const HANDLER_BYTES: usize = 192 << 10;

fn handle(
    conn: &Connection,
    out: &Sender<Vec<u8>>,
    tls: &Arc<ServerConfig>,
) -> Result<(), BoxError> {
    let mut tls = StreamOwned::new(ServerConnection::new(Arc::clone(tls))?, conn);
    // A handshake is a frame like any other: whoever does not finish it meets the frame deadline.
    conn.frame_progress(0, true);
    tls.conn.complete_io(&mut tls.sock)?;
    conn.frame_progress(0, false);
    let mut lines = BufReader::new(tls);
    // Between two lines only the idle deadline runs.
    while !lines.fill_buf()?.is_empty() {
        conn.frame_progress(0, true);
        let mut line = Vec::new();
        (&mut lines).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.pop() != Some(b'\n') {
            return Err("a line is too long, or has no end".into());
        }
        conn.frame_progress(1, false);
        out.send(line)?;
        lines.get_mut().write_all(b"ok\n")?;
    }
    let tls = lines.get_mut();
    tls.conn.send_close_notify();
    Ok(tls.flush()?)
}

pub fn start(
    address: SocketAddr,
    tls: ServerConfig,
    mut print: impl FnMut(&str) + Send + 'static,
) -> Result<Server, BoxError> {
    let tls = Arc::new(tls);
    Ok(Server::builder::<Vec<u8>>()
        .config(Config::default().handler_bytes(HANDLER_BYTES))
        .listen(address)
        .start_each(
            move |conn, out| handle(conn, out, &tls),
            move |line| {
                print(&String::from_utf8_lossy(&line));
                Ok(())
            },
        )?)
}

pub fn main() -> Result<(), BoxError> {
    let chain = CertificateDer::pem_file_iter("chain.pem")?.collect::<Result<_, _>>()?;
    let key = PrivateKeyDer::from_pem_file("key.pem")?;
    let tls = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    start("127.0.0.1:6514".parse()?, tls, |line| println!("{line}"))?.wait();
    Ok(())
}
