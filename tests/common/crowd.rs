//! Many clients at once, without a thread for each: they connect, send what the server takes, end
//! their stream, and wait for the server's end.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::process::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Socket, Type};

use super::tagged::Tagged;
use super::wait::DEADLINE;

const THREADS: usize = 8;
/// Between two rounds in which nobody came any further.
const PAUSE: Duration = Duration::from_millis(5);

/// What a client of the crowd sends: messages `0..messages`, of about `size` bytes each.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub messages: u64,
    pub size: usize,
}

/// How a client's connection ended, as the client saw it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its connect was refused.
    Refused,
    /// The server ended its stream.
    Clean,
    /// The server reset the connection.
    Reset,
}

/// What became of a client.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// The number in its messages.
    pub connection: u32,
    /// Whole messages that the kernel took from it.
    pub messages: u64,
    /// Bytes that the kernel took from it.
    pub bytes: u64,
    pub end: End,
}

/// Clients that are under way.
#[derive(Debug)]
pub struct Crowd {
    threads: Vec<JoinHandle<Vec<Outcome>>>,
    ended: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl Crowd {
    /// One client for each number in `connections`, which begin about in this order. Each waits as
    /// long as it takes.
    pub fn start(addr: SocketAddr, connections: Range<u32>, load: fn(u32) -> Load) -> Crowd {
        let (ended, stop) = (Arc::default(), Arc::<AtomicBool>::default());
        let threads = (0..THREADS).map(|nth| {
            let (ended, stop) = (Arc::clone(&ended), Arc::clone(&stop));
            let mine = connections.clone().skip(nth).step_by(THREADS);
            let clients: Vec<_> = mine.map(|number| (number, load(number))).collect();
            thread::spawn(move || run(addr, &clients, &ended, &stop))
        });
        Crowd {
            threads: threads.collect(),
            ended,
            stop,
        }
    }

    /// How many have come to their end.
    pub fn ended(&self) -> usize {
        self.ended.load(Ordering::Relaxed)
    }

    /// Blocks until all have, for at most [`DEADLINE`], and says what became of each.
    ///
    /// # Panics
    /// When somebody still waits then.
    #[track_caller]
    pub fn finish(mut self) -> Vec<Outcome> {
        let end = Instant::now() + DEADLINE;
        while !self.threads.iter().all(JoinHandle::is_finished) {
            assert!(
                Instant::now() < end,
                "clients still wait after {DEADLINE:?}; {} have ended",
                self.ended()
            );
            thread::sleep(PAUSE);
        }
        let threads = std::mem::take(&mut self.threads);
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .collect()
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Lets this process hold at least `descriptors`, where its hard limit allows it.
pub fn raise_descriptor_limit(descriptors: u64) {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current.is_some_and(|soft| soft < descriptors) {
        limit.current = limit
            .maximum
            .map_or(Some(descriptors), |hard| Some(hard.min(descriptors)));
        setrlimit(Resource::Nofile, limit).unwrap();
    }
}

fn run(
    addr: SocketAddr,
    clients: &[(u32, Load)],
    ended: &AtomicUsize,
    stop: &AtomicBool,
) -> Vec<Outcome> {
    let mut outcomes = Vec::with_capacity(clients.len());
    let mut open = Vec::with_capacity(clients.len());
    let mut starting = clients.iter();
    while !stop.load(Ordering::Relaxed) {
        let mut moved = false;
        // A few at a time: those that came first are not kept waiting by those that come last.
        for &(connection, load) in starting.by_ref().take(8) {
            open.push(Client::start(addr, connection, load));
            moved = true;
        }
        open.retain_mut(|client| match client.step(addr, &mut moved) {
            None => true,
            Some(end) => {
                outcomes.push(client.outcome(end));
                ended.fetch_add(1, Ordering::Relaxed);
                false
            }
        });
        if open.is_empty() && starting.len() == 0 {
            break;
        }
        if !moved {
            thread::sleep(PAUSE);
        }
    }
    outcomes
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    Sending,
    Waiting,
}

struct Client {
    connection: u32,
    load: Load,
    stream: TcpStream,
    phase: Phase,
    next: u64,
    rest: Vec<u8>,
    at: usize,
    messages: u64,
    bytes: u64,
}

impl Client {
    fn start(addr: SocketAddr, connection: u32, load: Load) -> Client {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        // EINPROGRESS; what comes of it is asked for later.
        let _ = socket.connect(&addr.into());
        Client {
            connection,
            load,
            stream: socket.into(),
            phase: Phase::Connecting,
            next: 0,
            rest: Vec::new(),
            at: 0,
            messages: 0,
            bytes: 0,
        }
    }

    /// As far as it goes without waiting. Says how it ended, if it did.
    fn step(&mut self, addr: SocketAddr, moved: &mut bool) -> Option<End> {
        if self.phase == Phase::Connecting {
            if self.stream.take_error().unwrap().is_some() {
                return Some(End::Refused);
            }
            self.stream.peer_addr().ok()?;
            // Nobody listened, and the kernel connected us to ourselves.
            if self.stream.local_addr().unwrap() == addr {
                return Some(End::Refused);
            }
            self.phase = Phase::Sending;
            *moved = true;
        }
        while self.phase == Phase::Sending {
            if self.at == self.rest.len() {
                if self.next == self.load.messages {
                    // ENOTCONN: the server was first, and reading will say how.
                    let _ = self.stream.shutdown(Shutdown::Write);
                    self.phase = Phase::Waiting;
                    *moved = true;
                    break;
                }
                let tagged = Tagged::new(self.connection);
                self.rest = tagged.lines(self.next..self.next + 1, self.load.size);
                (self.next, self.at) = (self.next + 1, 0);
            }
            match self.stream.write(&self.rest[self.at..]) {
                Ok(taken) => {
                    self.at += taken;
                    self.bytes += taken as u64;
                    self.messages += u64::from(self.at == self.rest.len());
                    *moved = true;
                }
                Err(error) if is_nothing(error.kind()) => return None,
                Err(_) => return Some(End::Reset),
            }
        }
        match self.stream.read(&mut [0; 512]) {
            Ok(0) => Some(End::Clean),
            Ok(_) => None,
            Err(error) if is_nothing(error.kind()) => None,
            Err(_) => Some(End::Reset),
        }
    }

    fn outcome(&self, end: End) -> Outcome {
        Outcome {
            connection: self.connection,
            messages: self.messages,
            bytes: self.bytes,
            end,
        }
    }
}

fn is_nothing(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
