//! A connection's session: what the wire brings goes in, plaintext comes out, and the other way
//! round.
//!
//! It decrypts inside the buffer that was read into (rustls' unbuffered interface): an idle
//! connection holds no buffer, and a busy one no more than are named here. Two parts:
//!
//! - a [`Session`], which the handler and the writers of other threads share. Its lock is held
//!   while bytes are encrypted or decrypted, and while the kernel takes what it takes at once;
//!   never while anybody waits for the peer.
//! - the [`Incoming`] part of the handler's, of which no other thread knows: so a read that waits
//!   for the peer reads into memory that needs no lock.

use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::server::{ServerConnectionData, UnbufferedServerConnection};
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncodeTlsData, EncryptError, UnbufferedStatus, WriteTraffic,
};

use super::certificate::Names;
use super::material::Loaded;
use super::{Tls, TlsVersion, words};
use crate::server::wire::{Failed, Plain, Received, SendNow, Wire};

/// The largest record, with its header (RFC 5246, 6.2.3).
const MAX_RECORD: usize = 5 + (16 << 10) + (2 << 10);
/// What a read that does not wait takes at once. Reads of one record cost a tenth more CPU, of four
/// a seventh less, and each connection may hold such a buffer.
const INCOMING_BYTES: usize = 2 * MAX_RECORD;
/// A read that waits reads into this much stack, which the handshake has touched already.
const SMALL_READ: usize = 1 << 10;
/// The plaintext that is encrypted at once: one record.
const MAX_PLAIN: usize = 16 << 10;
/// A record's header, nonce and tag, and a KeyUpdate that may go before it.
const BESIDE_PLAIN: usize = 128;
/// An answer in the handshake is hardly larger than our certificates.
const MAX_ANSWER: usize = 1 << 20;

/// Resident bytes of stack that a handshake touches beyond those that are counted for each thread.
/// Idle threads were measured at 24 KiB after a handshake with an EC key, 28 with a certificate of
/// the client and 32 with an RSA key of 4,096 bits, against 8 without TLS. Code that is built
/// without optimisation has frames of several times the size.
const STACK_BYTES: usize = if cfg!(debug_assertions) {
    96 << 10
} else {
    24 << 10
};
/// The heap of an idle session: 11 KiB were measured, with what the handshake leaves torn up.
const IDLE_BYTES: usize = 16 << 10;

/// What the allocator adds to each.
const MALLOC_BYTES: usize = 32;

/// Resident bytes that a connection's session takes at most, its stack included. `answer` are the
/// bytes of our certificates and the names of client CAs, which an answer holds while it is made
/// and sent, and rustls in its transcript; a client's certificates stay for as long as the session.
pub(super) fn memory_bytes(answer: usize, has_client_auth: bool) -> usize {
    // A record in rustls' own memory while its plaintext is copied to where its reader has it.
    let plain = 2 * (MAX_PLAIN + 256 + MALLOC_BYTES);
    let outgoing = MAX_PLAIN + BESIDE_PLAIN + MALLOC_BYTES;
    let certificates = match has_client_auth {
        true => MAX_RECORD + MALLOC_BYTES,
        false => 0,
    };
    let at_most = INCOMING_BYTES + MALLOC_BYTES + plain + outgoing + certificates + 3 * answer;
    STACK_BYTES + IDLE_BYTES + at_most
}

/// The shared part.
pub(crate) struct Session {
    inner: Mutex<Inner>,
    min_version: TlsVersion,
}

struct Inner {
    connection: UnbufferedServerConnection,
    /// Records for the peer, of which the kernel has not taken those from `sent` on.
    outgoing: Vec<u8>,
    sent: usize,
    /// No more records are made: the last was a close_notify, or an alert.
    is_over: bool,
}

/// What the handler has read of the wire, and of plaintext that its reader had no room for.
#[derive(Default)]
pub(crate) struct Incoming {
    /// From `start` to `end` it is not decrypted yet.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    plain: Vec<u8>,
    plain_start: usize,
    /// The first record's type is known to be right.
    has_begun: bool,
    records: u32,
    is_closed: bool,
    failed: Option<String>,
    /// It has failed by an alert of the peer.
    is_refused: bool,
}

impl Incoming {
    /// How many records there were, and whether one has begun that is not whole.
    pub(crate) fn progress(&self) -> (u32, bool) {
        (self.records, self.end > self.start)
    }

    /// Bytes that were read of the wire and that no reader got: ciphertext or plaintext.
    pub(crate) fn unread_bytes(&self) -> u64 {
        (self.end - self.start + self.plain.len() - self.plain_start) as u64
    }

    fn failure(&self) -> Option<Failed> {
        let failed = self.failed.clone()?;
        Some(match self.is_refused {
            true => Failed::Refused(failed),
            false => Failed::Peer(failed),
        })
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.bytes.capacity() + self.plain.capacity()
    }

    /// Moves plaintext that an earlier read had no room for.
    fn take_plain(&mut self, buf: &mut [u8]) -> usize {
        let rest = &self.plain[self.plain_start..];
        let len = rest.len().min(buf.len());
        buf[..len].copy_from_slice(&rest[..len]);
        self.plain_start += len;
        if self.plain_start == self.plain.len() {
            self.plain = Vec::new();
            self.plain_start = 0;
        }
        len
    }

    /// Reads from the wire behind what is there. Says whether more may be there.
    fn receive(&mut self, wire: &impl Wire, waits: bool) -> io::Result<(Received, bool)> {
        if waits {
            let (records, is_inside) = self.progress();
            wire.show(records, is_inside);
        }
        if self.start == self.end && waits {
            // Whoever waits holds no buffer.
            self.bytes = Vec::new();
            (self.start, self.end) = (0, 0);
            return self.receive_small(wire);
        }
        self.make_room();
        let free = &mut self.bytes[self.end..];
        let most = free.len();
        let received = wire.receive(free, waits)?;
        Ok((received, self.has_received(received, most)))
    }

    /// A function of its own: what is on the stack here must not be below what a send needs.
    #[inline(never)]
    fn receive_small(&mut self, wire: &impl Wire) -> io::Result<(Received, bool)> {
        let mut small = [0; SMALL_READ];
        let received = wire.receive(&mut small, true)?;
        match received {
            Received::Bytes(SMALL_READ) => {
                self.make_room();
                self.bytes[..SMALL_READ].copy_from_slice(&small);
            }
            Received::Bytes(len) => self.bytes = small[..len].to_vec(),
            _ => {}
        }
        Ok((received, self.has_received(received, SMALL_READ)))
    }

    fn has_received(&mut self, received: Received, most: usize) -> bool {
        let Received::Bytes(len) = received else {
            return false;
        };
        self.end += len;
        len == most
    }

    fn make_room(&mut self) {
        if self.bytes.len() < INCOMING_BYTES {
            self.bytes.reserve_exact(INCOMING_BYTES - self.bytes.len());
            self.bytes.resize(INCOMING_BYTES, 0);
        }
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            self.end -= std::mem::take(&mut self.start);
        }
    }

    /// Of what is not TLS at all, rustls would say no more than that a type is invalid.
    fn check_beginning(&mut self) -> Result<(), String> {
        const HANDSHAKE: u8 = 22;
        if self.has_begun || self.start == self.end {
            return Ok(());
        }
        self.has_begun = true;
        let first = &self.bytes[self.start..self.end];
        match first[0] {
            HANDSHAKE => Ok(()),
            _ => Err(words::not_tls(first)),
        }
    }

    /// Checks what is left where rustls wants more of it.
    fn check_rest(&mut self, is_handshaking: bool) -> Result<(), String> {
        let rest = &self.bytes[self.start..self.end];
        // No record alone is longer.
        if rest.len() > MAX_RECORD {
            return Err(format!(
                "a message of the handshake is longer than {MAX_RECORD} bytes"
            ));
        }
        // A whole record that is left holds the beginning of a message of the handshake, which
        // rustls looks for at the same place again; but records for the peer are made without these
        // bytes. After the handshake such a message has 5 bytes, and nobody splits it.
        let is_whole = rest.len() >= 5
            && rest.len() >= 5 + usize::from(u16::from_be_bytes([rest[3], rest[4]]));
        if is_whole && !is_handshaking {
            return Err("a message of the handshake is split behind the handshake".to_owned());
        }
        Ok(())
    }
}

impl Session {
    /// Shakes hands by what is current in `tls`. Returns the session, what was read behind the
    /// handshake, and what the peer's certificate calls the peer. Blocks while the peer has
    /// something to do.
    ///
    /// # Errors
    /// A peer that broke the protocol was told so by an alert.
    pub(crate) fn shake_hands(
        tls: &Tls,
        wire: &impl Wire,
    ) -> Result<(Session, Incoming, Option<String>), Failed> {
        // It lives until the handshake is over, and no longer: rustls drops its own copy then, too.
        let loaded = tls.loaded();
        let session = Session::new(&loaded)?;
        let mut incoming = Incoming::default();
        session.handshake(&mut incoming, wire)?;
        match session.peer_name(&loaded) {
            Ok(name) => Ok((session, incoming, name)),
            Err(why) => {
                session.close(wire);
                Err(Failed::NotAllowed(why))
            }
        }
    }

    pub(super) fn new(loaded: &Loaded) -> Result<Self, Failed> {
        let connection = UnbufferedServerConnection::new(Arc::clone(&loaded.config));
        let inner = Inner {
            connection: connection.map_err(|error| Failed::Peer(error.to_string()))?,
            outgoing: Vec::new(),
            sent: 0,
            is_over: false,
        };
        Ok(Session {
            inner: Mutex::new(inner),
            min_version: loaded.min_version,
        })
    }

    /// Goes on where it was, should it be called again after an error of the wire.
    pub(super) fn handshake(
        &self,
        incoming: &mut Incoming,
        wire: &impl Wire,
    ) -> Result<(), Failed> {
        loop {
            let (is_done, flushed) = {
                let inner = &mut *self.inner.lock();
                self.decrypt(inner, incoming, &mut []);
                (!inner.connection.is_handshaking(), inner.flush(wire))
            };
            if let Some(failed) = incoming.failure() {
                return Err(failed);
            }
            flushed.map_err(|_| Failed::Gone)?;
            while !self.has_sent_all() {
                wire.wait_writable().map_err(Failed::Ended)?;
                let flushed = self.inner.lock().flush(wire);
                flushed.map_err(|_| Failed::Gone)?;
            }
            if is_done {
                return Ok(());
            }
            match incoming.receive(wire, true) {
                Ok((Received::End, _)) if !incoming.has_begun => return Err(Failed::Silent),
                Ok((Received::End, _)) => return Err(Failed::Gone),
                Ok(_) => {}
                // The network, or a peer that resets.
                Err(error) if incoming.has_begun && error.raw_os_error().is_some() => {
                    return Err(Failed::Gone);
                }
                Err(error) => return Err(Failed::Ended(error)),
            }
        }
    }

    /// What the peer's certificate calls it; `None` if it has none.
    ///
    /// # Errors
    /// It may not stay. What it is called, in words.
    fn peer_name(&self, loaded: &Loaded) -> Result<Option<String>, String> {
        let inner = self.inner.lock();
        let certificates = inner.connection.peer_certificates();
        let names = certificates.and_then(|all| all.first()).map(Names::of);
        match (names, &loaded.allow) {
            (None, None) => Ok(None),
            (None, Some(_)) => {
                Err("the client has no certificate, so no name that is allowed".to_owned())
            }
            (Some(names), Some(allow)) if !names.is_one_of(allow) => {
                Err(format!("the client's certificate is of {names}"))
            }
            (Some(names), _) => Ok(Some(names.first())),
        }
    }

    /// Reads plaintext, as much as `buf` holds and is there. Waits, where `waits` says so, only
    /// while there is none. `buf` is not empty.
    pub(crate) fn read(
        &self,
        incoming: &mut Incoming,
        wire: &impl Wire,
        buf: &mut [u8],
        waits: bool,
    ) -> Result<Plain, Failed> {
        let mut len = incoming.take_plain(buf);
        let mut may_be_more = true;
        loop {
            // What a peer sends behind its end is ignored (RFC 8446, 6.1).
            if len < buf.len() && incoming.start < incoming.end && !incoming.is_closed {
                let inner = &mut *self.inner.lock();
                len += self.decrypt(inner, incoming, &mut buf[len..]);
                if inner.has_unsent() {
                    // Who sends next hears of its errors.
                    let _ = inner.flush(wire);
                }
            }
            let is_over = incoming.is_closed || incoming.failed.is_some();
            if len == buf.len() || len > 0 && (is_over || !may_be_more) {
                return Ok(Plain::Bytes(len));
            }
            if let Some(failed) = incoming.failure() {
                return Err(failed);
            }
            if incoming.is_closed {
                return Ok(Plain::End);
            }
            match incoming.receive(wire, waits && len == 0) {
                Ok((Received::Bytes(_), more)) => may_be_more = more,
                // What ended the stream still has ended it at the next read.
                _ if len > 0 => return Ok(Plain::Bytes(len)),
                Ok((Received::End, _)) => return Ok(Plain::Unclosed),
                Ok((Received::Nothing, _)) => return Ok(Plain::Nothing),
                Err(ended) => return Err(Failed::Ended(ended)),
            }
        }
    }

    /// Encrypts what is at the front of `plain`, at most a record, unless the kernel has not taken
    /// all yet that was encrypted before. Hands over what it takes at once. Returns how much was
    /// encrypted: that is what the peer gets next, whatever becomes of the caller.
    ///
    /// # Errors
    /// The peer is gone, or the session is over.
    pub(crate) fn send_now(&self, wire: &impl SendNow, plain: &[u8]) -> io::Result<usize> {
        let inner = &mut *self.inner.lock();
        inner.flush(wire)?;
        let part = &plain[..plain.len().min(MAX_PLAIN)];
        if inner.has_unsent() || part.is_empty() {
            return Ok(0);
        }
        if inner.is_over {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        inner.make(part.len() + BESIDE_PLAIN, |traffic, into| {
            traffic.encrypt(part, into)
        })?;
        inner.flush(wire)?;
        Ok(part.len())
    }

    pub(super) fn held_bytes(&self) -> usize {
        self.inner.lock().outgoing.capacity()
    }

    /// Whether the kernel has taken all that was encrypted.
    pub(crate) fn has_sent_all(&self) -> bool {
        !self.inner.lock().has_unsent()
    }

    /// Tells the peer that nothing follows, as far as the kernel takes it at once.
    pub(crate) fn close(&self, wire: &impl SendNow) {
        let inner = &mut *self.inner.lock();
        if !inner.is_over && !inner.connection.is_handshaking() {
            inner.is_over = true;
            let _ = inner.make(BESIDE_PLAIN, |traffic, into| {
                traffic.queue_close_notify(into)
            });
        }
        let _ = inner.flush(wire);
    }

    /// Decrypts whole records until there is none any more, or `buf` is full; what of the last one
    /// does not fit waits in `incoming`. What the session has to say is outgoing then.
    fn decrypt(&self, inner: &mut Inner, incoming: &mut Incoming, buf: &mut [u8]) -> usize {
        let mut len = 0;
        if let Err(failed) = self.decrypt_into(inner, incoming, buf, &mut len) {
            inner.take_alert(&mut incoming.bytes[incoming.start..incoming.end]);
            incoming.bytes = Vec::new();
            (incoming.start, incoming.end) = (0, 0);
            incoming.failed = Some(failed);
        }
        len
    }

    fn decrypt_into(
        &self,
        inner: &mut Inner,
        incoming: &mut Incoming,
        buf: &mut [u8],
        len: &mut usize,
    ) -> Result<(), String> {
        incoming.check_beginning()?;
        loop {
            let wire = &mut incoming.bytes[incoming.start..incoming.end];
            let UnbufferedStatus { discard, state } = inner.connection.process_tls_records(wire);
            incoming.start += discard;
            match state {
                Ok(ConnectionState::ReadTraffic(mut traffic)) => {
                    incoming.records = incoming.records.wrapping_add(1);
                    let mut discard = 0;
                    while let Some(Ok(record)) = traffic.next_record() {
                        discard += record.discard;
                        let fits = record.payload.len().min(buf.len() - *len);
                        let (now, later) = record.payload.split_at(fits);
                        buf[*len..][..fits].copy_from_slice(now);
                        *len += fits;
                        incoming.plain.extend_from_slice(later);
                    }
                    incoming.start += discard;
                    if *len == buf.len() {
                        return Ok(());
                    }
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append(&mut inner.outgoing, 0, |into| encode(&mut record, into))
                        .map_err(|_| "an answer could not be encoded".to_owned())?
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                Ok(ConnectionState::PeerClosed | ConnectionState::Closed) => {
                    incoming.is_closed = true;
                    return Ok(());
                }
                Ok(ConnectionState::WriteTraffic(_) | ConnectionState::BlockedHandshake) => {
                    return incoming.check_rest(inner.connection.is_handshaking());
                }
                // Early data is off.
                Ok(_) => return Err("early data, which is not taken".to_owned()),
                Err(error) => {
                    incoming.is_refused = matches!(error, rustls::Error::AlertReceived(_));
                    return Err(words::of(&error, self.min_version));
                }
            }
        }
    }
}

impl Inner {
    fn has_unsent(&self) -> bool {
        self.sent < self.outgoing.len()
    }

    /// Hands over what the kernel takes at once.
    fn flush(&mut self, wire: &impl SendNow) -> io::Result<()> {
        while self.has_unsent() {
            match wire.send_now(&self.outgoing[self.sent..])? {
                0 => return Ok(()),
                sent => self.sent += sent,
            }
        }
        self.outgoing = Vec::new();
        self.sent = 0;
        Ok(())
    }

    /// Makes records of our own, which needs no byte of the wire: the handler's side has taken all
    /// that there was to take, and keeps none of a message that rustls has begun to read.
    fn make(
        &mut self,
        size: usize,
        mut make: impl FnMut(
            &mut WriteTraffic<'_, ServerConnectionData>,
            &mut [u8],
        ) -> Result<usize, EncryptError>,
    ) -> io::Result<()> {
        loop {
            match self.connection.process_tls_records(&mut []).state {
                Ok(ConnectionState::WriteTraffic(mut traffic)) => {
                    return append(&mut self.outgoing, size, |into| {
                        make(&mut traffic, into).map_err(|error| match error {
                            EncryptError::InsufficientSize(more) => Some(more.required_size),
                            EncryptError::EncryptExhausted => None,
                        })
                    });
                }
                Ok(ConnectionState::EncodeTlsData(mut record)) => {
                    append(&mut self.outgoing, 0, |into| encode(&mut record, into))?;
                }
                Ok(ConnectionState::TransmitTlsData(transmit)) => transmit.done(),
                _ => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        }
    }

    /// The session has failed: what it may still have to say is an alert, which is the last. `rest`
    /// is what was not taken of the wire.
    fn take_alert(&mut self, rest: &mut [u8]) {
        self.is_over = true;
        // Not asked again: rustls would look at the same record once more.
        let status = self.connection.process_tls_records(rest);
        if let Ok(ConnectionState::EncodeTlsData(mut record)) = status.state {
            let _ = append(&mut self.outgoing, 0, |into| encode(&mut record, into));
        }
    }
}

fn encode(
    record: &mut EncodeTlsData<'_, ServerConnectionData>,
    into: &mut [u8],
) -> Result<usize, Option<usize>> {
    record.encode(into).map_err(|error| match error {
        EncodeError::InsufficientSize(more) => Some(more.required_size),
        EncodeError::AlreadyEncoded => None,
    })
}

/// Appends what `make` writes into free memory of `size` bytes. It may ask for more once it is
/// called, by the error `Some`.
fn append(
    outgoing: &mut Vec<u8>,
    mut size: usize,
    mut make: impl FnMut(&mut [u8]) -> Result<usize, Option<usize>>,
) -> io::Result<()> {
    let start = outgoing.len();
    loop {
        outgoing.reserve_exact(size);
        outgoing.resize(start + size, 0);
        let made = make(&mut outgoing[start..]);
        outgoing.truncate(start + made.unwrap_or(0));
        match made {
            Ok(_) => return Ok(()),
            Err(Some(more)) if more > size && more <= MAX_ANSWER => size = more,
            Err(_) => return Err(io::ErrorKind::BrokenPipe.into()),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

/// Without the bytes: payloads stay out of logs.
impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
