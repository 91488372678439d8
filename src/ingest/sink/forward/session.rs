//! TLS above a connection to a receiver.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::mem;
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ProtocolVersion};
use socket2::Socket;

use super::socket::{MAX_DISCARDED, send_now, take};
use crate::server::server_words;

/// Plaintext of one record, at most.
const MAX_RECORD: usize = 16 << 10;
/// Plaintext that is encrypted at once.
const MAX_PLAIN: usize = 4 * MAX_RECORD;

/// Resident bytes of a session, at most: what is encrypted and not sent, what is received, and the
/// handshake, beside its own state.
pub(super) const SESSION_BYTES: u64 = 512 << 10;

/// A session of TLS.
#[derive(Debug)]
pub(super) struct Session {
    connection: ClientConnection,
    /// What is encrypted, of which the kernel has taken so many bytes.
    wire: Vec<u8>,
    sent: usize,
    /// Of each record that the kernel has not taken whole, where it ends there, and its plaintext's
    /// length.
    records: VecDeque<(usize, usize)>,
    /// Plaintext of those that it has taken meanwhile.
    taken: usize,
}

impl Session {
    pub(super) fn new(config: Arc<ClientConfig>, name: ServerName<'static>) -> io::Result<Self> {
        let connection = ClientConnection::new(config, name).map_err(io::Error::other)?;
        Ok(Session {
            connection,
            wire: Vec::new(),
            sent: 0,
            records: VecDeque::new(),
            taken: 0,
        })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        let has_more = self.connection.wants_write() || self.sent < self.wire.len();
        self.connection.is_handshaking() || has_more
    }

    /// Whether the receiver may still refuse our certificate when the handshake is over for us.
    pub(super) fn may_be_refused(&self) -> bool {
        self.connection.protocol_version() == Some(ProtocolVersion::TLSv1_3)
    }

    /// Hands over what the kernel takes at once of what is encrypted. Says whether that was all.
    pub(super) fn flush(&mut self, socket: &Socket) -> io::Result<bool> {
        self.encrypt()?;
        while self.sent < self.wire.len() {
            let Some(sent) = send_now(socket, &[IoSlice::new(&self.wire[self.sent..])])? else {
                return Ok(false);
            };
            self.sent += sent;
            while let Some(&(end, plain)) = self.records.front()
                && end <= self.sent
            {
                self.taken += plain;
                self.records.pop_front();
            }
        }
        self.wire.clear();
        self.sent = 0;
        Ok(true)
    }

    /// Moves what the session has to send to what goes over the wire.
    fn encrypt(&mut self) -> io::Result<()> {
        while self.connection.wants_write() {
            self.connection.write_tls(&mut self.wire)?;
        }
        Ok(())
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
    /// the kernel takes. Returns the plaintext of the records that the kernel has taken to their
    /// last bytes, since nobody can read a part of one; `None` if there is none. While there are
    /// others, what is at the front behind that must be the same at the next call.
    pub(super) fn write_some(
        &mut self,
        socket: &Socket,
        slices: &[IoSlice<'_>],
    ) -> io::Result<Option<usize>> {
        if self.records.is_empty() {
            let mut left = MAX_PLAIN;
            for part in slices.iter().flat_map(|slice| slice.chunks(MAX_RECORD)) {
                let part = &part[..part.len().min(left)];
                let taken = self.connection.writer().write(part)?;
                self.encrypt()?;
                self.records.push_back((self.wire.len(), taken));
                left -= taken;
                if left == 0 {
                    break;
                }
            }
        }
        let outcome = self.flush(socket);
        match mem::take(&mut self.taken) {
            0 => outcome.map(|_| None),
            // What has failed fails again.
            taken => Ok(Some(taken)),
        }
    }

    /// Whether something is encrypted that the kernel has not taken.
    pub(super) fn is_inside(&self) -> bool {
        !self.records.is_empty()
    }

    /// Tells the receiver that nothing follows. Where the kernel has not taken all, nothing more is
    /// handed over: that goes over another connection.
    pub(super) fn close(&mut self, socket: &Socket) {
        if self.is_inside() {
            return;
        }
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
