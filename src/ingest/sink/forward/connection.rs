//! A connection to a receiver: whether it is still there, and a write that never waits.

use std::io::{self, ErrorKind, IoSlice};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;
use socket2::Socket;

use super::session::Session;
use super::socket::{discard, poll_for, poll_once, send_now};

/// How long one poll(2) waits before the server's deadline is looked at.
pub(super) const SLICE: Duration = Duration::from_millis(100);
/// Behind the last message, the longest wait for the receiver to close; behind its end of the
/// stream, the longest try to finish a message.
pub(super) const FINISH_PATIENCE: Duration = Duration::from_secs(1);
/// Behind the last message to a receiver that was left for another, the longest wait for it to
/// close: what the kernel gives a closed socket (tcp(7), `tcp_fin_timeout`).
const LEAVE_PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a receiver. The socket does not block.
#[derive(Debug)]
pub(super) struct Connection {
    socket: Socket,
    session: Option<Session>,
    /// The receiver's place in the order of preference.
    pub(super) target: usize,
    /// What it is called in the log.
    pub(super) label: String,
    pub(super) begun: Instant,
    /// Bytes that the kernel has taken, without those of TLS.
    pub(super) written: u64,
    /// Bytes that the receiver has sent.
    pub(super) discarded: u64,
    /// Since when a message is finished that the receiver's end of the stream has cut.
    ended_at: Option<Instant>,
}

impl Connection {
    pub(super) fn new(
        socket: Socket,
        session: Option<Session>,
        target: usize,
        label: String,
    ) -> Connection {
        Connection {
            socket,
            session,
            target,
            label,
            begun: Instant::now(),
            written: 0,
            discarded: 0,
            ended_at: None,
        }
    }

    /// Asks the kernel, without waiting, whether the receiver is still there, and throws away what
    /// it has sent. A write would succeed after its end of the stream has come, and be lost: with
    /// its kernel's answer, a reset, which comes later.
    ///
    /// # Errors
    /// It is gone, or reads no more.
    pub(super) fn look(&mut self) -> io::Result<()> {
        let found = poll_for(&self.socket, PollFlags::IN, Duration::ZERO)?;
        if found.contains(PollFlags::IN) {
            self.discard()?;
        }
        if found.intersects(PollFlags::ERR | PollFlags::HUP)
            && let Some(error) = self.socket.take_error()?
        {
            return Err(error);
        }
        if found.intersects(PollFlags::ERR | PollFlags::HUP | PollFlags::RDHUP) {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        Ok(())
    }

    /// Whether the rest of a message that is written in part goes to this connection although the
    /// look has failed: a receiver that ends only its sending half still reads, as one does that
    /// drains. One that is gone would have answered with a reset: part of a message is written only
    /// where its kernel holds what it has not read.
    pub(super) fn finishes_message(&mut self, looked: &io::Error) -> bool {
        let is_ended = looked.kind() == ErrorKind::UnexpectedEof;
        let ended_at = self.ended_at.get_or_insert_with(Instant::now);
        is_ended && ended_at.elapsed() < FINISH_PATIENCE
    }

    /// Whether nothing but the rest of a message is to be written.
    pub(super) fn is_finishing(&self) -> bool {
        self.ended_at.is_some()
    }

    fn discard(&mut self) -> io::Result<()> {
        let discarded = match &mut self.session {
            Some(session) => session.discard(&self.socket)?,
            None => discard(&self.socket)?,
        };
        self.discarded += discarded;
        Ok(())
    }

    /// Hands over what the kernel takes at once. Returns how much it has taken; `None` if that is
    /// nothing, or no whole record. While [`is_inside`](Connection::is_inside), what is at the
    /// front behind that must be the same at the next call.
    pub(super) fn write_some(&mut self, slices: &[IoSlice<'_>]) -> io::Result<Option<usize>> {
        let written = match &mut self.session {
            Some(session) => session.write_some(&self.socket, slices)?,
            None => send_now(&self.socket, slices)?,
        };
        self.written += written.unwrap_or(0) as u64;
        Ok(written)
    }

    /// Waits a slice until the kernel takes something, or the receiver is heard of.
    pub(super) fn wait_writable(&self) -> io::Result<()> {
        let events = PollFlags::IN | PollFlags::OUT;
        match self.is_finishing() {
            false => poll_for(&self.socket, events, SLICE).map(drop),
            // The end of the stream, which is known, would end each wait.
            true => poll_once(&self.socket, PollFlags::OUT, SLICE).map(drop),
        }
    }

    /// Whether something is encrypted that the kernel has not taken to its last byte.
    pub(super) fn is_inside(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_inside)
    }

    /// Ends the stream. `false`: the connection is over.
    pub(super) fn end(&mut self) -> bool {
        self.ended_at = Some(Instant::now());
        if let Some(session) = &mut self.session {
            session.close(&self.socket);
        }
        self.socket.shutdown(Shutdown::Write).is_ok()
    }

    /// Whether a stream that was ended is not worth keeping any more: the receiver has ended its
    /// own, or was waited for long enough.
    pub(super) fn is_over(&self) -> bool {
        let is_late = self
            .ended_at
            .is_some_and(|at| at.elapsed() >= LEAVE_PATIENCE);
        is_late || discard(&self.socket).is_err()
    }

    /// Ends the stream, and waits as long for the receiver to end its own: a socket that is closed
    /// with something unread, or to which something comes later, is reset, and its kernel throws
    /// away what it has not sent.
    pub(super) fn finish(mut self, patience: Duration, is_over: impl Fn() -> bool) {
        let until = Instant::now() + patience;
        if !self.end() {
            return;
        }
        loop {
            // A session that was closed is not asked any more: what comes is thrown away.
            match discard(&self.socket) {
                Ok(_) if Instant::now() < until && !is_over() => {}
                _ => return,
            }
            let left = until.saturating_duration_since(Instant::now()).min(SLICE);
            if poll_for(&self.socket, PollFlags::IN, left).is_err() {
                return;
            }
        }
    }
}
