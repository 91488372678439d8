//! What a handler holds of its connection: reads, replies, and why they ended.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};

use super::writer::{MAX_PER_WRITE, Writer};
use crate::policy::{Activity, ReadSize, TokenBucket};
use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::error::Ended;
use crate::server::ledger::{DropReason, EndReason};
use crate::server::state::Shared;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::logger::Logger;

/// One connection, as its handler sees it: [`Read`] and [`Write`], and who is at its other end.
///
/// Both are implemented for `&Connection`, too, as they are for [`&TcpStream`](std::net::TcpStream):
/// a [`BufReader`](std::io::BufReader) of a shared reference leaves another one to reply with.
///
/// # Reading
/// [`read`](Read::read) blocks until bytes arrive, the peer ends its stream, a deadline of the
/// [`Config`](crate::Config) passes, or the server drains. **0 is always the peer's end of
/// stream.** Whatever the server ends returns an error that wraps [`Ended`], the same one at every
/// later call; [`Ended::reason_of`] tells which. While the server drains, what the kernel already
/// held may still be read; then reads return [`EndReason::Shutdown`], never 0. Where a rate limit is
/// set, a read may be held back first, and brings about a second's worth; once the peer has ended or
/// reset its stream a read is not held back.
///
/// # Writing
/// [`write`](Write::write) blocks while the peer does not take what it is sent, at most
/// `write_timeout` for each 64 KiB. Replies still work while the server drains. There is no buffer:
/// flush does nothing. After `idle_timeout` has ended the connection, a goodbye can still be written
/// as far as the kernel takes it at once. Other threads write through a
/// [`writer`](Connection::writer).
///
/// # Drop
/// The server drops the connection when the handler returned; the socket is closed then. Bytes that
/// nobody read are counted as `unread_bytes`, and the peer gets a reset for them (Linux's close(2) on
/// a TCP socket).
pub struct Connection {
    state: Arc<ConnectionState>,
    shared: Arc<Shared>,
    rate: RefCell<Option<RateLimit>>,
    /// The first end that was seen; it stays.
    end: Cell<Option<EndReason>>,
    /// While draining: how many bytes may still be read.
    allowance: Cell<Option<u64>>,
}

struct RateLimit {
    bucket: TokenBucket,
    started: Instant,
    paid: u64,
    size: ReadSize,
    /// Messages that were sent when the last read began, and bytes that it brought.
    sent_at_read: u64,
    read: u64,
    /// The log was told that the rate limit held the connection back.
    is_told: bool,
}

impl RateLimit {
    fn new(rate: u64) -> Self {
        RateLimit {
            bucket: TokenBucket::new(rate as f64, Duration::ZERO),
            started: Instant::now(),
            paid: 0,
            size: ReadSize::new(rate),
            sent_at_read: 0,
            read: 0,
            is_told: false,
        }
    }
}

impl Connection {
    pub(crate) fn new(state: Arc<ConnectionState>, shared: Arc<Shared>) -> Self {
        let rate = shared.config.rate_limit.map(RateLimit::new);
        Connection {
            state,
            shared,
            rate: RefCell::new(rate),
            end: Cell::new(None),
            allowance: Cell::new(None),
        }
    }

    /// The connection's number, unique in the life of the server, from 1.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The peer's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.state.peer
    }

    /// The address that the peer connected to, by getsockname(2).
    ///
    /// # Errors
    /// As [`TcpStream::local_addr`](std::net::TcpStream::local_addr).
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.state.stream.local_addr()
    }

    /// The name of the listener that accepted the connection ([`Listen::named`](crate::Listen::named));
    /// without a name, its address.
    pub fn listener(&self) -> &str {
        self.state.listener.name()
    }

    /// The place of that listener among the server's, from 0: as in
    /// [`Server::local_addrs`](crate::Server::local_addrs).
    pub fn listener_index(&self) -> usize {
        self.state.listener.index()
    }

    /// The server's log, for lines that must not block the handler.
    pub fn logger(&self) -> &Logger {
        &self.shared.logger
    }

    /// The time of day as of the last tick, without a look at a clock.
    pub(crate) fn tick_time(&self) -> SystemTime {
        self.shared.tick_time.get()
    }

    /// What the limits count for this connection's handler on the heap, in bytes.
    pub(crate) fn handler_bytes(&self) -> usize {
        self.shared.config.handler_bytes
    }

    /// Books messages that a handler dropped and that were not sent, as
    /// [`Sender::record_dropped`](super::sender::Sender::record_dropped) does.
    pub(crate) fn record_dropped(&self, reason: DropReason, messages: u64) {
        self.shared.quota.dropped(reason, messages);
    }

    /// Whether the server is shutting down, or this connection was ended: a handler that does not read
    /// should come to its end.
    pub fn is_draining(&self) -> bool {
        self.state.is_draining() || self.state.ended().is_some()
    }

    /// Reports `finished` more frames, and whether an unfinished one has begun. Without these reports
    /// there is no frame deadline. Costs two plain stores.
    pub fn frame_progress(&self, finished: u64, inside: bool) {
        self.state.frame_progress(finished, inside);
    }

    /// Lets the server delay the next read, while it takes so many small ones that waking for each
    /// costs more than it brings. Returns at once, `false`, or after at most
    /// [`max_read_delay`](crate::Config::max_read_delay), `true`: then most likely several messages are
    /// there. A drain and whatever ends the connection end the sleep, and it counts as waiting for the
    /// peer: near a deadline there is none.
    ///
    /// For handlers of one-way messages, before each read, with everything sent that was read before.
    /// A handler that replies must not call it: its peer would wait for the delay.
    pub fn delay_read(&self) -> bool {
        self.state.allow_delay();
        let Some(step) = self.state.read_delay() else {
            return false;
        };
        // All that sleep wake together, on a grid that they share.
        let past = self.shared.now().as_nanos() % step.as_nanos().max(1);
        // Less than the step, which is less than 2^32 microseconds.
        let until = Deadline::after(step - Duration::from_nanos(past as u64));
        self.delay(until);
        true
    }

    /// Reads what is there into `buf`, without waiting. Returns how much, 0 at the peer's end of stream,
    /// or `None` if there is nothing now, `buf` is empty, or nothing may be read: then
    /// [`read`](Read::read) waits, or says why.
    ///
    /// # Errors
    /// As [`read`](Read::read).
    pub fn read_ready(&self, buf: &mut [u8]) -> io::Result<Option<usize>> {
        let most = self.paid_size(buf.len());
        let most = self.may_read(most);
        if self.end().is_some() || most == 0 {
            return Ok(None);
        }
        self.state.enter(Activity::Reading);
        let got = rustix::net::recv(&self.state.stream, &mut buf[..most], RecvFlags::DONTWAIT);
        self.state.enter(Activity::Working);
        match got.map(|(_, read)| read) {
            Err(Errno::WOULDBLOCK | Errno::INTR) => Ok(None),
            got => self.ended_or(got),
        }
    }

    /// As [`read`](Read::read), waiting for bytes for at most `wait`, beside the time that a rate limit
    /// may take. `None`: none came in time. For a handler with something else to do now and then.
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

    /// Ends our side of the stream: the peer reads to its end. Reading goes on.
    ///
    /// # Errors
    /// The connection is over already.
    pub fn shutdown_write(&self) -> io::Result<()> {
        self.state.stream.shutdown(Shutdown::Write)
    }

    /// What writes to the peer from another thread: a subscription, a timer. See [`Writer`].
    pub fn writer(&self) -> Writer {
        Writer::new(&self.state, &self.shared)
    }

    /// How the stream ended, as far as reads have seen it.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.state.ended().or(self.end.get())
    }

    /// What a read(2) said, unless it is only the server that ended the stream: then `None`, and the
    /// next look at [`end`](Connection::end) tells why.
    fn ended_or(&self, got: Result<usize, Errno>) -> io::Result<Option<usize>> {
        match got {
            // Our own shutdown(2) makes a read return 0, too. Whoever calls it sets the flag first, so a
            // 0 without a flag is the peer's. In doubt it counts as ours: half a line must not be
            // delivered as if it were one.
            Ok(0) if self.state.ended().is_some() => Ok(None),
            Ok(0) if self.state.is_draining() && !self.state.is_complete() => Ok(None),
            Ok(0) => {
                self.end.set(Some(EndReason::Eof));
                Ok(Some(0))
            }
            Ok(read) => {
                let left = self.allowance.get();
                self.allowance
                    .set(left.map(|left| left.saturating_sub(read as u64)));
                if let Some(rate) = &mut *self.rate.borrow_mut() {
                    rate.read += read as u64;
                }
                self.state.add_bytes(read);
                Ok(Some(read))
            }
            Err(_) if self.state.ended().is_some() => Ok(None),
            Err(error) => {
                // ECONNRESET is told once, then the kernel says 0: keep it.
                self.end.set(Some(EndReason::Reset));
                Err(error.into())
            }
        }
    }

    /// How much of `wanted` may be read. While draining: what the kernel held when this was first asked.
    /// A peer that never stops sending cannot hold up a drain; data that arrives after a read-side
    /// shutdown is still readable on Linux, so the shutdown alone would not end it.
    fn may_read(&self, wanted: usize) -> usize {
        if !self.state.is_draining() || self.state.is_complete() {
            return wanted;
        }
        let left = self.allowance.get();
        let left = left.unwrap_or_else(|| self.state.unread_bytes());
        self.allowance.set(Some(left));
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Waits as a read does where a rate limit is set. Returns how many messages to send before the next
    /// wait: a second's worth, or any number.
    ///
    /// For handlers that find many messages in one read, before they send each part of them.
    pub(crate) fn hold_to_rate(&self) -> u64 {
        match (self.pay(), &self.shared.config.rate_limit) {
            (false, &Some(rate)) => rate,
            _ => u64::MAX,
        }
    }

    /// Messages that the rate limit counts: those that were sent, or frames that a handler reported which
    /// only replies.
    fn messages(&self) -> u64 {
        self.state.messages().max(self.state.sample().frames)
    }

    /// Waits until the messages so far are paid for. A drain or an abort ends the wait, and so does a
    /// peer that has ended or reset its stream: nobody is slowed down by the wait any more, and the
    /// connection's place is wanted. Says whether there is nothing to hold the connection to.
    fn pay(&self) -> bool {
        let wait = {
            let mut rate = self.rate.borrow_mut();
            let Some(rate) = &mut *rate else {
                return true;
            };
            let messages = self.messages();
            let now = rate.started.elapsed();
            rate.bucket.take(messages - rate.paid, now);
            rate.paid = messages;
            let wait = rate.bucket.wait(now);
            if wait.is_zero() {
                return self.is_draining();
            }
            if !std::mem::replace(&mut rate.is_told, true) {
                self.log_rate_limit();
            }
            wait
        };
        self.pause(Deadline::after(wait)) || self.is_draining()
    }

    fn log_rate_limit(&self) {
        self.shared.logger.log_debug(|| {
            let (id, peer) = (self.state.id, self.state.peer);
            format!("connection {id} from {peer} is held back by rate_limit, now and whenever it is faster")
        });
    }

    /// Waits for the rate limit, and returns how much of `wanted` bytes to read.
    fn paid_size(&self, wanted: usize) -> usize {
        let is_free = self.pay();
        let messages = self.messages();
        match &mut *self.rate.borrow_mut() {
            Some(rate) if !is_free => {
                rate.size.took(rate.read, messages - rate.sent_at_read);
                (rate.sent_at_read, rate.read) = (messages, 0);
                wanted.min(usize::try_from(rate.size.bytes()).unwrap_or(usize::MAX))
            }
            _ => wanted,
        }
    }

    /// Sleeps in poll(2), which sees what the peer does. Says whether the peer's stream is over. A drain
    /// and an abort shut the socket down, and poll sees that, too.
    fn pause(&self, until: Deadline) -> bool {
        self.state.enter(Activity::Pausing);
        let mut is_over = false;
        while !is_over && !self.is_draining() {
            match until.remaining(MAX_PARK) {
                Some(left) => is_over = self.state.poll_peer_gone_within(left),
                None => break,
            }
        }
        self.state.enter(Activity::Working);
        // The end that was seen may be ours.
        is_over && !self.is_draining()
    }

    /// Sleeps before a read that is delayed; a drain, an abort and the end of the delay end the sleep,
    /// each with an unpark.
    fn delay(&self, until: Deadline) {
        self.state.enter(Activity::Delayed);
        while !self.is_draining() && self.state.read_delay().is_some() {
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
            let got = (&self.state.stream).read(&mut buf[..most]);
            self.state.enter(Activity::Working);
            let got = got.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO));
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
        // Taken before the write counts as one: another thread's write may have to come to its end first.
        let _turn = self.state.writing.lock();
        match self.state.ended() {
            None => {}
            Some(EndReason::IdleTimeout) => return say_goodbye(&self.state, part),
            Some(reason) => return Err(Ended(reason).into_io()),
        }
        self.state.enter(Activity::Writing);
        let wrote = (&self.state.stream).write(part);
        self.state.enter(Activity::Working);
        match (wrote, self.state.ended()) {
            (Err(_), Some(reason)) => Err(Ended(reason).into_io()),
            (wrote, _) => wrote,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Nobody watches the connection any more, so nothing here may wait.
fn say_goodbye(state: &ConnectionState, part: &[u8]) -> io::Result<usize> {
    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
    rustix::net::send(&state.stream, part, flags)
        .map_err(|_| Ended(EndReason::IdleTimeout).into_io())
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

/// The socket, for options of your own. Whoever reads or writes past the [`Connection`] does so without
/// its deadlines and its counts.
impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.state.stream.as_fd()
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("id", &self.id())
            .field("peer", &self.peer_addr())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
