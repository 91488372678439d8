//! A server in this process that returns every byte: a client knows that it is being served when
//! its byte comes back.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use drainline::{BoxError, Config, Connection, Sender, Server};

use super::client;
use super::small;
use super::wait::{DEADLINE, wait_until};

/// Where the server of a test listens.
pub const ANY: &str = "127.0.0.1:0";

/// A server with one listener for each address.
#[track_caller]
pub fn start(config: Config, addrs: &[&str]) -> Server {
    let mut builder = small::server::<Vec<u8>>().config(config);
    for addr in addrs {
        builder = builder.listen(addr.parse().unwrap());
    }
    builder.start_each(echo, |_| Ok(())).unwrap()
}

/// A server on a listener that is there already.
#[track_caller]
pub fn start_on(config: Config, listener: TcpListener) -> Server {
    let builder = small::server::<Vec<u8>>().config(config);
    builder
        .listener(listener)
        .start_each(echo, |_| Ok(()))
        .unwrap()
}

/// The handler.
pub fn echo(conn: &mut Connection, _: &Sender<Vec<u8>>) -> Result<(), BoxError> {
    let mut buffer = [0; 1024];
    loop {
        match conn.read(&mut buffer)? {
            0 => return Ok(()),
            read => conn.write_all(&buffer[..read])?,
        }
    }
}

/// Whether a byte comes back within `within`.
pub fn is_served(client: &mut TcpStream, within: Duration) -> bool {
    client.set_read_timeout(Some(within)).unwrap();
    let mut byte = [0];
    let is_served = client.write_all(b".").is_ok() && matches!(client.read(&mut byte), Ok(1));
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    is_served
}

/// # Panics
/// When no byte comes back within [`DEADLINE`].
#[track_caller]
pub fn assert_served(client: &mut TcpStream) {
    assert!(is_served(client, DEADLINE), "no byte came back");
}

/// A new connection that is being served.
#[track_caller]
pub fn connect_served(addr: SocketAddr) -> TcpStream {
    let mut client = client::connect(addr);
    assert_served(&mut client);
    client
}

/// Asserts that nothing comes back from a client in the kernel's queue for a while, and that it was
/// not closed either. What it sent to find out is answered once it is served.
#[track_caller]
pub fn assert_waits(client: &mut TcpStream) {
    assert!(
        !is_served(client, Duration::from_millis(200)),
        "it is served"
    );
    assert!(!client::is_closed(client), "it was rejected");
}

/// Whether a byte is there, without waiting for one and without taking it.
pub fn is_answered(client: &mut TcpStream) -> bool {
    client.set_nonblocking(true).unwrap();
    let is_answered = matches!(client.peek(&mut [0]), Ok(1));
    client.set_nonblocking(false).unwrap();
    is_answered
}

/// Blocks until the server has no more than `threads` that are not joined, handlers that ended
/// included.
#[track_caller]
pub fn wait_until_joined(server: &Server, threads: usize) {
    wait_until("threads joined", DEADLINE, || {
        server.stats().threads <= threads
    });
}
