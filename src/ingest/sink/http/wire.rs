//! The connection beneath a request. Each of its waits ends when the sink does: ureq's own
//! connections wait in read(2) until a timeout.

use std::fmt;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustls::ClientConnection;
use socket2::{Domain, Socket, Type};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

use super::target::{Target, Trust};
use crate::ingest::sink::lookup::{Lookup, addresses_of};

/// How long one poll(2) waits before the end is looked for.
const SLICE: Duration = Duration::from_millis(100);
/// How long a peer may take nothing before it is looked whether it has answered already.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a connection tells of itself to who sends over it.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// A connection was made for this request.
    pub(super) is_new: AtomicBool,
    /// Something of an answer has come.
    pub(super) has_answer: AtomicBool,
    /// The peer has closed while the request was sent: what it answers is to what it has seen of
    /// it.
    pub(super) is_cut_short: AtomicBool,
    /// The body of the request, which is sent from where it is: ureq would copy it through a buffer
    /// of a connection, which costs a tenth of what sending it costs.
    body: Mutex<Vec<u8>>,
    /// How much of it ureq takes for written into its buffer.
    written: AtomicUsize,
    /// When the request began to be sent. ureq's own timeouts count what connecting takes, too.
    begun_at: Mutex<Option<Instant>>,
}

impl Watch {
    /// A request begins.
    pub(super) fn begin(&self) {
        self.written.store(0, Ordering::Relaxed);
        self.is_new.store(false, Ordering::Relaxed);
        self.has_answer.store(false, Ordering::Relaxed);
        self.is_cut_short.store(false, Ordering::Relaxed);
        *self.begun_at.lock() = None;
    }

    /// The wait for a request that may take so long, from its first byte on.
    fn until<'a>(&self, timeout: Duration, is_over: &'a AtomicBool) -> Until<'a> {
        let begun_at = *self.begun_at.lock().get_or_insert_with(Instant::now);
        Until {
            at: begun_at.checked_add(timeout),
            reason: ureq::Timeout::Global,
            is_over,
        }
    }
}

/// A body that a connection has while requests are made of it.
pub(super) struct Lent<'a> {
    watch: &'a Watch,
    body: &'a mut Vec<u8>,
}

impl<'a> Lent<'a> {
    pub(super) fn new(watch: &'a Watch, body: &'a mut Vec<u8>) -> Self {
        std::mem::swap(&mut *watch.body.lock(), body);
        Lent { watch, body }
    }

    pub(super) fn bytes(&self) -> usize {
        self.watch.body.lock().len()
    }
}

impl Drop for Lent<'_> {
    fn drop(&mut self) {
        std::mem::swap(&mut *self.watch.body.lock(), self.body);
    }
}

/// What ureq reads of a body: as many bytes, and none of them. [`Wire`] has them.
pub(super) struct Counted<'a> {
    watch: &'a Watch,
    bytes: usize,
}

impl<'a> Counted<'a> {
    pub(super) fn new(lent: &Lent<'a>) -> Self {
        Counted {
            watch: lent.watch,
            bytes: lent.bytes(),
        }
    }
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let written = self.watch.written.load(Ordering::Relaxed);
        let more = buffer.len().min(self.bytes - written);
        self.watch.written.store(written + more, Ordering::Relaxed);
        Ok(more)
    }
}

/// Leaves names to [`Wires`]: ureq asks for addresses before each request, and only a new
/// connection needs them.
#[derive(Debug)]
pub(super) struct NoNames;

impl Resolver for NoNames {
    fn resolve(&self, _: &Uri, _: &Config, _: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        Ok(self.empty())
    }
}

/// Makes connections.
#[derive(Debug)]
pub(super) struct Wires {
    pub(super) target: Arc<Target>,
    pub(super) watch: Arc<Watch>,
    pub(super) is_over: Arc<AtomicBool>,
    pub(super) lookup: Arc<Lookup>,
}

impl Connector for Wires {
    type Out = Wire;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Wire>, Error> {
        let addresses = self.lookup.run(|| resolve(details.uri))?;
        let until = Until::of(details.timeout, &self.is_over);
        let mut last = Error::ConnectionFailed;
        until.check()?;
        for (nth, address) in addresses.iter().enumerate() {
            // Each address has its part of what time is left.
            let left = (addresses.len() - nth) as u32;
            match connect(*address, &until.part(left)) {
                Ok(socket) => {
                    let config = details.config;
                    let size = (config.input_buffer_size(), config.output_buffer_size());
                    let mut wire = Wire {
                        socket,
                        session: None,
                        buffers: LazyBuffers::new(size.0, size.1),
                        timeout: self.target.timeout,
                        watch: Arc::clone(&self.watch),
                        is_over: Arc::clone(&self.is_over),
                    };
                    if details.needs_tls() {
                        let trust = self.target.trust.as_ref().ok_or(Error::TlsRequired)?;
                        wire.secure(trust, &until)?;
                    }
                    self.watch.is_new.store(true, Ordering::Relaxed);
                    return Ok(Some(wire));
                }
                Err(error) => last = at_address(error, *address, self.target.connect_timeout),
            }
            if until.is_over.load(Ordering::Relaxed) {
                break;
            }
        }
        Err(last)
    }
}

/// Resolves a name on the thread that sends: the system's resolver cannot be cut short
/// (resolv.conf(5): 5 s for each server and try by default), and nothing waits for this thread at
/// the end.
fn resolve(uri: &Uri) -> Result<Vec<SocketAddr>, Error> {
    let default = if uri.scheme_str() == Some("https") {
        443
    } else {
        80
    };
    let host = uri.host().ok_or(Error::HostNotFound)?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let found = addresses_of(host, uri.port_u16().unwrap_or(default));
    found.map_err(|why| io::Error::other(why).into())
}

/// A name may have several addresses, of which each fails in its own way.
fn at_address(error: Error, address: SocketAddr, timeout: Duration) -> Error {
    Error::Io(match error {
        Error::Io(error) => {
            let text = format!("connecting to {address} failed: {error}");
            io::Error::new(error.kind(), text)
        }
        Error::Timeout(ureq::Timeout::Connect) => {
            let text = format!(
                "{address} did not answer within its part of {timeout:?} (connect_timeout)"
            );
            io::Error::new(io::ErrorKind::TimedOut, text)
        }
        error => return error,
    })
}

fn connect(address: SocketAddr, until: &Until<'_>) -> Result<TcpStream, Error> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => {
            until.wait(&socket, PollFlags::OUT)?;
            if let Some(error) = socket.take_error()? {
                return Err(error.into());
            }
        }
        Err(error) => return Err(error.into()),
    }
    Ok(socket.into())
}

/// When a wait ends.
struct Until<'a> {
    at: Option<Instant>,
    reason: ureq::Timeout,
    is_over: &'a AtomicBool,
}

impl<'a> Until<'a> {
    fn of(timeout: NextTimeout, is_over: &'a AtomicBool) -> Self {
        Until {
            at: Instant::now().checked_add(*timeout.after),
            reason: timeout.reason,
            is_over,
        }
    }

    /// One of so many parts of what is left.
    fn part(&self, parts: u32) -> Until<'a> {
        let now = Instant::now();
        let at = self
            .at
            .map(|at| now + at.saturating_duration_since(now) / parts);
        Until { at, ..*self }
    }

    /// # Errors
    /// The sink is over.
    fn check(&self) -> Result<(), Error> {
        match self.is_over.load(Ordering::Relaxed) {
            true => Err(io::Error::other("the server ends").into()),
            false => Ok(()),
        }
    }

    /// Waits until the socket is ready, or an error is there to be fetched.
    fn wait(&self, socket: &impl AsFd, flags: PollFlags) -> Result<(), Error> {
        loop {
            self.check()?;
            let left = self
                .at
                .map_or(SLICE, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return Err(Error::Timeout(self.reason));
            }
            // 100 ms at most: it fits.
            let slice = Timespec::try_from(left.min(SLICE)).ok();
            let mut fds = [PollFd::new(socket, flags)];
            match poll(&mut fds, slice.as_ref()) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(io::Error::from(error).into()),
            }
        }
    }
}

/// A connection, plain or with TLS.
pub(super) struct Wire {
    socket: TcpStream,
    session: Option<Box<ClientConnection>>,
    buffers: LazyBuffers,
    /// What a request may take.
    timeout: Duration,
    watch: Arc<Watch>,
    is_over: Arc<AtomicBool>,
}

impl Wire {
    fn secure(&mut self, trust: &Trust, until: &Until<'_>) -> Result<(), Error> {
        let session = ClientConnection::new(Arc::clone(&trust.config), trust.name.clone());
        let mut session = Box::new(session.map_err(io::Error::other)?);
        while session.is_handshaking() {
            if session.wants_write() {
                flush(&mut session, &self.socket, |_| {
                    until.wait(&self.socket, PollFlags::OUT)
                })?;
                continue;
            }
            if receive(&mut session, &self.socket, Some(until))? == 0 {
                let kind = ErrorKind::UnexpectedEof;
                return Err(io::Error::new(kind, "it has closed in the TLS handshake").into());
            }
        }
        self.session = Some(session);
        Ok(())
    }

    /// Sends a head, or a body whole once ureq takes all of it for written.
    fn send(&mut self, amount: usize, until: &Until<'_>) -> Result<(), Error> {
        let body: MutexGuard<'_, Vec<u8>> = self.watch.body.lock();
        let (mut rest, flags) = match self.watch.written.load(Ordering::Relaxed) {
            // The body follows at once: a packet of its own would wake the peer for nothing.
            0 => (&self.buffers.output()[..amount], SendFlags::MORE),
            written if written < body.len() => return Ok(()),
            _ => (&body[..], SendFlags::empty()),
        };
        while !rest.is_empty() {
            let written = match &mut self.session {
                None => match send(&self.socket, rest, flags | SendFlags::NOSIGNAL) {
                    Err(Errno::AGAIN) => {
                        wait_to_send(&self.socket, None, until)?;
                        continue;
                    }
                    Err(Errno::INTR) => continue,
                    outcome => outcome.map_err(io::Error::from)?,
                },
                // It takes some, and then no more before that is sent.
                Some(session) => {
                    let taken = session.writer().write(rest)?;
                    flush(session, &self.socket, |session| {
                        wait_to_send(&self.socket, Some(session), until)
                    })?;
                    taken
                }
            };
            rest = &rest[written..];
        }
        Ok(())
    }
}

/// Waits until a peer takes more of a request. One that takes nothing for [`PATIENCE`] and has
/// answered will not read the rest (RFC 9112, 9.5): that is told as its end, so that the answer is
/// read. Without this a peer that keeps such a connection open would be written to until the
/// timeout, each time anew, and why it takes nothing would never be known.
fn wait_to_send(
    socket: &TcpStream,
    mut session: Option<&mut ClientConnection>,
    until: &Until<'_>,
) -> Result<(), Error> {
    loop {
        let look_at = Instant::now() + PATIENCE;
        let is_last = until.at.is_some_and(|at| at <= look_at);
        let at = if is_last { until.at } else { Some(look_at) };
        match (Until { at, ..*until }).wait(socket, PollFlags::OUT) {
            Err(Error::Timeout(_)) if !is_last => {}
            outcome => return outcome,
        }
        if has_answered(socket, session.as_deref_mut()) {
            return Err(io::Error::from(ErrorKind::BrokenPipe).into());
        }
    }
}

/// Whether a final answer has begun, or none will come; it stays there to be read.
fn has_answered(socket: &TcpStream, session: Option<&mut ClientConnection>) -> bool {
    let Some(session) = session else {
        let mut begun = [0; 512];
        return match socket.peek(&mut begun) {
            Ok(read) => read == 0 || is_final(&begun[..read]),
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
    };
    loop {
        match receive(session, socket, None) {
            // A ticket of TLS, which is no answer, or a part of one.
            Ok(1..) => {}
            Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => break,
            Ok(0) | Err(_) => return true,
        }
    }
    session.reader().fill_buf().is_ok_and(is_final)
}

/// After `100 Continue`, which some send without being asked, the body is still wanted.
fn is_final(mut begun: &[u8]) -> bool {
    while begun.starts_with(b"HTTP/1.1 1") {
        match begun.windows(4).position(|four| four == b"\r\n\r\n") {
            Some(end) => begun = &begun[end + 4..],
            None => return false,
        }
    }
    // What is cut off may become either.
    begun.len() > b"HTTP/1.1 ".len()
}

/// Sends what the session has to send.
fn flush(
    session: &mut ClientConnection,
    mut socket: &TcpStream,
    mut wait: impl FnMut(&mut ClientConnection) -> Result<(), Error>,
) -> Result<(), Error> {
    while session.wants_write() {
        match session.write_tls(&mut socket) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => wait(session)?,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Reads what is there, or waits for it if it may; 0 at the end of the stream.
fn receive(
    session: &mut ClientConnection,
    mut socket: &TcpStream,
    until: Option<&Until<'_>>,
) -> Result<usize, Error> {
    let read = loop {
        match session.read_tls(&mut socket) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => match until {
                Some(until) => until.wait(socket, PollFlags::IN)?,
                None => return Err(error.into()),
            },
            outcome => break outcome?,
        }
    };
    session.process_new_packets().map_err(|error| {
        let words = crate::server::server_words(&error);
        io::Error::new(ErrorKind::InvalidData, format!("the server {words}"))
    })?;
    Ok(read)
}

impl Transport for Wire {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    /// A peer that has seen enough answers and closes before it has read all: its answer says why,
    /// and is there to be read.
    fn transmit_output(&mut self, amount: usize, _: NextTimeout) -> Result<(), Error> {
        if self.watch.is_cut_short.load(Ordering::Relaxed) {
            return Ok(());
        }
        let is_over = Arc::clone(&self.is_over);
        match self.send(amount, &self.watch.until(self.timeout, &is_over)) {
            Err(Error::Io(error)) if is_closed(&error) => {
                self.watch.is_cut_short.store(true, Ordering::Relaxed);
                Ok(())
            }
            outcome => outcome,
        }
    }

    fn await_input(&mut self, _: NextTimeout) -> Result<bool, Error> {
        let is_over = Arc::clone(&self.is_over);
        let until = self.watch.until(self.timeout, &is_over);
        let input = self.buffers.input_append_buf();
        let read = loop {
            let outcome = match &mut self.session {
                None => self.socket.read(input),
                Some(session) => session.reader().read(input),
            };
            match outcome {
                Ok(read) => break read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => match &mut self.session {
                    None => until.wait(&self.socket, PollFlags::IN)?,
                    Some(session) => {
                        receive(session, &self.socket, Some(&until))?;
                    }
                },
                // Without a goodbye: an answer that is not whole is an error anyway.
                Err(error) if error.kind() == ErrorKind::UnexpectedEof => break 0,
                Err(error) => return Err(error.into()),
            }
        };
        if read > 0 {
            self.watch.has_answer.store(true, Ordering::Relaxed);
        }
        self.buffers.input_appended(read);
        Ok(read > 0)
    }

    /// Nothing is there to be read: neither an end, nor an answer that nobody asked for.
    fn is_open(&mut self) -> bool {
        if self.watch.is_cut_short.load(Ordering::Relaxed) {
            return false;
        }
        let mut byte = [0];
        let outcome = match &mut self.session {
            None => self.socket.read(&mut byte),
            Some(session) => loop {
                match receive(session, &self.socket, None) {
                    // A ticket, which nobody waits for.
                    Ok(1..) => {}
                    Ok(0) => break Ok(0),
                    Err(Error::Io(error)) if error.kind() == ErrorKind::WouldBlock => {
                        break session.reader().read(&mut byte);
                    }
                    Err(_) => return false,
                }
            },
        };
        outcome.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }

    fn is_tls(&self) -> bool {
        self.session.is_some()
    }
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe | ErrorKind::ConnectionReset
    )
}

/// Without what it has sent and read.
impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.socket.peer_addr().ok();
        f.debug_struct("Wire")
            .field("peer", &peer)
            .finish_non_exhaustive()
    }
}
