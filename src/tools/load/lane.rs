//! One of a load's connections, and those that take its place.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use socket2::{Domain, SockAddr, Socket, Type};

use super::message::{Batch, Renderer, Ring, Source};
use super::plan::{Plan, Target};

/// A connection that stands for so long was not made to be closed.
const LASTING: Duration = Duration::from_millis(100);

/// Reads in a row from one connection, however much its server says.
pub(super) const READS: usize = 8;

/// Where a lane stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has no connection, or waits to make another.
    #[default]
    Apart,
    Connecting,
    Open,
    /// This end is closed; the server's is awaited.
    Closing,
    /// All is sent; the connection stays open.
    Held,
    Done,
}

/// How far a write came.
#[derive(Debug)]
pub(super) enum Step {
    /// There is more to write, and may be room for it.
    More,
    /// The socket is full.
    Blocked,
    /// All that may be sent by now is sent.
    Idle,
    Failed(io::Error),
}

/// What rendering messages takes.
pub(super) struct Rendering<'a> {
    /// Where batches come from and go back to.
    pub(super) spare: &'a mut Vec<Batch>,
    /// The number of a connection that is about to send its first message.
    pub(super) number: &'a dyn Fn() -> u32,
    /// The time to be stamped on a message of the lane.
    pub(super) stamp: &'a dyn Fn(u64) -> u64,
}

/// What a read came to. What the server says is read and forgotten: a close with bytes unread would
/// be a reset.
#[derive(Debug)]
pub(super) enum Incoming {
    Nothing,
    /// There may be more, and others have waited.
    More,
    Ended,
    Failed(io::Error),
}

#[derive(Debug, Default)]
pub(super) struct Lane {
    pub(super) phase: Phase,
    pub(super) stream: Option<Socket>,
    /// Of the connection, among all of the load: from when its first message was rendered.
    number: Option<u32>,
    /// Whole messages that earlier connections of this lane sent.
    pub(super) before: u64,
    /// Whole messages of this connection that the kernel took, and all bytes.
    pub(super) messages: u64,
    pub(super) bytes: u64,
    /// This connection sends so many at most.
    pub(super) quota: u64,
    /// The lane may have sent so many by now.
    pub(super) credit: u64,
    /// Messages that were rendered for this connection.
    rendered: u64,
    rest: Option<Batch>,
    /// It is among those that are to write next.
    pub(super) is_queued: bool,
    pub(super) connecting_since: Option<Instant>,
    pub(super) blocked_since: Option<Instant>,
    /// What was due by then waited for the server, not for us.
    pub(super) held_until: Option<Instant>,
    pub(super) timer: Option<Instant>,
    /// Attempts to connect that failed in a row.
    pub(super) failures: u32,
    /// When it lost its connection to the server's doing, and has not had another that lasted.
    pub(super) apart_since: Option<Instant>,
    opened_at: Option<Instant>,
    /// Connections that it has had.
    pub(super) connects: u64,
}

impl Lane {
    pub(super) fn new(credit: u64) -> Lane {
        Lane {
            credit,
            ..Lane::default()
        }
    }

    /// Whole messages that it sent.
    pub(super) fn total(&self) -> u64 {
        self.before + self.messages
    }

    /// Begins to connect. `true`: it is connected already, as is usual on loopback.
    pub(super) fn connect(&mut self, plan: &Plan) -> io::Result<bool> {
        let (domain, address) = match &plan.address {
            Target::Tcp(address) => (Domain::for_address(*address), (*address).into()),
            Target::Unix(path) => (Domain::UNIX, SockAddr::unix(path)?),
        };
        let socket = Socket::new(domain, Type::STREAM.nonblocking(), None)?;
        if plan.rate.is_some() && domain != Domain::UNIX {
            // Else a message waits until the one before is acknowledged, which may take 40 ms.
            socket.set_tcp_nodelay(true)?;
        }
        let connected = match socket.connect(&address) {
            Ok(()) => true,
            Err(error)
                if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        self.stream = Some(socket);
        Ok(connected)
    }

    /// What became of a connect that took its time.
    pub(super) fn connect_error(&self) -> io::Result<()> {
        let Some(stream) = &self.stream else {
            return Err(ErrorKind::NotConnected.into());
        };
        match stream.take_error()? {
            Some(error) => Err(error),
            None => stream.peer_addr().map(|_| ()),
        }
    }

    /// While nobody listens on an ephemeral port, the kernel may pick that very port for us and
    /// connect us to ourselves.
    pub(super) fn is_connected_to_itself(&self, plan: &Plan) -> bool {
        let Target::Tcp(address) = plan.address else {
            return false;
        };
        let local = self.stream.as_ref().map(Socket::local_addr);
        local.is_some_and(|local| local.is_ok_and(|local| local.as_socket() == Some(address)))
    }

    /// A connection begins: it is to send `quota` messages.
    pub(super) fn open(&mut self, quota: u64, now: Instant) {
        (self.number, self.quota) = (None, quota);
        (self.failures, self.timer) = (0, None);
        self.connects += 1;
        self.opened_at = Some(now);
    }

    /// How long the lane was without a connection, once it has one that lasts: a server that
    /// accepts and closes at once has not let it in.
    pub(super) fn reunited(&mut self, now: Instant) -> Option<Duration> {
        let opened = self.opened_at.filter(|opened| now >= *opened + LASTING)?;
        self.apart_since.take().map(|since| opened - since)
    }

    /// The connection is over. Returns whether the kernel had a message of it in part.
    pub(super) fn leave(&mut self, source: &Source) -> bool {
        let is_inside = self.is_inside(source);
        self.stream = None;
        self.opened_at = None;
        self.before += self.messages;
        (self.messages, self.bytes, self.rendered) = (0, 0, 0);
        (self.rest, self.blocked_since, self.timer) = (None, None, None);
        is_inside
    }

    /// Nothing is to be sent any more but the rest of a message that has begun.
    pub(super) fn end(&mut self, source: &Source) {
        self.quota = self.messages + u64::from(self.is_inside(source));
        self.rendered = self.quota;
        if let Some(batch) = &mut self.rest {
            batch.drop_unsent();
        }
    }

    fn is_inside(&self, source: &Source) -> bool {
        match (source, &self.rest) {
            (Source::Ring(ring), _) => self.bytes > ring.bytes_of(self.messages),
            (Source::Renderer(_), Some(batch)) => batch.begun(),
            (Source::Renderer(_), None) => false,
        }
    }

    /// Messages that this connection may have sent by now.
    fn allowed(&self) -> u64 {
        self.quota.min(self.credit.saturating_sub(self.before))
    }

    /// Everything that this connection is to send is sent.
    pub(super) fn is_through(&self) -> bool {
        self.messages >= self.quota
    }

    /// One write(2), if there is something to write.
    pub(super) fn step(
        &mut self,
        source: &Source,
        write_size: usize,
        rendering: &mut Rendering<'_>,
    ) -> Step {
        match source {
            Source::Ring(ring) => self.step_ring(ring, write_size),
            Source::Renderer(renderer) => {
                self.render(renderer, write_size, rendering);
                self.step_batch(write_size, rendering.spare)
            }
        }
    }

    fn step_ring(&mut self, ring: &Ring, write_size: usize) -> Step {
        let left = ring.bytes_of(self.allowed()) - self.bytes;
        let bytes = ring.slice(self.bytes, left.min(write_size as u64) as usize);
        let Some(stream) = self.stream.as_mut().filter(|_| left > 0) else {
            return Step::Idle;
        };
        match write(stream, bytes) {
            Ok(taken) => {
                self.bytes += taken as u64;
                self.messages = ring.messages_in(self.bytes);
                match taken {
                    _ if taken as u64 == left => Step::Idle,
                    _ if taken == bytes.len() => Step::More,
                    _ => Step::Blocked,
                }
            }
            Err(error) => Step::Failed(error),
        }
    }

    fn render(&mut self, renderer: &Renderer, write_size: usize, rendering: &mut Rendering<'_>) {
        let allowed = self.allowed();
        if self.rest.is_some() || self.rendered >= allowed {
            return;
        }
        let number = *self.number.get_or_insert_with(rendering.number);
        let mut batch = rendering.spare.pop().unwrap_or_default();
        while self.rendered < allowed && batch.bytes.len() < write_size {
            let nanos = (rendering.stamp)(self.before + self.rendered);
            renderer.render(number, self.rendered, nanos, &mut batch.bytes);
            batch.ends.push(batch.bytes.len());
            self.rendered += 1;
        }
        self.rest = Some(batch);
    }

    fn step_batch(&mut self, write_size: usize, spare: &mut Vec<Batch>) -> Step {
        let (Some(batch), Some(stream)) = (&mut self.rest, &mut self.stream) else {
            return Step::Idle;
        };
        let end = batch.bytes.len().min(batch.taken + write_size);
        let bytes = &batch.bytes[batch.taken..end];
        let taken = match write(stream, bytes) {
            Ok(taken) => taken,
            Err(error) => return Step::Failed(error),
        };
        let was_full = taken < bytes.len();
        self.bytes += taken as u64;
        self.messages += batch.take(taken);
        if batch.is_done() {
            batch.clear();
            spare.extend(self.rest.take());
        }
        match was_full {
            true => Step::Blocked,
            false if self.rest.is_some() || self.rendered < self.allowed() => Step::More,
            false => Step::Idle,
        }
    }

    /// Reads until there is nothing more, or a good part of it.
    pub(super) fn read_away(&mut self, buffer: &mut [u8]) -> Incoming {
        let Some(stream) = &mut self.stream else {
            return Incoming::Nothing;
        };
        for _ in 0..READS {
            match stream.read(buffer) {
                Ok(0) => return Incoming::Ended,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Incoming::Nothing,
                Err(error) => return Incoming::Failed(error),
            }
        }
        Incoming::More
    }

    /// Ends this side's stream.
    pub(super) fn half_close(&self) {
        if let Some(stream) = &self.stream {
            // ENOTCONN: the server was first, and a read says how.
            let _ = stream.shutdown(Shutdown::Write);
        }
    }
}

/// How much the kernel took: nothing, if the socket is full.
fn write(stream: &mut Socket, bytes: &[u8]) -> io::Result<usize> {
    loop {
        match stream.write(bytes) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
            other => return other,
        }
    }
}
