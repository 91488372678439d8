//! Clients of Unix sockets, and places for these.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::client::Closed;
use super::wait::DEADLINE;

/// A folder of its own with a path for one socket. Drop removes it.
#[derive(Debug)]
pub struct Place {
    folder: TempDir,
    pub path: PathBuf,
}

impl Place {
    pub fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("drainline.sock");
        Place { folder, path }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The names of what is there.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.collect()
    }

    /// Leaves what a killed process leaves: a socket on which nobody listens. It is shut down, for
    /// a process that another thread has just forked may have it open for a moment longer.
    pub fn leave_stale(&self) {
        let listener = UnixListener::bind(&self.path).unwrap();
        let socket = socket2::SockRef::from(&listener);
        socket.shutdown(Shutdown::Both).unwrap();
    }
}

/// One attempt to connect, which waits where the kernel's queue is full. Each read and each write
/// of the stream gives up after [`DEADLINE`].
pub fn try_connect(path: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.set_write_timeout(Some(DEADLINE))?;
    Ok(stream)
}

#[track_caller]
pub fn connect(path: &Path) -> UnixStream {
    try_connect(path).unwrap_or_else(|error| panic!("no connection to {path:?}: {error}"))
}

/// Reads until the server closes, and returns what it sent. Blocks for at most [`DEADLINE`] at a
/// time.
#[track_caller]
pub fn read_to_end(stream: &mut UnixStream) -> (Vec<u8>, Closed) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => (bytes, Closed::Clean),
        Err(error) if error.kind() == ErrorKind::ConnectionReset => (bytes, Closed::Reset),
        Err(error) => panic!("not closed: {error}"),
    }
}

/// Ends this side's stream and blocks until the server closes its own, for at most [`DEADLINE`].
#[track_caller]
pub fn half_close(mut stream: UnixStream) -> Closed {
    if let Err(error) = stream.shutdown(Shutdown::Write) {
        assert_eq!(error.kind(), ErrorKind::NotConnected, "shutdown: {error}");
    }
    read_to_end(&mut stream).1
}
