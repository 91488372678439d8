//! TLS above a connection to a receiver.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion};
use socket2::Socket;

use super::socket::{MAX_DISCARDED, send_now, take};
use crate::server::server_words;

/// Plaintext that is encrypted at once: four records.
const MAX_PLAIN: usize = 64 << 10;

/// Resident bytes of a session, at most: what is encrypted and not sent, what is received, and the
/// handshake, beside its own state.
pub(super) const SESSION_BYTES: u64 = 512 << 10;

/// A session of TLS.
#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
    /// Plaintext that is encrypted, and of which the kernel has not taken all.
    encrypted: usize,
}

impl Session {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Session {
            connection,
            encrypted: 0,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.connection.is_handshaking() || self.connection.wants_write()
    }

    /// Whether the receiver may still refuse our certificate when the handshake is over for us.
    pub(super) fn may_be_refused(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Hands over what the kernel takes at once of what is encrypted. Says whether that was all.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Wire(socket)) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    /// Takes in what has come, and throws plaintext away. Returns how much that was.
    ///
    /// # Errors
    /// The receiver has closed, or broken the protocol.
    pub(super) fn discard(&mut self, socket: &Socket) -> io::Result<u64> {
        let mut discarded = 0;
        loop {
            match self.connection.read_tls(&mut Wire(socket)) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(discarded),
                Err(error) => return Err(error),
            }
            let state = self.connection.process_new_packets().map_err(|error| {
                let text = format!("the receiver {}", server_words(&error));
                io::Error::other(text)
            });
            let state = match state {
                Ok(state) => state,
                Err(error) => {
                    // The alert that says why.
                    let _ = self.flush(socket);
                    return Err(error);
                }
            };
            discarded += state.plaintext_bytes_to_read() as u64;
            let mut reader = self.connection.reader();
            let mut buf = [0; 1024];
            while matches!(reader.read(&mut buf), Ok(1..)) {}
            if state.peer_has_closed() {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if discarded >= MAX_DISCARDED {
                return Ok(discarded);
            }
        }
    }

    /// Encrypts what is at the front, unless something is encrypted already, and hands over what
    /// the kernel takes. Returns how much plaintext the kernel has taken to its last byte; `None`
    /// while it has not. What is at the front then must be the same at the next call.
    pub(super) fn write_some(
        &mut self,
        socket: &Socket,
        slices: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        if self.encrypted == 0 {
            for slice in slices {
                let part = &slice[..slice.len().min(MAX_PLAIN - self.encrypted)];
                let taken = self.connection.writer().write(part)?;
                self.encrypted += taken;
                if taken < slice.len() {
                    break;
                }
            }
        }
        let is_taken = self.flush(socket)?;
        Ok(is_taken.then(|| std::mem::take(&mut self.encrypted)))
    }

    /// Whether something is encrypted that the kernel has not taken.
    pub(super) fn is_inside(&self) -> bool {
        self.encrypted > 0
    }

    /// Tells the receiver that nothing follows.
    pub(super) fn close(&mut self, socket: &Socket) {
        self.connection.send_close_notify();
        let _ = self.flush(socket);
    }
}

/// The socket as rustls wants it: never waits, and raises no signal.
struct Wire<'s>(&'s Socket);

impl Read for Wire<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        take(self.0, buf)
    }
}

impl Write for Wire<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_vectored(&[IoSlice::new(bytes)])
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        send_now(self.0, slices)?.ok_or_else(|| ErrorKind::WouldBlock.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
