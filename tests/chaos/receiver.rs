//! The receiver of a server's second output: it reads as it is told, answers if that is what is
//! spoken, leaves, dies and comes back.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection};
use socket2::{Domain, SockAddr, Socket, Type};

use super::answering::{Answering, Mood, Reply, Speech, Taken, Then};
use super::beside::{Act, Beside};
use super::common::certificates::Certificates;
use super::common::port::free_port;
use super::common::tagged::XorShift;
use super::common::wait::{DEADLINE, wait_until};
use super::script::Carrier;

const ALL: usize = usize::MAX;
const REST: Duration = Duration::from_millis(2);
/// What the kernel holds for a receiver that does not read, as far as it lets itself be told: a
/// stall is to be felt.
const KERNEL_BUFFER: usize = 4096;

/// What came, once the server is over.
#[derive(Debug)]
pub struct Came {
    /// The bytes of each connection, in the order of their beginnings, where nothing is answered.
    pub streams: Vec<Vec<u8>>,
    /// What was taken, where there are answers.
    pub taken: Taken,
    /// Connections were reset: what was unread is lost.
    pub was_reset: bool,
}

pub struct Receiver {
    /// As an output is told.
    pub url: String,
    acts: Sender<Act>,
    /// How many connections there have been.
    made: Arc<AtomicU64>,
    thread: JoinHandle<Came>,
}

impl Receiver {
    /// At this path, where it is a Unix socket.
    pub fn start(
        beside: &Beside,
        path: &Path,
        certificates: &Certificates,
        dice: XorShift,
    ) -> Receiver {
        let (domain, address, place) = match beside.carrier {
            Carrier::Unix => {
                let address = SockAddr::unix(path).unwrap();
                (Domain::UNIX, address, path.display().to_string())
            }
            Carrier::Tcp | Carrier::Tls => {
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
                (Domain::IPV4, address.into(), address.to_string())
            }
        };
        let (acts, told) = mpsc::channel();
        let made = Arc::new(AtomicU64::new(0));
        let answering = |speech| Answering {
            speech,
            mood: Mood::Well,
            refuses: beside.refuses,
            dice,
            taken: Taken::default(),
        };
        let mut state = State {
            domain,
            address,
            tls: (beside.carrier == Carrier::Tls).then(|| certificates.server_config()),
            listener: None,
            connections: Vec::new(),
            answering: beside.speech.map(answering),
            pace: ALL,
            breaks_at: None,
            was_reset: false,
            made: Arc::clone(&made),
        };
        state.listen();
        let thread = thread::spawn(move || {
            let mut is_over = false;
            loop {
                for act in told.try_iter() {
                    is_over |= act == Act::End;
                    state.act(act);
                }
                state.accept();
                let has_read = state.turn();
                if is_over && state.connections.iter().all(|it| it.socket.is_none()) {
                    return state.came();
                }
                if !has_read || state.pace < ALL {
                    thread::sleep(REST);
                }
            }
        });
        Receiver {
            url: format!("{}{place}{}", scheme(beside), path_of(beside)),
            acts,
            made,
            thread,
        }
    }

    /// One that has failed says so at its end.
    pub fn tell(&self, act: Act) {
        let _ = self.acts.send(act);
    }

    pub fn wait_until_met(&self) {
        wait_until("a connection to the receiver", DEADLINE, || {
            self.made.load(Ordering::Relaxed) > 0
        });
    }

    /// Reads what is there to its end. The server is over.
    pub fn end(self) -> Came {
        self.tell(Act::End);
        self.thread.join().unwrap()
    }
}

fn scheme(beside: &Beside) -> &'static str {
    let is_secure = beside.carrier == Carrier::Tls;
    match (beside.speech, beside.carrier) {
        (None, Carrier::Unix) => "unix:",
        (None, _) if is_secure => "tls://",
        (None, _) => "tcp://",
        (Some(Speech::Redis), _) if is_secure => "rediss://",
        (Some(Speech::Redis), _) => "redis://",
        (Some(_), _) if is_secure => "https://",
        (Some(_), _) => "http://",
    }
}

fn path_of(beside: &Beside) -> &'static str {
    match beside.speech {
        Some(Speech::Redis) => "/stream",
        _ => "",
    }
}

struct State {
    domain: Domain,
    address: SockAddr,
    tls: Option<Arc<ServerConfig>>,
    listener: Option<Socket>,
    connections: Vec<Connection>,
    answering: Option<Answering>,
    /// What is read of a connection in one go.
    pace: usize,
    /// The next connection is reset when so many bytes of it have come.
    breaks_at: Option<usize>,
    was_reset: bool,
    made: Arc<AtomicU64>,
}

impl State {
    fn listen(&mut self) {
        if self.listener.is_some() {
            return;
        }
        if let Some(path) = self.address.as_pathname() {
            let _ = std::fs::remove_file(path);
        }
        let socket = Socket::new(self.domain, Type::STREAM, None).unwrap();
        // Connections of the one before may be in TIME_WAIT.
        socket.set_reuse_address(true).unwrap();
        socket.set_recv_buffer_size(KERNEL_BUFFER).unwrap();
        socket.set_nonblocking(true).unwrap();
        // A process that was just forked has the listener before for a moment longer.
        wait_until("the receiver's address", DEADLINE, || {
            socket.bind(&self.address).is_ok()
        });
        socket.listen(16).unwrap();
        self.listener = Some(socket);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Stall => self.pace = 0,
            Act::Slow(bytes) => self.pace = bytes as usize,
            Act::Heal => {
                self.pace = ALL;
                self.breaks_at = None;
                self.answer(Mood::Well);
                self.listen();
            }
            Act::End => {
                self.pace = ALL;
                self.answer(Mood::Well);
            }
            Act::Break(bytes) => self.breaks_at = Some(bytes),
            Act::Answer(mood) => self.answer(mood),
            Act::Leave => {
                self.accept();
                self.connections.iter_mut().for_each(Connection::leave);
            }
            Act::Die => {
                // Whoever is connected and was not accepted is reset with the listener.
                self.listener = None;
                self.was_reset = true;
                self.connections.iter_mut().for_each(Connection::reset);
            }
        }
    }

    fn answer(&mut self, mood: Mood) {
        if let Some(answering) = &mut self.answering {
            answering.mood = mood;
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(Socket::accept) {
            socket.set_nonblocking(true).unwrap();
            let session = self.tls.clone().map(|tls| {
                let mut session = ServerConnection::new(tls).unwrap();
                session.set_buffer_limit(None);
                session
            });
            self.connections.push(Connection {
                socket: Some(socket),
                session,
                breaks_at: self.breaks_at.take(),
                came: 0,
                has_greeted: false,
                has_left: false,
                bytes: Vec::new(),
                out: Vec::new(),
                out_at: Instant::now(),
                then: Then::GoOn,
            });
            self.made.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anything was there.
    fn turn(&mut self) -> bool {
        let mut buffer = vec![0; self.pace.min(64 << 10)];
        let mut has_read = false;
        for (nth, connection) in self.connections.iter_mut().enumerate() {
            match connection.read(&mut buffer) {
                Ok(read) => has_read |= read > 0,
                Err(_) if connection.breaks_now() => {
                    self.was_reset |= connection.may_have_sent();
                    connection.reset();
                }
                // Whoever gives an answer or a handshake up does not read it.
                Err(_) if self.answering.is_some() || connection.bytes.is_empty() => {
                    connection.socket = None;
                }
                Err(error) => panic!(
                    "the server's end of connection {nth} behind {} bytes: {error}",
                    connection.came
                ),
            }
            if let Some(answering) = &mut self.answering
                && connection.is_ready()
                && let Some(reply) = answering.reply(nth, &mut connection.bytes)
            {
                connection.say(reply);
            }
            connection.write();
        }
        has_read
    }

    fn came(self) -> Came {
        Came {
            streams: match self.answering {
                Some(_) => Vec::new(),
                None => self.connections.into_iter().map(|it| it.bytes).collect(),
            },
            taken: self.answering.map_or_else(Taken::default, |it| it.taken),
            was_reset: self.was_reset,
        }
    }
}

struct Connection {
    /// `None`: it has ended.
    socket: Option<Socket>,
    session: Option<ServerConnection>,
    breaks_at: Option<usize>,
    /// How many bytes came over the wire.
    came: usize,
    /// Something was sent.
    has_greeted: bool,
    /// Our half has ended.
    has_left: bool,
    /// What came and was not taken by who answers.
    bytes: Vec<u8>,
    /// An answer, and when it is sent.
    out: Vec<u8>,
    out_at: Instant,
    /// What becomes of it behind that.
    then: Then,
}

impl Connection {
    /// Reads what is there, and returns how many bytes that was.
    ///
    /// # Errors
    /// The other end has failed, or it is to be reset.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(socket) = self.socket.as_mut().filter(|_| !buffer.is_empty()) else {
            return Ok(0);
        };
        let read = match socket.read(buffer) {
            Ok(0) => {
                self.socket = None;
                return Ok(0);
            }
            Ok(read) => read,
            Err(error) if is_nothing(&error) => return Ok(0),
            Err(error) => return Err(error),
        };
        self.came += read;
        if self.breaks_now() {
            return Err(io::Error::other("it is broken"));
        }
        let mut part = &buffer[..read];
        let Some(session) = &mut self.session else {
            self.bytes.extend_from_slice(part);
            return Ok(read);
        };
        while !part.is_empty() {
            session.read_tls(&mut part)?;
            session.process_new_packets().map_err(io::Error::other)?;
            match session.reader().read_to_end(&mut self.bytes) {
                Err(error) if !is_nothing(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(read)
    }

    fn breaks_now(&self) -> bool {
        self.breaks_at.is_some_and(|at| self.came >= at)
    }

    /// Whether messages may have been in what came, or behind it: without an answer to its hello no
    /// client goes on.
    fn may_have_sent(&self) -> bool {
        self.session.is_none() || self.has_greeted
    }

    /// Whether the next request may be looked at.
    fn is_ready(&self) -> bool {
        self.socket.is_some() && self.out.is_empty() && self.then == Then::GoOn
    }

    fn say(&mut self, reply: Reply) {
        self.out = reply.bytes;
        self.out_at = Instant::now() + reply.after;
        self.then = reply.then;
    }

    fn write(&mut self) {
        let Some(socket) = self.socket.as_mut().filter(|_| !self.has_left) else {
            return;
        };
        if Instant::now() >= self.out_at
            && let Some(session) = &mut self.session
        {
            session.writer().write_all(&self.out).unwrap();
            self.out.clear();
        }
        let outcome = match &mut self.session {
            Some(session) => (|| {
                while session.wants_write() {
                    self.has_greeted |= session.write_tls(socket)? > 0;
                }
                Ok(())
            })(),
            None => (|| {
                while !self.out.is_empty() && Instant::now() >= self.out_at {
                    let written = socket.write(&self.out)?;
                    self.out.drain(..written);
                }
                Ok(())
            })(),
        };
        match (outcome, self.then) {
            (Err(error), _) if !is_nothing(&error) => self.socket = None,
            (Ok(()), Then::Close) if self.out.is_empty() => self.socket = None,
            (Ok(()), Then::Reset) if self.out.is_empty() => self.reset(),
            _ => {}
        }
    }

    /// Ends its half.
    fn leave(&mut self) {
        if let Some(session) = &mut self.session {
            session.send_close_notify();
        }
        self.write();
        if let Some(socket) = &self.socket {
            // The server's end may be gone already.
            let _ = socket.shutdown(Shutdown::Write);
        }
        self.has_left = true;
    }

    fn reset(&mut self) {
        if let Some(socket) = self.socket.take() {
            socket.set_linger(Some(Duration::ZERO)).unwrap();
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
