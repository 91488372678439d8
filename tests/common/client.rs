//! Clients: plain TCP senders on loopback.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use super::proc;
use super::wait::{DEADLINE, try_wait_for, wait_until};

/// How the server ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// End of stream.
    Clean,
    /// A reset: the server aborted the connection, or closed it with bytes unread.
    Reset,
}

/// One attempt to connect, of at most `within`. Each read and each write of the stream gives up
/// after [`DEADLINE`].
pub fn try_connect(addr: SocketAddr, within: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&addr, within)?;
    // While nobody listens on an ephemeral port, the kernel may pick that very port for us and
    // connect us to ourselves.
    if stream.local_addr()? == addr {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

/// Whether a connect meets nobody that listens. It may take [`DEADLINE`].
pub fn is_refused(addr: SocketAddr) -> bool {
    try_connect(addr, DEADLINE).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Connects, trying again every 10 ms while it fails. Blocks for at most twice [`DEADLINE`].
///
/// # Panics
/// With the last error, when the deadline has passed.
#[track_caller]
pub fn connect(addr: SocketAddr) -> TcpStream {
    let mut last = None;
    let stream = try_wait_for(DEADLINE, || {
        try_connect(addr, DEADLINE)
            .map_err(|error| last = Some(error))
            .ok()
    });
    stream.unwrap_or_else(|| panic!("no connection to {addr} within {DEADLINE:?}: {last:?}"))
}

/// `count` connections, one after the other, each as by [`connect`].
#[track_caller]
pub fn connect_many(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    (0..count).map(|_| connect(addr)).collect()
}

/// Closes with a reset: what the peer has not read is lost.
pub fn reset(stream: TcpStream) {
    socket2::SockRef::from(&stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
}

/// Blocks until the server's kernel holds this many bytes that `client` sent and no handler has
/// read, for at most [`DEADLINE`].
#[track_caller]
pub fn wait_unread(client: &TcpStream, bytes: u64) {
    let ends = [client.peer_addr(), client.local_addr()].map(|end| end.unwrap().port());
    wait_until("bytes that nobody reads", DEADLINE, || {
        proc::unread_bytes(ends[0], ends[1]) == Some(bytes)
    });
}

/// Reads until the server closes, and returns what it sent. Blocks for at most [`DEADLINE`].
///
/// # Panics
/// When the server has not closed by then.
#[track_caller]
pub fn read_to_end(stream: &mut TcpStream) -> (Vec<u8>, Closed) {
    let end = Instant::now() + DEADLINE;
    let mut bytes = Vec::new();
    let mut buffer = [0; 16 * 1024];
    loop {
        let left = end
            .saturating_duration_since(Instant::now())
            .max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut buffer) {
            Ok(0) => return (bytes, Closed::Clean),
            Ok(read) if Instant::now() < end => bytes.extend_from_slice(&buffer[..read]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                return (bytes, Closed::Reset);
            }
            other => panic!(
                "not closed within {DEADLINE:?}, {} bytes read: {other:?}",
                bytes.len()
            ),
        }
    }
}

/// Blocks until the server closes, for at most [`DEADLINE`].
///
/// # Panics
/// When the server has not closed by then.
#[track_caller]
pub fn wait_for_close(stream: &mut TcpStream) -> Closed {
    read_to_end(stream).1
}

/// Ends this side's stream, then blocks until the server closes its own, for at most [`DEADLINE`]:
/// the server has read everything that this client sent.
///
/// # Panics
/// When the server has not closed by then.
#[track_caller]
pub fn half_close(mut stream: TcpStream) -> Closed {
    // ENOTCONN: the server was first, and reading will say how.
    if let Err(error) = stream.shutdown(Shutdown::Write) {
        assert_eq!(
            error.kind(),
            io::ErrorKind::NotConnected,
            "shutdown: {error}"
        );
    }
    wait_for_close(&mut stream)
}

/// Has the server closed or aborted this connection? Does not block, and takes what the server sent
/// meanwhile.
pub fn is_closed(stream: &TcpStream) -> bool {
    let mut buffer = [0; 4096];
    stream.set_nonblocking(true).unwrap();
    let closed = loop {
        match (&*stream).read(&mut buffer) {
            Ok(0) => break true,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break error.kind() != io::ErrorKind::WouldBlock,
        }
    };
    stream.set_nonblocking(false).unwrap();
    closed
}

/// Sends `bytes` one at a time, `every` so long, and returns how many the kernel took before an
/// error or the end. Blocks for `bytes.len()` times `every`, or until the connection is gone.
pub fn trickle(stream: &mut TcpStream, bytes: &[u8], every: Duration) -> usize {
    let taken = bytes.iter().take_while(|byte| {
        let taken = stream.write_all(&[**byte]).is_ok();
        thread::sleep(every);
        taken
    });
    taken.count()
}
