//! The receiver of a server's second output: it reads as it is told, leaves, dies and comes back.

use std::io::{self, ErrorKind, Read};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use socket2::{Domain, SockAddr, Socket, Type};

use super::beside::Act;
use super::common::port::free_port;
use super::common::wait::{DEADLINE, wait_until};

const ALL: usize = usize::MAX;
const REST: Duration = Duration::from_millis(2);
/// What the kernel holds for a receiver that does not read, as far as it lets itself be told: a
/// stall is to be felt.
const KERNEL_BUFFER: usize = 4096;

/// What came, once the server is over.
#[derive(Debug)]
pub struct Came {
    /// The bytes of each connection, in the order of their beginnings.
    pub streams: Vec<Vec<u8>>,
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
    /// Over a Unix socket at this path, or TCP.
    pub fn start(path: Option<&Path>) -> Receiver {
        let (domain, address, url) = match path {
            Some(path) => {
                let address = SockAddr::unix(path).unwrap();
                (Domain::UNIX, address, format!("unix:{}", path.display()))
            }
            None => {
                let address = std::net::SocketAddr::from(([127, 0, 0, 1], free_port()));
                (Domain::IPV4, address.into(), format!("tcp://{address}"))
            }
        };
        let (acts, told) = mpsc::channel();
        let made = Arc::new(AtomicU64::new(0));
        let mut state = State {
            domain,
            address,
            listener: None,
            connections: Vec::new(),
            pace: ALL,
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
                let has_read = state.read();
                if is_over && state.connections.iter().all(|it| it.socket.is_none()) {
                    return state.came();
                }
                if !has_read || state.pace < ALL {
                    thread::sleep(REST);
                }
            }
        });
        Receiver {
            url,
            acts,
            made,
            thread,
        }
    }

    pub fn tell(&self, act: Act) {
        self.acts.send(act).unwrap();
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

struct State {
    domain: Domain,
    address: SockAddr,
    listener: Option<Socket>,
    connections: Vec<Connection>,
    /// What is read of a connection in one go.
    pace: usize,
    was_reset: bool,
    made: Arc<AtomicU64>,
}

struct Connection {
    /// `None`: it has ended.
    socket: Option<Socket>,
    bytes: Vec<u8>,
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
        socket.bind(&self.address).unwrap();
        socket.listen(16).unwrap();
        self.listener = Some(socket);
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Stall => self.pace = 0,
            Act::Slow(bytes) => self.pace = bytes as usize,
            Act::Heal => {
                self.pace = ALL;
                self.listen();
            }
            Act::End => self.pace = ALL,
            Act::Leave => {
                self.accept();
                let sockets = self.connections.iter().filter_map(|it| it.socket.as_ref());
                for socket in sockets {
                    // The server's end may be gone already.
                    let _ = socket.shutdown(Shutdown::Write);
                }
            }
            Act::Die => {
                // Whoever is connected and was not accepted is reset with the listener.
                self.listener = None;
                self.was_reset = true;
                let connections = self.connections.iter_mut();
                for socket in connections.filter_map(|it| it.socket.take()) {
                    socket.set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Some(Ok((socket, _))) = self.listener.as_ref().map(Socket::accept) {
            socket.set_nonblocking(true).unwrap();
            self.connections.push(Connection {
                socket: Some(socket),
                bytes: Vec::new(),
            });
            self.made.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Whether anything was there.
    fn read(&mut self) -> bool {
        let mut buffer = vec![0; self.pace.min(64 << 10)];
        let mut has_read = false;
        if buffer.is_empty() {
            return false;
        }
        for connection in &mut self.connections {
            let Some(socket) = &mut connection.socket else {
                continue;
            };
            match socket.read(&mut buffer) {
                Ok(0) => connection.socket = None,
                Ok(read) => {
                    connection.bytes.extend_from_slice(&buffer[..read]);
                    has_read = true;
                }
                Err(error) if is_nothing(&error) => {}
                Err(error) => panic!("the server's end of a connection: {error}"),
            }
        }
        has_read
    }

    fn came(self) -> Came {
        Came {
            streams: self.connections.into_iter().map(|it| it.bytes).collect(),
            was_reset: self.was_reset,
        }
    }
}

fn is_nothing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}
