//! A connection's bytes, over TLS or not: written without waiting, and read.

use std::io::{self, Read};
use std::sync::Arc;

use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use socket2::Socket;

/// Bytes on their way to the server.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// Commands.
    pub(super) plain: Vec<u8>,
    /// Of which so many are written, or encrypted.
    taken: usize,
    /// What they became in TLS, and how much of it is written.
    #[cfg(feature = "tls")]
    encrypted: (Vec<u8>, usize),
}

impl Outgoing {
    pub(super) fn of(plain: Vec<u8>) -> Self {
        Outgoing {
            plain,
            ..Outgoing::default()
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.encrypted.1 < self.encrypted.0.len() {
            return false;
        }
        self.taken == self.plain.len()
    }

    pub(super) fn clear(&mut self) {
        self.plain.clear();
        self.taken = 0;
        #[cfg(feature = "tls")]
        {
            self.encrypted.0.clear();
            self.encrypted.1 = 0;
        }
    }
}

/// Bytes of TLS that are read at once.
#[cfg(feature = "tls")]
const RAW_BYTES: usize = 16 << 10;

/// What was read of the wire and the session has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Raw {
    #[cfg(feature = "tls")]
    bytes: Vec<u8>,
    #[cfg(feature = "tls")]
    taken: usize,
}

/// Both directions of a connection. One thread writes, another one reads.
#[derive(Debug)]
pub(super) struct Wire {
    pub(super) socket: Arc<Socket>,
    #[cfg(feature = "tls")]
    pub(super) session: Option<parking_lot::Mutex<rustls::ClientConnection>>,
}

impl Wire {
    /// Writes what the socket takes now. `false`: it takes no more for now.
    pub(super) fn send(&self, outgoing: &mut Outgoing) -> io::Result<bool> {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.session {
            return self.send_encrypted(session, outgoing);
        }
        let is_whole = write_now(&self.socket, &outgoing.plain, &mut outgoing.taken)?;
        if is_whole {
            outgoing.clear();
        }
        Ok(is_whole)
    }

    /// The session is locked while it encrypts, and never while the socket is waited for: whoever
    /// reads needs it, too.
    #[cfg(feature = "tls")]
    fn send_encrypted(
        &self,
        session: &parking_lot::Mutex<rustls::ClientConnection>,
        outgoing: &mut Outgoing,
    ) -> io::Result<bool> {
        use std::io::Write;
        loop {
            let (encrypted, written) = &mut outgoing.encrypted;
            if !write_now(&self.socket, encrypted, written)? {
                return Ok(false);
            }
            encrypted.clear();
            *written = 0;
            let mut session = session.lock();
            let rest = &outgoing.plain[outgoing.taken..];
            if rest.is_empty() && !session.wants_write() {
                outgoing.clear();
                return Ok(true);
            }
            // It takes as much as its own buffer holds.
            outgoing.taken += session.writer().write(rest)?;
            while session.wants_write() {
                session.write_tls(encrypted)?;
            }
        }
    }

    /// Reads some bytes, after a call of `before_wait` if they have to be waited for. 0: the server
    /// sends no more.
    pub(super) fn receive(
        &self,
        raw: &mut Raw,
        buffer: &mut [u8],
        mut before_wait: impl FnMut(),
    ) -> io::Result<usize> {
        #[cfg(feature = "tls")]
        if let Some(session) = &self.session {
            return self.receive_encrypted(session, raw, buffer, before_wait);
        }
        let _ = raw;
        before_wait();
        read(&self.socket, buffer)
    }

    #[cfg(feature = "tls")]
    fn receive_encrypted(
        &self,
        session: &parking_lot::Mutex<rustls::ClientConnection>,
        raw: &mut Raw,
        buffer: &mut [u8],
        mut before_wait: impl FnMut(),
    ) -> io::Result<usize> {
        loop {
            {
                let mut session = session.lock();
                match session.reader().read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    // An end without a goodbye costs nothing: what is unanswered is sent again.
                    Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                    outcome => return outcome,
                }
                let mut rest = &raw.bytes[raw.taken..];
                if !rest.is_empty() {
                    raw.taken += session.read_tls(&mut rest)?;
                    let processed = session.process_new_packets();
                    processed.map_err(|error| io::Error::other(error.to_string()))?;
                    continue;
                }
            }
            before_wait();
            raw.bytes.resize(RAW_BYTES, 0);
            raw.taken = 0;
            let length = read(&self.socket, &mut raw.bytes)?;
            raw.bytes.truncate(length);
            if length == 0 {
                return Ok(0);
            }
        }
    }
}

/// Writes as much as is taken now. Says whether that was all.
fn write_now(socket: &Socket, bytes: &[u8], written: &mut usize) -> io::Result<bool> {
    while *written < bytes.len() {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match send(socket, &bytes[*written..], flags) {
            Ok(more) => *written += more,
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(true)
}

fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match (&*socket).read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            outcome => return outcome,
        }
    }
}
