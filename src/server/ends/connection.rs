//! What a handler holds of its connection: reads, replies, and why they ended.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::RecvFlags;

use crate::policy::{Activity, ReadSize, TokenBucket};
use crate::server::deadline::Deadline;
use crate::server::error::Ended;
use crate::server::ledger::{DropReason, EndReason};
use crate::server::state::Shared;
use crate::server::state::connection_state::ConnectionState;
use crate::server::state::logger::Logger;

/// The most that one write(2) of a reply takes: what `write_timeout` is counted for.
const MAX_PER_WRITE: usize = 64 << 10;

/// A park is checked again at least this often; it is woken by unpark long before.
const MAX_PARK: Duration = Duration::from_secs(3600);

/// One connection, as its handler sees it: [`Read`] and [`Write`], and who it is.
///
/// # Reading
/// [`read`](Read::read) blocks until bytes arrive, the peer ends its stream, a deadline of the
/// [`Config`](super::Config) cuts the connection, or the server drains. **0 is always the peer's end of
/// stream.** Whatever we end returns an error that wraps [`Ended`], the same one at every later call;
/// [`Ended::reason_of`] tells which. While the server drains, what the kernel already held may still be
/// read; then reads return [`EndReason::Shutdown`], never 0. Where a rate limit is set, a read may be
/// held back first, and brings about a second's worth; once the peer has ended or reset its stream it is not.
///
/// # Writing
/// [`write`](Write::write) blocks while the peer does not take what it is sent, at most `write_timeout`
/// for each 64 KiB. Replies still work while the server drains. There is no buffer: flush does nothing.
///
/// # Drop
/// The server drops it when the handler returned; the socket is closed then. Bytes that nobody read are
/// counted as `unread_bytes`, and the peer gets a reset for them (Linux's close(2) on a TCP socket).
pub struct Connection {
    state: Arc<ConnectionState>,
    shared: Arc<Shared>,
    rate: Option<RateLimit>,
    /// The first end that was seen; it stays.
    end: Option<EndReason>,
    /// While draining: how many bytes may still be read.
    allowance: Option<u64>,
}

struct RateLimit {
    bucket: TokenBucket,
    started: Instant,
    paid: u64,
    size: ReadSize,
    /// By the last read, and read by it.
    sent_at_read: u64,
    read: u64,
    /// That it held the connection back was told.
    is_told: bool,
}

impl Connection {
    pub(crate) fn new(state: Arc<ConnectionState>, shared: Arc<Shared>) -> Self {
        let rate = shared.config.rate_limit.map(|rate| RateLimit {
            bucket: TokenBucket::new(rate as f64, Duration::ZERO),
            started: Instant::now(),
            paid: 0,
            size: ReadSize::new(rate),
            sent_at_read: 0,
            read: 0,
            is_told: false,
        });
        Connection {
            state,
            shared,
            rate,
            end: None,
            allowance: None,
        }
    }

    /// The connection's number, unique in the life of the server, from 1.
    pub fn id(&self) -> u64 {
        self.state.id
    }

    /// The peer's address.
    pub fn peer(&self) -> SocketAddr {
        self.state.peer
    }

    /// The server's log, for lines that must not block the handler.
    pub fn logger(&self) -> &Logger {
        &self.shared.logger
    }

    /// What the limits count for this connection's handler on the heap, in bytes.
    pub(crate) fn handler_bytes(&self) -> usize {
        self.shared.config.handler_bytes
    }

    /// Books messages that a handler dropped and that were not sent, as
    /// [`Sender::dropped`](super::sender::Sender::dropped) does.
    pub(crate) fn record_dropped(&self, reason: DropReason, messages: u64) {
        self.shared.quota.dropped(reason, messages);
    }

    /// Whether the server is shutting down, or this connection was cut: a handler that does not read should come
    /// to its end.
    pub fn draining(&self) -> bool {
        self.state.is_draining() || self.state.ended().is_some()
    }

    /// Reports `finished` more frames, and whether an unfinished one has begun. Without it there is no
    /// frame deadline. Costs two plain stores.
    pub fn progress(&mut self, finished: u64, inside: bool) {
        self.state.progress(finished, inside);
    }

    /// Lets the server delay the next read, while it takes so many small ones that waking for each costs more than
    /// it brings. Returns at once, `false`, or after at most [`max_read_delay`](super::Config::max_read_delay),
    /// `true`: then most likely several messages are there. A drain and whatever cuts the connection end the
    /// sleep, and it counts as waiting for the peer: near a deadline there is none.
    ///
    /// For handlers of one-way messages, before each read, with everything sent that was read before. A handler
    /// that replies must not call it: its peer would wait for the delay.
    pub fn delay_read(&mut self) -> bool {
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

    /// Reads what is there into `buf`, without waiting. Returns how much, 0 at the peer's end of stream, or
    /// `None` if there is nothing now, `buf` is empty, or nothing may be read: then [`read`](Read::read)
    /// waits, or says why.
    ///
    /// # Errors
    /// As [`read`](Read::read).
    pub fn read_ready(&mut self, buf: &mut [u8]) -> io::Result<Option<usize>> {
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

    /// How the stream ended, as far as reads have seen it.
    pub(crate) fn end(&self) -> Option<EndReason> {
        self.state.ended().or(self.end)
    }

    /// What a read(2) said, unless it is only we who ended it: then `None`, and the next look at
    /// [`end`](Connection::end) tells why.
    fn ended_or(&mut self, got: Result<usize, Errno>) -> io::Result<Option<usize>> {
        match got {
            // Our own shutdown(2) makes a read return 0, too. Whoever calls it sets the flag first, so a 0
            // without a flag is the peer's. In doubt it counts as ours: half a line must not be delivered as
            // if it were one.
            Ok(0) if self.state.ended().is_some() => Ok(None),
            Ok(0) if self.state.is_draining() && !self.state.is_complete() => Ok(None),
            Ok(0) => {
                self.end = Some(EndReason::Eof);
                Ok(Some(0))
            }
            Ok(read) => {
                self.allowance = self.allowance.map(|left| left.saturating_sub(read as u64));
                if let Some(rate) = &mut self.rate {
                    rate.read += read as u64;
                }
                self.state.add_bytes(read);
                Ok(Some(read))
            }
            Err(_) if self.state.ended().is_some() => Ok(None),
            Err(error) => {
                // ECONNRESET is told once, then the kernel says 0: keep it.
                self.end = Some(EndReason::Reset);
                Err(error.into())
            }
        }
    }

    /// How much of `wanted` may be read. While draining: what the kernel held when this was first asked.
    /// A peer that never stops sending cannot hold up a drain; data that arrives after a read-side
    /// shutdown is still readable on Linux, so the shutdown alone would not end it.
    fn may_read(&mut self, wanted: usize) -> usize {
        if !self.state.is_draining() || self.state.is_complete() {
            return wanted;
        }
        let left = *self
            .allowance
            .get_or_insert_with(|| self.state.unread_bytes());
        wanted.min(usize::try_from(left).unwrap_or(usize::MAX))
    }

    /// Waits as a read does where a rate limit is set. Returns how many messages to send before the next wait: a
    /// second's worth, or any number.
    ///
    /// For handlers that find many messages in one read, before they send each part of them.
    pub(crate) fn hold_to_rate(&mut self) -> u64 {
        match (self.pay(), &self.shared.config.rate_limit) {
            (false, &Some(rate)) => rate,
            _ => u64::MAX,
        }
    }

    /// Waits until the messages sent so far are paid for. A drain or an abort ends the wait, and so does a peer that
    /// has ended or reset its stream: nobody is slowed down by it any more, and its place is wanted. Says whether
    /// there is nothing to hold it to.
    fn pay(&mut self) -> bool {
        let Some(rate) = &mut self.rate else {
            return true;
        };
        let sent = self.state.messages();
        let now = rate.started.elapsed();
        rate.bucket.take(sent - rate.paid, now);
        rate.paid = sent;
        let wait = rate.bucket.wait(now);
        if wait.is_zero() {
            return self.draining();
        }
        if !std::mem::replace(&mut rate.is_told, true) {
            self.shared.logger.log_debug(|| {
                let (id, peer) = (self.state.id, self.state.peer);
                format!("connection {id} from {peer} is held back by its rate limit, from now on whenever it is faster")
            });
        }
        self.pause(Deadline::after(wait)) || self.draining()
    }

    /// Waits for its rate, and returns how much of `wanted` bytes to read.
    fn paid_size(&mut self, wanted: usize) -> usize {
        let is_free = self.pay();
        let sent = self.state.messages();
        match &mut self.rate {
            Some(rate) if !is_free => {
                rate.size.took(rate.read, sent - rate.sent_at_read);
                (rate.sent_at_read, rate.read) = (sent, 0);
                wanted.min(usize::try_from(rate.size.bytes()).unwrap_or(usize::MAX))
            }
            _ => wanted,
        }
    }

    /// Sleeps in poll(2), which sees what the peer does. Says whether its stream is over. A drain and an abort shut the
    /// socket down, and poll sees that, too.
    fn pause(&self, until: Deadline) -> bool {
        self.state.enter(Activity::Pausing);
        let mut is_over = false;
        while !is_over && !self.draining() {
            match until.remaining(MAX_PARK) {
                Some(left) => is_over = self.state.has_peer_gone_within(left),
                None => break,
            }
        }
        self.state.enter(Activity::Working);
        // It may be ours that was seen.
        is_over && !self.draining()
    }

    /// Sleeps before a read that is delayed; a drain, an abort and the end of the delay end it, each with an unpark.
    fn delay(&self, until: Deadline) {
        self.state.enter(Activity::Delayed);
        while !self.draining() && self.state.read_delay().is_some() {
            match until.remaining(MAX_PARK) {
                Some(left) => std::thread::park_timeout(left),
                None => break,
            }
        }
        self.state.enter(Activity::Working);
    }
}

impl Read for Connection {
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
                self.end = Some(EndReason::Shutdown);
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

impl Write for Connection {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        if let Some(reason) = self.state.ended() {
            return Err(Ended(reason).into_io());
        }
        self.state.enter(Activity::Writing);
        let wrote = (&self.state.stream).write(&buf[..buf.len().min(MAX_PER_WRITE)]);
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
