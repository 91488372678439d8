//! A session whose wire is memory.
//!
//! Public for tests and fuzzing, hidden from the documentation and outside semver.
#![allow(missing_docs)]

use std::cell::{Cell, RefCell};
use std::io;

use super::Tls;
use super::session::{Incoming, Session};
use crate::server::wire::{Failed, Plain, Received, SendNow, Wire};

/// The server's side of a connection: what the peer sent is fed in whatever pieces, and nothing
/// ever waits.
#[derive(Debug)]
pub struct InMemory {
    session: Session,
    incoming: Incoming,
    wire: Memory,
    has_shaken_hands: bool,
    /// Nobody goes on with a handshake that has failed.
    failed: Option<End>,
}

/// What a read brought, beside bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// There is nothing until more is fed.
    Not,
    /// The peer has ended its stream.
    Closed,
    /// The wire has ended before the peer's stream did.
    Cut,
    /// The peer has broken the protocol, in words.
    Failed(String),
}

#[derive(Debug, Default)]
struct Memory {
    /// From the peer.
    fed: RefCell<Vec<u8>>,
    is_cut: Cell<bool>,
    /// To the peer.
    sent: RefCell<Vec<u8>>,
}

impl InMemory {
    /// # Errors
    /// There is no session by these settings, in words.
    pub fn new(tls: &Tls) -> Result<InMemory, String> {
        let session = Session::new(&tls.loaded()).map_err(|failed| format!("{failed:?}"))?;
        Ok(InMemory {
            session,
            incoming: Incoming::default(),
            wire: Memory::default(),
            has_shaken_hands: false,
            failed: None,
        })
    }

    /// What the peer sends next.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.wire.fed.get_mut().extend_from_slice(bytes);
    }

    /// The peer sends no more.
    pub fn cut(&mut self) {
        self.wire.is_cut.set(true);
    }

    /// Shakes hands as far as that goes, and reads plaintext into `buf`, which is not empty.
    ///
    /// # Errors
    /// There is none.
    pub fn read(&mut self, buf: &mut [u8]) -> Result<usize, End> {
        if let Some(failed) = &self.failed {
            return Err(failed.clone());
        }
        let read = self.shake_hands().and_then(|()| {
            let (session, incoming) = (&self.session, &mut self.incoming);
            session.read(incoming, &self.wire, buf, true)
        });
        let end = match read {
            Ok(Plain::Bytes(len)) => return Ok(len),
            Ok(Plain::End) => End::Closed,
            Ok(Plain::Unclosed) | Err(Failed::Silent | Failed::Gone) => End::Cut,
            Ok(Plain::Nothing) | Err(Failed::Ended(_)) => End::Not,
            Err(Failed::Peer(why) | Failed::Refused(why) | Failed::NotAllowed(why)) => {
                End::Failed(why)
            }
        };
        if !self.has_shaken_hands && end != End::Not {
            self.failed = Some(end.clone());
        }
        Err(end)
    }

    fn shake_hands(&mut self) -> Result<(), Failed> {
        if !self.has_shaken_hands {
            self.session.handshake(&mut self.incoming, &self.wire)?;
            self.has_shaken_hands = true;
        }
        Ok(())
    }

    /// Takes what was sent to the peer.
    pub fn take_sent(&mut self) -> Vec<u8> {
        self.wire.sent.take()
    }

    /// Bytes that were taken of the wire and that no reader got.
    pub fn unread_bytes(&self) -> u64 {
        self.incoming.unread_bytes()
    }

    /// Bytes of memory that are held for the peer's bytes and for our own, beside rustls' own.
    pub fn held_bytes(&self) -> usize {
        self.incoming.held_bytes() + self.session.held_bytes()
    }
}

impl SendNow for Memory {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.sent.borrow_mut().extend_from_slice(bytes);
        Ok(bytes.len())
    }
}

impl Wire for Memory {
    fn receive(&self, buf: &mut [u8], waits: bool) -> io::Result<Received> {
        let mut fed = self.fed.borrow_mut();
        let len = fed.len().min(buf.len());
        if len > 0 {
            buf[..len].copy_from_slice(&fed[..len]);
            fed.drain(..len);
            return Ok(Received::Bytes(len));
        }
        match (self.is_cut.get(), waits) {
            (true, _) => Ok(Received::End),
            (false, false) => Ok(Received::Nothing),
            // Whoever waits ends here, and comes again.
            (false, true) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    fn show(&self, _: u32, _: bool) {}

    fn wait_writable(&self) -> io::Result<()> {
        Ok(())
    }
}
