//! Clients that hold a connection and never finish a message: slow lorises.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::{Duration, Instant};

const BETWEEN_BYTES: Duration = Duration::from_secs(1);
const CONNECT: Duration = Duration::from_millis(100);
const LOOK: Duration = Duration::from_millis(50);

/// Keeps `connections` open until `until`, each sending a byte a second; one that is ended comes back within that second.
pub(super) fn run(address: SocketAddr, connections: usize, until: Instant, stop: &AtomicBool) {
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    streams.resize_with(connections, || None);
    let mut due = Instant::now();
    let is_over = || stop.load(Relaxed) || Instant::now() >= until;
    while !is_over() {
        for stream in &mut streams {
            if is_over() {
                return;
            }
            if stream.is_none() {
                *stream = connect(address);
            }
            if stream.as_ref().is_some_and(|stream| !drip(stream)) {
                *stream = None;
            }
        }
        due += BETWEEN_BYTES;
        while Instant::now() < due && !is_over() {
            thread::sleep(LOOK);
        }
    }
}

fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, CONNECT).ok()?;
    stream.set_nonblocking(true).ok()?;
    Some(stream)
}

/// `false`: the connection is over.
fn drip(mut stream: &TcpStream) -> bool {
    match stream.write_all(b"x") {
        Ok(()) => true,
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}
