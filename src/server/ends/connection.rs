//! A handler's connection: reads, replies, and why they ended.

mod late;
mod opening;
#[cfg_attr(not(feature = "tls"), allow(dead_code))]
mod session;

pub(in crate::server) use opening::MAX_HEAD_BYTES;

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use self::late::Late;
use super::busy_read::BusyRead;
use super::rate_limit::RateLimit;
use super::transport::{Caller, MAX_PER_WRITE, Unsent, send_all, send_now, wait_for_turn};
use super::writer::Writer;
use crate::policy::Activity;
use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::error::Ended;
use crate::server::ledger::{DropReason, EndReason};
use crate::server::peer::{Address, Peer};
use crate::server::state::Shared;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::logger::Logger;
use crate::server::state::turns::Turn;
use crate::server::tls::Incoming;

/// A handler's connection: reads from the peer and writes to it.
///
/// [`Read`] and [`Write`] are implemented for `&Connection`, too, as they are for
/// [`&TcpStream`](std::net::TcpStream): a handler can read through a
/// [`BufReader`](std::io::BufReader) of one shared reference and reply through another.
///
/// # Reading
/// [`read`](Read::read) blocks until bytes arrive, the peer ends its stream, a deadline of the
/// [`Config`](crate::Config) passes, or the server drains. **0 is always the peer's end of
/// stream.** If the server has ended the connection, reads return an error that wraps [`Ended`],
/// the same at every later call; [`Ended::reason_of`] returns the reason. While the server drains,
/// what the kernel had received can still be read; then reads return [`EndReason::Shutdown`], never
/// 0. With a rate limit, a read may be delayed first, and returns about a second's worth. Once the
/// peer has ended or reset its stream, reads are not delayed.
///
/// # Writing
/// [`write`](Write::write) blocks while the peer does not receive, at most `write_timeout` for each
/// 64 KiB. Replies can be written while the server drains. There is no buffer: flush does nothing.
/// After `idle_timeout` has ended the connection, a goodbye can still be written as far as the
/// kernel takes it at once. Other threads write through a [`writer`](Connection::writer).
///
/// # Drop
/// The server drops the connection and closes the socket when the handler has returned. Bytes that
/// nobody read are counted as `unread_bytes`, and the peer gets a reset because of them (Linux's
/// close(2) on a TCP socket).
pub struct Connection {
    state: Arc<ConnectionState>,
    shared: Arc<Shared>,
    rate: RefCell<Option<RateLimit>>,
    /// The first end that a read has seen, which is kept.
    end: Cell<Option<EndReason>>,
    /// How many bytes may still be read while the server drains.
    allowance: Cell<Option<u64>>,
    /// What may be read behind these, of a peer that came late.
    late: Cell<Late>,
    /// The peer has sent nothing of what comes before its own bytes.
    is_silent: Cell<bool>,
    /// Until when a drain waits for that to be complete, once some of it has come.
    opening_until: Cell<Option<Deadline>>,
    /// What was read of a session and is not passed on.
    incoming: RefCell<Option<Box<Incoming>>>,
    /// Other threads may write.
    has_writer: Cell<bool>,
    busy_read: BusyRead,
}

impl Connection {
    pub(crate) fn new(state: Arc<ConnectionState>, shared: Arc<Shared>) -> Self {
        let rate = shared.listener_of(&state).rate_limit.map(RateLimit::new);
        Connection {
            state,
            shared,
            rate: RefCell::new(rate),
            end: Cell::new(None),
            allowance: Cell::new(None),
            late: Cell::new(Late::ALL),
            is_silent: Cell::new(true),
            opening_until: Cell::new(None),
            incoming: RefCell::new(None),
            has_writer: Cell::new(false),
            busy_read: BusyRead::default(),
        }
    }

    /// The connection's number, unique in the life of the server, from 1.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The other end of the connection: behind a balancer that names its clients
    /// ([`Config::proxy_from`](crate::Config#structfield.proxy_from)), the client.
    pub fn peer(&self) -> Peer {
        self.state.peer()
    }

    /// The balancer through which the peer came, if it has named the peer.
    pub fn balancer(&self) -> Option<Peer> {
        self.state.balancer()
    }

    /// What the peer's certificate calls it, over TLS with a client CA: its first DNS name, or else
    /// its first URI, or else `sha256:` and the fingerprint. `None` without a certificate.
    pub fn tls_name(&self) -> Option<&str> {
        self.state.tls_name().map(|name| &**name)
    }

    /// As [`tls_name`](Connection::tls_name), for what outlives the connection.
    pub(crate) fn shared_tls_name(&self) -> Option<Arc<str>> {
        self.state.tls_name().cloned()
    }

    /// The address that the peer connected to (getsockname(2)).
    ///
    /// # Errors
    /// As [`TcpStream::local_addr`](std::net::TcpStream::local_addr).
    pub fn local_addr(&self) -> io::Result<Address> {
        Address::of(&self.state.socket)
    }

    /// The name of the listener that accepted the connection
    /// ([`Listener::named`](crate::Listener::named)), or the listener's address if it has no name.
    pub fn listener(&self) -> &str {
        self.state.listener.name()
    }

    /// As [`listener`](Connection::listener), for what outlives the connection.
    pub(crate) fn listener_name(&self) -> Arc<str> {
        self.state.listener.shared()
    }

    /// The index of the listener that accepted the connection, as in
    /// [`Server::addresses`](crate::Server::addresses).
    pub fn listener_index(&self) -> usize {
        self.state.listener.index()
    }

    /// The server's log, for lines that must not block the handler.
    pub fn logger(&self) -> &Logger {
        &self.shared.logger
    }

    /// The time of day as of the last tick. Reads no clock.
    pub(crate) fn tick_time(&self) -> SystemTime {
        self.shared.tick_time.get()
    }

    /// The bytes of heap that the limits count for this connection's handler.
    pub(crate) fn handler_bytes(&self) -> usize {
        self.shared.config.handler_bytes
    }

    /// Whether the peer was told that the server leaves, before it ended its stream.
    pub(crate) fn has_taken_leave(&self) -> bool {
        self.state.leave.is_told()
    }

    /// Counts messages that a handler dropped without sending them, as
    /// [`Sender::record_dropped`](super::sender::Sender::record_dropped) does.
    pub(crate) fn record_dropped(&self, reason: DropReason, messages: u64) {
        self.shared.quota.dropped(&self.state, reason, messages);
    }

    /// Whether the server is draining or this connection was ended. A handler that does not read
    /// should check this and return.
    pub fn is_draining(&self) -> bool {
        self.state.is_draining() || self.state.ended().is_some()
    }

    /// Reports `finished` more frames, and whether an unfinished frame has begun. Without these
    /// reports `frame_timeout` does not apply. Costs two plain stores.
    pub fn frame_progress(&self, finished: u64, inside: bool) {
        self.state.frame_progress(finished, inside);
    }

    /// Lets the server delay the next read, while it makes so many small reads that waking for each
    /// costs too much. Returns `false` at once if the read is not delayed. Otherwise blocks for at
    /// most [`max_read_delay`](crate::Config::max_read_delay) and returns `true`: then most likely
    /// several messages are there. A drain and whatever ends the connection end the delay. The
    /// delay counts as waiting for the peer, and reads are not delayed near a deadline.
    ///
    /// For handlers of one-way messages: call this before each read, when everything that was read
    /// has been sent. A handler that replies must not call this, because its peer would wait for
    /// the delay.
    pub fn delay_read(&self) -> bool {
        if self.has_writer.get() {
            return false;
        }
        self.state.allow_delay();
        let Some(step) = self.state.read_delay() else {
            return false;
        };
        // All delayed reads wake together, on a common grid.
        let past = self.shared.now().as_nanos() % step.as_nanos().max(1);
        // `past` is less than the step, which is less than 2^32 microseconds.
        let until = Deadline::after(step - Duration::from_nanos(past as u64));
        self.delay(until);
        true
    }

    /// Reads what is there into `buf`, without waiting for the peer. Returns the number of bytes, 0
    /// at the peer's end of stream, or `None` if there are none now, `buf` is empty, or nothing may
    /// be read: then [`read`](Read::read) waits, or returns the reason.
    ///
    /// # Errors
    /// As [`read`](Read::read).
    pub fn read_ready(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let most = self.paid_size(buf.len());
        if let Some(session) = self.state.session() {
            return match self.end().is_some() || most == 0 {
                true => Ok(None),
                false => self.read_session(session, &mut buf[..most], false),
            };
        }
        let most = self.may_read(most);
        if self.end().is_some() || most == 0 {
            return Ok(None);
        }
        self.state.enter(Activity::Reading);
        let got = rustix::net::recv(&self.state.socket, &mut buf[..most], RecvFlags::DONTWAIT);
        self.state.enter(Activity::Working);
        match got.map(|(_, read)| read) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            got => self.ended_or(got),
        }
    }

    /// As [`read`](Read::read), but waits for bytes for at most `wait`, beside the delay of a rate
    /// limit. Returns `None` if no bytes came in time. For a handler with something else to do now
    /// and then.
    ///
    /// # Errors
    /// As [`read`](Read::read).
    pub fn read_within(&self, buf: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        let until = Deadline::after(wait);
        loop {
            if buf.is_empty() || self.end().is_some() || self.is_draining() {
                return (&mut &*self).read(buf).map(Some);
            }
            if let Some(read) = self.read_ready(buf)? {
                return Ok(Some(read));
            }
            let Some(left) = until.remaining(MAX_PARK) else {
                return Ok(None);
            };
            self.state.enter(Activity::Reading);
            self.state.poll_readable(left);
            self.state.enter(Activity::Working);
        }
    }

    /// Ends the sending direction: the peer reads an end of stream. Reading goes on. Over TLS this
    /// blocks as a write does, until the peer has been told so.
    ///
    /// # Errors
    /// The connection is closed already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        if let Some(session) = self.state.session() {
            self.end_session(session)?;
        }
        self.state.socket.shutdown(Shutdown::Write)
    }

    /// A writer to the peer for other threads, such as a subscription or a timer. See [`Writer`].
    /// From then on no read is delayed: the peer may wait for what is pushed.
    pub fn writer(&self) -> Writer {
        self.has_writer.set(true);
        Writer::new(&self.state, &self.shared)
    }

    /// Why the connection ended, by the server or as a read has seen.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.state.ended().or(self.end.get())
    }

    /// Counts the outcome of a read(2) and returns it, as [`outcome`](Connection::outcome) does.
    fn ended_or(&self, got: Result<usize, Errno>) -> io::Result<Option<usize>> {
        let read = self.outcome(got)?;
        match read {
            Some(0) => self.end.set(Some(EndReason::Eof)),
            Some(read) => {
                self.use_allowance(read);
                self.has_read(read);
            }
            None => {}
        }
        Ok(read)
    }

    /// Counts bytes of the peer's own that were read.
    fn has_read(&self, read: usize) {
        if let Some(rate) = &mut *self.rate.borrow_mut() {
            rate.has_read(read);
        }
        self.state.add_bytes(read);
    }

    /// What the outcome of a read(2) means. `None` if the server ended the stream: then
    /// [`end`](Connection::end) or the drain tells why.
    fn outcome(&self, got: Result<usize, Errno>) -> io::Result<Option<usize>> {
        match got {
            // Our own shutdown(2) makes a read return 0, too. Its flag is set before, so a 0
            // without a flag is the peer's. With a flag it counts as ours, because half a line must
            // not be delivered as if it were whole.
            Ok(0) if self.state.ended().is_some() => Ok(None),
            Ok(0) if self.state.is_draining() && !self.state.is_complete() => {
                // The kernel may count bytes that no read brings (a Unix socket's urgent byte).
                if self.allowance.get().is_some() {
                    self.allowance.set(Some(0));
                }
                Ok(None)
            }
            Ok(read) => Ok(Some(read)),
            Err(_) if self.state.ended().is_some() => Ok(None),
            // Bytes of a peer that was told that the server leaves, and went on.
            Err(_) if self.state.leave.is_told() && self.state.is_draining() => {
                self.state.leave.set_refused();
                self.allowance.set(Some(0));
                Ok(None)
            }
            Err(error) => {
                // The kernel returns ECONNRESET once and 0 afterwards, so the reset is kept.
                self.end.set(Some(EndReason::Reset));
                Err(error.into())
            }
        }
    }

    /// How much of `wanted` may be read. While the server drains, only what the kernel had received
    /// at the first call during the drain, so that a peer that never stops sending cannot delay it.
    /// On Linux, data that arrives after a read-side shutdown can still be read.
    fn may_read(&self, wanted: usize) -> usize {
        if !self.state.is_draining() || self.state.is_complete() {
            return wanted;
        }
        let left = self.allowance.get();
        let left = left.unwrap_or_else(|| self.state.unread_bytes());
        let left = if left == 0 { self.late_bytes() } else { left };
        self.allowance.set(Some(left));
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Takes what was read from what may still be read.
    fn use_allowance(&self, read: usize) {
        let left = self.allowance.get();
        let left = left.map(|left| left.saturating_sub(read as u64));
        self.allowance.set(left);
    }

    /// Waits for the rate limit, as a read does. Returns how many messages may be sent before the
    /// next wait: a second's worth, or any number without a limit.
    ///
    /// For handlers that find many messages in one read, before they send each part of them.
    pub(crate) fn hold_to_rate(&self) -> u64 {
        match (self.pay(), self.shared.listener_of(&self.state).rate_limit) {
            (false, Some(rate)) => rate,
            _ => u64::MAX,
        }
    }

    /// The messages that the rate limit counts: those that were sent, or the frames that were
    /// reported by a handler that only replies.
    fn rated_messages(&self) -> u64 {
        self.state.messages().max(self.state.frames())
    }

    /// Waits until the rate limit allows the messages so far. A drain or an abort ends the wait. So
    /// does a peer that has ended or reset its stream: the wait would slow down nobody, and the
    /// slot is better used. Returns whether the rate limit does not apply now.
    fn pay(&self) -> bool {
        let wait = {
            let mut rate = self.rate.borrow_mut();
            let Some(rate) = &mut *rate else {
                return true;
            };
            let wait = rate.charge(self.rated_messages());
            if wait.is_zero() {
                return self.is_leaving();
            }
            if rate.is_first_wait() {
                self.log_rate_limit();
            }
            wait
        };
        self.pause(Deadline::after(wait)) || self.is_leaving()
    }

    /// Whether a drain has begun that the peer may know of: no rate limit holds it up any more.
    fn is_leaving(&self) -> bool {
        self.is_draining() || self.state.leave.is_told()
    }

    /// Blocks until it is the handler's turn to write.
    fn turn_to_write(&self) -> io::Result<Turn<'_>> {
        let turn = self.state.turns.join();
        if !turn.is_up() {
            // The write of another thread must not count against the deadline of this one.
            let caller = Caller::serving(Some(Arc::clone(&self.state)));
            wait_for_turn(&turn, &caller).map_err(|reason| Ended(reason).into_io())?;
        }
        Ok(turn)
    }

    fn log_rate_limit(&self) {
        self.shared.logger.log_debug(|| {
            let connection = self.label();
            format!("{connection} is held back by rate_limit (logged once per connection)")
        });
    }

    /// The connection in a log line.
    pub(crate) fn label(&self) -> String {
        self.state.label()
    }

    /// Waits for the rate limit, and returns how much of `wanted` bytes to read.
    fn paid_size(&self, wanted: usize) -> usize {
        let is_free = self.pay();
        let messages = self.rated_messages();
        match &mut *self.rate.borrow_mut() {
            Some(rate) if !is_free => wanted.min(rate.next_read(messages)),
            _ => wanted,
        }
    }

    /// Sleeps until then, or until the peer's stream is over, and returns whether it is. Not in
    /// poll(2): a drain that reads on shuts the socket down for writing only, which wakes nobody.
    /// So the watchdog looks for the peer's end, with each tick.
    fn pause(&self, until: Deadline) -> bool {
        self.state.enter(Activity::Pausing);
        let is_over = || self.state.peer_gone() || self.is_leaving();
        if !self.is_leaving() && self.state.poll_peer_gone() {
            self.state.set_peer_gone();
        }
        while !is_over() {
            match until.remaining(MAX_PARK) {
                Some(left) => std::thread::park_timeout(left),
                None => break,
            }
        }
        self.state.enter(Activity::Working);
        // The end may be our own shutdown(2).
        self.state.peer_gone() && !self.is_draining()
    }

    /// Sleeps before a delayed read. A drain, an abort and the watchdog's end of the delay unpark
    /// the thread.
    fn delay(&self, until: Deadline) {
        self.state.enter(Activity::Delayed);
        while !self.is_leaving() && self.state.read_delay().is_some() {
            match until.remaining(MAX_PARK) {
                Some(left) => std::thread::park_timeout(left),
                None => break,
            }
        }
        self.state.enter(Activity::Working);
    }
}

impl Read for &Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let wanted = self.paid_size(buf.len());
        if let Some(session) = self.state.session() {
            let read = self.read_session(session, &mut buf[..wanted], true)?;
            return Ok(read.unwrap_or(0));
        }
        loop {
            match self.end() {
                Some(EndReason::Eof) => return Ok(0),
                Some(reason) => return Err(Ended(reason).into_io()),
                None => {}
            }
            let most = self.may_read(wanted);
            if most == 0 {
                self.end.set(Some(EndReason::Shutdown));
                continue;
            }
            self.state.enter(Activity::Reading);
            let buf = &mut buf[..most];
            let found = self
                .busy_read
                .look(&self.state, &self.shared.busy_polling, buf);
            let got = found.unwrap_or_else(|| rustix::io::read(&self.state.socket, buf));
            self.state.enter(Activity::Working);
            if got == Err(Errno::INTR) {
                continue;
            }
            if let Some(read) = self.ended_or(got)? {
                return Ok(read);
            }
        }
    }
}

impl Write for &Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        let part = &buf[..buf.len().min(MAX_PER_WRITE)];
        match self.state.ended() {
            None => {}
            Some(EndReason::IdleTimeout) => return say_goodbye(&self.state, part),
            Some(reason) => return Err(Ended(reason).into_io()),
        }
        let _turn = self.turn_to_write()?;
        self.state.enter(Activity::Writing);
        let mut rest = part;
        let sent = send_all(&self.state, &mut rest, None, None);
        self.state.enter(Activity::Working);
        match (part.len() - rest.len(), sent, self.state.ended()) {
            (0, Err(_), Some(reason)) => Err(Ended(reason).into_io()),
            (0, Err(Unsent::Failed(error)), None) => Err(error),
            (sent, ..) => Ok(sent),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes as far as the kernel takes bytes at once. No deadline applies any more to a connection
/// that has ended, so nothing here may block.
fn say_goodbye(state: &ConnectionState, part: &[u8]) -> io::Result<usize> {
    let ended = || Ended(EndReason::IdleTimeout).into_io();
    // A writer whose write is under way may wait for the peer, which takes no goodbye then.
    let turn = state.turns.join();
    if !turn.is_up() {
        return Err(ended());
    }
    match send_now(state, part) {
        Ok(sent) if sent > 0 || part.is_empty() => Ok(sent),
        _ => Err(ended()),
    }
}

impl Read for Connection {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        (&mut &*self).read(buf)
    }
}

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        (&mut &*self).write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The socket, for setting options. Reads and writes that bypass the [`Connection`] have no
/// deadlines and are not counted.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.socket.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id())
            .field("peer", &self.peer())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
