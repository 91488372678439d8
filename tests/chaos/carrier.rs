//! A client's stream, whatever carries it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::common::certificates::Certificates;
use super::common::client;

/// Where a listener is.
#[derive(Debug)]
pub enum Place {
    Tcp(SocketAddr),
    Tls(SocketAddr),
    Unix(PathBuf),
}

enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Reads and writes are of the wire, and give up after the time that was given.
pub struct Stream {
    socket: Socket,
    session: Option<ClientConnection>,
}

impl Stream {
    /// Over TLS the handshake is still to come.
    pub fn connect(
        place: &Place,
        trusts: &Arc<ClientConfig>,
        look: Duration,
    ) -> io::Result<Stream> {
        let tcp = |addr: &SocketAddr| {
            let stream = client::try_connect(*addr, Duration::from_millis(300))?;
            stream.set_read_timeout(Some(look))?;
            stream.set_write_timeout(Some(look))?;
            Ok::<_, io::Error>(Socket::Tcp(stream))
        };
        let (socket, session) = match place {
            Place::Tcp(addr) => (tcp(addr)?, None),
            Place::Tls(addr) => {
                let name = ServerName::try_from(Certificates::NAME).unwrap();
                let mut session = ClientConnection::new(Arc::clone(trusts), name).unwrap();
                session.set_buffer_limit(None);
                (tcp(addr)?, Some(session))
            }
            Place::Unix(path) => {
                // Where the queue is full it must not wait for ever: the server may be over.
                let socket =
                    socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)?;
                socket.set_write_timeout(Some(look))?;
                socket.set_read_timeout(Some(look))?;
                socket.connect(&socket2::SockAddr::unix(path)?)?;
                (Socket::Unix(socket.into()), None)
            }
        };
        Ok(Stream { socket, session })
    }

    pub fn is_tls(&self) -> bool {
        self.session.is_some()
    }

    /// A Unix socket that is closed has ended its stream.
    pub fn can_reset(&self) -> bool {
        matches!(self.socket, Socket::Tcp(_))
    }

    pub fn is_handshaking(&self) -> bool {
        self.session
            .as_ref()
            .is_some_and(|session| session.is_handshaking())
    }

    /// What its session has to send.
    pub fn flight(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        let session = self.session.as_mut().unwrap();
        while session.wants_write() {
            session.write_tls(&mut records).unwrap();
        }
        records
    }

    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        let session = self.session.as_mut().unwrap();
        session.writer().write_all(plain).unwrap();
        self.flight()
    }

    pub fn end(&mut self) -> Vec<u8> {
        self.session.as_mut().unwrap().send_close_notify();
        self.flight()
    }

    /// Takes of the handshake what there is, and returns how many bytes that was: 0 at the end.
    pub fn take_answer(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 4096];
        let len = self.read(&mut buffer)?;
        let mut rest = &buffer[..len];
        let session = self.session.as_mut().unwrap();
        while !rest.is_empty() {
            session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
        Ok(len)
    }

    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(socket) => socket.write(bytes),
            Socket::Unix(socket) => socket.write(bytes),
        }
    }

    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.socket {
            Socket::Tcp(socket) => socket.read(buffer),
            Socket::Unix(socket) => socket.read(buffer),
        }
    }

    pub fn shutdown(&self) -> io::Result<()> {
        match &self.socket {
            Socket::Tcp(socket) => socket.shutdown(Shutdown::Write),
            Socket::Unix(socket) => socket.shutdown(Shutdown::Write),
        }
    }

    /// Closes with a reset, where there are any.
    pub fn reset(self) {
        if let Socket::Tcp(socket) = self.socket {
            client::reset(socket);
        }
    }
}
