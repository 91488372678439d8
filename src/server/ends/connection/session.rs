//! A connection whose bytes a session encrypts: the handshake, reads, and the end.

use std::io;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::opening::not_opened;
use super::{Connection, Unsent, send_all};
use crate::policy::Activity;
use crate::server::deadline::MAX_PARK;
use crate::server::error::{BoxError, Ended};
use crate::server::ledger::EndReason;
use crate::server::tls::{Session, Tls};
use crate::server::wire::{Failed, Plain, Received, SendNow, Wire};

/// The connection below its session.
struct Raw<'a> {
    connection: &'a Connection,
    /// The activity is shown already, and is one however often bytes come.
    is_handshake: bool,
}

impl Raw<'_> {
    fn enter(&self, activity: Activity) {
        if !self.is_handshake {
            self.connection.state.enter(activity);
        }
    }
}

impl SendNow for Raw<'_> {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.connection.state.send_now(bytes)
    }
}

impl Wire for Raw<'_> {
    fn receive(&self, buf: &mut [u8], waits: bool) -> io::Result<Received> {
        let connection = self.connection;
        let state = &connection.state;
        loop {
            if let Some(reason) = connection.end() {
                return Err(Ended(reason).into_io());
            }
            if self.is_handshake {
                connection
                    .wait_in_opening()
                    .map_err(|reason| Ended(reason).into_io())?;
            }
            let most = connection.may_read(buf.len());
            if most == 0 {
                if !waits {
                    return Ok(Received::Nothing);
                }
                connection.end.set(Some(EndReason::Shutdown));
                continue;
            }
            let buf = &mut buf[..most];
            self.enter(Activity::Reading);
            let got = match waits {
                false => recv(&state.socket, buf, RecvFlags::DONTWAIT).map(|(_, read)| read),
                true => {
                    let polling = &connection.shared.busy_polling;
                    let found = connection.busy_read.look(state, polling, buf);
                    found.unwrap_or_else(|| rustix::io::read(&state.socket, buf))
                }
            };
            self.enter(Activity::Working);
            match got {
                Err(Errno::INTR) => continue,
                Err(Errno::WOULDBLOCK) if !waits => return Ok(Received::Nothing),
                got => match connection.outcome(got)? {
                    Some(0) => return Ok(Received::End),
                    Some(read) => {
                        connection.use_allowance(read);
                        state.add_wire_bytes(read);
                        return Ok(Received::Bytes(read));
                    }
                    None if !waits => return Ok(Received::Nothing),
                    None => {}
                },
            }
        }
    }

    fn show(&self, records: u32, is_inside: bool) {
        if !self.is_handshake {
            self.connection.state.record_progress(records, is_inside);
        }
    }

    fn wait_writable(&self) -> io::Result<()> {
        let connection = self.connection;
        if connection.state.is_draining() && !connection.state.is_complete() {
            connection.end.set(Some(EndReason::Shutdown));
        }
        match connection.end() {
            Some(reason) => Err(Ended(reason).into_io()),
            None if self.is_handshake => connection
                .wait_in_opening_for(|wait| connection.state.poll_writable(wait))
                .map_err(|reason| Ended(reason).into_io()),
            None => {
                connection.state.poll_writable(MAX_PARK);
                Ok(())
            }
        }
    }
}

impl Connection {
    /// Shakes hands with the peer, as part of what comes before the handler.
    pub(super) fn shake_hands(&self, tls: &Tls) -> Result<(), BoxError> {
        let raw = Raw {
            connection: self,
            is_handshake: true,
        };
        match Session::shake_hands(tls, &raw) {
            Ok((session, incoming, peer_name)) => {
                *self.incoming.borrow_mut() = Some(Box::new(incoming));
                self.state.set_session(session, peer_name);
                Ok(())
            }
            Err(Failed::Silent) => Err(Box::new(Ended(EndReason::Eof))),
            Err(Failed::Ended(error)) => Err(Box::new(error)),
            Err(Failed::Gone) => {
                // Not the reset that may have been seen: what it cut short says more.
                self.end.set(None);
                Err(not_opened(
                    EndReason::HandshakeFailed,
                    "the client has gone inside the TLS handshake",
                ))
            }
            Err(Failed::Peer(why) | Failed::Refused(why)) => {
                Err(not_opened(EndReason::HandshakeFailed, why))
            }
            Err(Failed::NotAllowed(why)) => Err(not_opened(EndReason::NotAllowed, why)),
        }
    }

    /// Reads plaintext; `None` if there is none now, which is so only where `waits` is false.
    pub(super) fn read_session(
        &self,
        session: &Session,
        buf: &mut [u8],
        waits: bool,
    ) -> io::Result<Option<usize>> {
        match self.end() {
            Some(EndReason::Eof) => return Ok(Some(0)),
            Some(reason) => return Err(Ended(reason).into_io()),
            None => {}
        }
        let incoming = &mut *self.incoming.borrow_mut();
        let Some(incoming) = incoming else {
            return Ok(Some(0));
        };
        let raw = Raw {
            connection: self,
            is_handshake: false,
        };
        let got = session.read(incoming, &raw, buf, waits);
        let (records, is_inside) = incoming.progress();
        self.state.record_progress(records, is_inside);
        let got = match got {
            // OpenSSL answers so to an end that has no goodbye.
            Err(Failed::Refused(_)) if self.has_taken_leave() => Ok(Plain::Unclosed),
            got => got,
        };
        let (reason, why) = match got {
            Ok(Plain::Bytes(read)) => {
                self.has_read(read);
                return Ok(Some(read));
            }
            Ok(Plain::Nothing) => return Ok(None),
            Ok(Plain::End) => {
                self.end.set(Some(EndReason::Eof));
                return Ok(Some(0));
            }
            Err(Failed::Ended(error)) => return Err(error),
            Ok(Plain::Unclosed) => {
                self.end.set(Some(EndReason::Unclosed));
                return Err(Ended(EndReason::Unclosed).into_io());
            }
            Err(Failed::Peer(why) | Failed::Refused(why) | Failed::NotAllowed(why)) => {
                (EndReason::ProtocolError, why)
            }
            Err(Failed::Silent | Failed::Gone) => (EndReason::ProtocolError, String::new()),
        };
        self.end.set(Some(reason));
        let error = not_opened(reason, why);
        Err(io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Bytes that were read of the wire, and that no read of the handler's has returned.
    pub(in crate::server) fn unread_bytes(&self) -> u64 {
        let incoming = self.incoming.borrow();
        incoming
            .as_ref()
            .map_or(0, |incoming| incoming.unread_bytes())
    }

    /// Tells the peer that nothing follows. Blocks as a write does.
    pub(super) fn end_session(&self, session: &Session) -> io::Result<()> {
        let _turn = self.turn_to_write()?;
        self.state.enter(Activity::Writing);
        session.close(&*self.state);
        let sent = send_all(&self.state, &mut &[][..], None, None);
        self.state.enter(Activity::Working);
        match sent {
            Ok(()) => Ok(()),
            Err(Unsent::Failed(error)) => Err(error),
            Err(_) => {
                let reason = self.state.ended().unwrap_or(EndReason::Reset);
                Err(Ended(reason).into_io())
            }
        }
    }
}
