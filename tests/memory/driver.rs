//! Many connections that send what the server takes, from one thread, and a sink that takes what it
//! is let.

use std::io::{ErrorKind, PipeReader, Read, Write};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;

use crate::common::client;

/// Bytes that are repeated; [`ENDLESS`] times, if need be.
#[derive(Debug)]
pub struct Part(pub Vec<u8>, pub u64);

pub const ENDLESS: u64 = u64::MAX;

/// What a connection sends.
#[derive(Debug)]
pub struct Script {
    pub parts: Vec<Part>,
    /// The most bytes that one write holds, so that they come in small reads.
    pub piece: usize,
}

impl Script {
    pub fn new(parts: Vec<Part>) -> Arc<Script> {
        Script::in_pieces(256 << 10, parts)
    }

    pub fn in_pieces(piece: usize, parts: Vec<Part>) -> Arc<Script> {
        Arc::new(Script { parts, piece })
    }
}

/// How far a connection has come in its script.
#[derive(Debug, Default)]
struct Place {
    part: usize,
    repeats: u64,
    offset: usize,
}

impl Place {
    fn next<'a>(&self, script: &'a Script) -> &'a [u8] {
        let Some(Part(bytes, _)) = script.parts.get(self.part) else {
            return &[];
        };
        let rest = &bytes[self.offset..];
        &rest[..rest.len().min(script.piece)]
    }

    fn advance(&mut self, bytes: usize, script: &Script) {
        let Part(whole, times) = &script.parts[self.part];
        self.offset += bytes;
        if self.offset == whole.len() {
            (self.offset, self.repeats) = (0, self.repeats + 1);
        }
        if self.repeats == *times {
            *self = Place {
                part: self.part + 1,
                ..Place::default()
            };
        }
    }
}

/// Never waits.
pub type Socket = Box<dyn Write + Send>;

/// Connections that send the same, or each its own.
pub struct Group {
    connections: Vec<Sender>,
}

struct Sender {
    socket: Socket,
    script: Arc<Script>,
    place: Place,
}

impl Group {
    pub fn of(connections: impl Iterator<Item = (Socket, Arc<Script>)>) -> Group {
        let sender = |(socket, script)| Sender {
            socket,
            script,
            place: Place::default(),
        };
        Group {
            connections: connections.map(sender).collect(),
        }
    }

    pub fn connect(addr: SocketAddr, connections: usize, script: &Arc<Script>) -> Group {
        let connect = |_| {
            let stream = client::connect(addr);
            stream.set_nonblocking(true).unwrap();
            // Else a small piece waits here for the one before, and comes with the next in one
            // read.
            stream.set_nodelay(true).unwrap();
            (Box::new(stream) as Socket, Arc::clone(script))
        };
        Group::of((0..connections).map(connect))
    }

    pub fn connect_unix(path: &Path, connections: usize, script: &Arc<Script>) -> Group {
        let connect = |_| {
            let stream = UnixStream::connect(path).unwrap();
            stream.set_nonblocking(true).unwrap();
            (Box::new(stream) as Socket, Arc::clone(script))
        };
        Group::of((0..connections).map(connect))
    }

    /// From now on they send something else; what is begun stays as it is.
    pub fn send(&mut self, script: &Arc<Script>) {
        for sender in &mut self.connections {
            sender.script = Arc::clone(script);
            sender.place = Place::default();
        }
    }

    /// A write of each. Returns how many bytes the kernel took.
    pub fn push(&mut self) -> usize {
        let mut pushed = 0;
        for sender in &mut self.connections {
            let (script, place) = (&sender.script, &mut sender.place);
            match sender.socket.write(place.next(script)) {
                Ok(0) => {}
                Ok(bytes) => {
                    place.advance(bytes, script);
                    pushed += bytes;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                // It was ended by the server, as --when-full and --oversize may have it.
                Err(_) => place.part = usize::MAX,
            }
        }
        pushed
    }
}

/// The reading end of the server's stdout.
#[derive(Debug, Clone)]
pub struct Sink(Arc<State>);

#[derive(Debug)]
struct State {
    is_open: Mutex<bool>,
    changed: Condvar,
    taken: AtomicU64,
}

impl Sink {
    /// Shut at first.
    pub fn start(mut pipe: PipeReader) -> Sink {
        let sink = Sink(Arc::new(State {
            is_open: Mutex::new(false),
            changed: Condvar::new(),
            taken: AtomicU64::new(0),
        }));
        let state = Arc::clone(&sink.0);
        thread::spawn(move || {
            let mut buffer = vec![0; 1 << 20];
            loop {
                let is_open = state.is_open.lock().unwrap();
                drop(state.changed.wait_while(is_open, |open| !*open).unwrap());
                // One that is shut in here takes one more piece, a pipe's content at most.
                match pipe.read(&mut buffer) {
                    Ok(bytes) if bytes > 0 => {
                        state.taken.fetch_add(bytes as u64, Ordering::Relaxed)
                    }
                    _ => break,
                };
            }
        });
        sink
    }

    pub fn set_open(&self, is_open: bool) {
        *self.0.is_open.lock().unwrap() = is_open;
        self.0.changed.notify_all();
    }

    /// Bytes that it took so far.
    pub fn taken(&self) -> u64 {
        self.0.taken.load(Ordering::Relaxed)
    }
}
