//! A real redis-server, which a test starts, kills and starts again, and reads.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use redis::{Connection, Value};
use tempfile::TempDir;

use super::guard::Guarded;
use super::port::free_port;
use super::programs;
use super::wait::{DEADLINE, wait_for};

/// A server with its own folder. Drop kills it.
#[derive(Debug)]
pub struct RedisServer {
    guarded: Guarded,
    flags: Vec<String>,
    port: u16,
    folder: TempDir,
    /// Of the connections that the test asks over.
    login: String,
}

impl RedisServer {
    /// Starts one, with these flags beside those that keep it small and alone. `None`: there is
    /// none on this machine, and the test says that it leaves its part out. Blocks until it
    /// answers, for at most [`DEADLINE`].
    #[track_caller]
    pub fn start(flags: &[&str]) -> Option<RedisServer> {
        RedisServer::start_as("", flags)
    }

    /// As [`start`](RedisServer::start), for a server that is asked with a `user:password@`.
    #[track_caller]
    pub fn start_as(login: &str, flags: &[&str]) -> Option<RedisServer> {
        programs::installed("redis-server")?;
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let flags: Vec<String> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let server = RedisServer {
            guarded: spawn(folder.path(), port, &flags),
            flags,
            port,
            folder,
            login: login.to_owned(),
        };
        server.wait_until_up();
        Some(server)
    }

    /// Until it answers, be it with an error.
    #[track_caller]
    fn wait_until_up(&self) {
        wait_for("redis-server is up", DEADLINE, || {
            TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)).ok()
        });
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it, as a crash does.
    pub fn kill(&mut self) {
        self.guarded.0.kill().unwrap();
        self.guarded.0.wait().unwrap();
    }

    /// Starts it again where it was, with more flags.
    #[track_caller]
    pub fn start_again(&mut self, flags: &[&str]) {
        let more = flags.iter().map(|&flag| flag.to_owned());
        let flags: Vec<String> = self.flags.iter().cloned().chain(more).collect();
        self.guarded = spawn(self.folder.path(), self.port, &flags);
        self.wait_until_up();
    }

    /// A connection of the test's own, once the server takes commands.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        let url = format!("redis://{}127.0.0.1:{}/", self.login, self.port);
        let client = redis::Client::open(url).unwrap();
        wait_for("redis-server answers", DEADLINE, || {
            let mut connection = client.get_connection_with_timeout(DEADLINE).ok()?;
            let pong = redis::cmd("PING").query::<Value>(&mut connection);
            pong.is_ok().then_some(connection)
        })
    }

    /// Asks for one thing, in words.
    #[track_caller]
    pub fn ask(&self, words: &[&str]) -> Value {
        let mut command = redis::Cmd::new();
        words.iter().for_each(|word| {
            command.arg(*word);
        });
        command.query(&mut self.connect()).unwrap()
    }

    /// How many entries a stream has.
    #[track_caller]
    pub fn entries(&self, stream: &str) -> u64 {
        let mut command = redis::cmd("XLEN");
        command.arg(stream).query(&mut self.connect()).unwrap()
    }

    /// The field and the value of each entry of a stream, in their order.
    #[track_caller]
    pub fn read(&self, stream: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        type Entries = Vec<(String, Vec<(Vec<u8>, Vec<u8>)>)>;
        let mut connection = self.connect();
        let (mut from, mut all) = ("-".to_owned(), Vec::new());
        loop {
            let mut command = redis::cmd("XRANGE");
            command
                .arg(stream)
                .arg(&from)
                .arg("+")
                .arg("COUNT")
                .arg(10_000);
            let entries: Entries = command.query(&mut connection).unwrap();
            let Some((last, _)) = entries.last() else {
                return all;
            };
            from = format!("({last}");
            all.extend(entries.into_iter().flat_map(|(_, fields)| fields));
        }
    }

    /// The messages of a stream's entries, in their order.
    #[track_caller]
    pub fn messages(&self, stream: &str) -> Vec<Vec<u8>> {
        let entries = self.read(stream).into_iter();
        entries.map(|(_, message)| message).collect()
    }
}

fn spawn(folder: &Path, port: u16, flags: &[String]) -> Guarded {
    let mut command = Command::new(programs::find("redis-server").unwrap());
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .arg("--dir")
        .arg(folder)
        .args(["--save", "", "--appendonly", "no", "--logfile", "log"])
        .args(flags)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Guarded(command.spawn().unwrap())
}

/// What takes connections in the place of a server, each by `serve` on a thread of its own.
pub fn puppet(serve: impl Fn(TcpStream) -> io::Result<()> + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let serve = std::sync::Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let serve = std::sync::Arc::clone(&serve);
            let stream = stream.unwrap();
            // A test waits for what it wants to see, not for these threads.
            thread::spawn(move || drop(serve(stream)));
        }
    });
    address
}

/// Commands that a puppet is sent.
#[derive(Debug)]
pub struct Commands {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Commands {
    pub fn of(stream: &TcpStream) -> Commands {
        Commands {
            stream: stream.try_clone().unwrap(),
            bytes: Vec::new(),
        }
    }

    /// The words of the next command; `None` at the end.
    pub fn next_command(&mut self) -> Option<Vec<Vec<u8>>> {
        loop {
            if let Some((command, length)) = parse(&self.bytes) {
                self.bytes.drain(..length);
                return Some(command);
            }
            let mut part = [0; 64 << 10];
            match self.stream.read(&mut part) {
                Ok(length) if length > 0 => self.bytes.extend_from_slice(&part[..length]),
                _ => return None,
            }
        }
    }
}

/// The words of the first command, if it is whole, and its length.
pub fn parse(bytes: &[u8]) -> Option<(Vec<Vec<u8>>, usize)> {
    let mut at = 0;
    let line = |at: &mut usize| {
        let length = memchr::memchr(b'\n', bytes.get(*at..)?)?;
        let text = std::str::from_utf8(&bytes[*at + 1..*at + length - 1]).unwrap();
        *at += length + 1;
        text.parse::<usize>().ok()
    };
    let words = line(&mut at)?;
    let mut command = Vec::new();
    for _ in 0..words {
        let length = line(&mut at)?;
        command.push(bytes.get(at..at + length)?.to_vec());
        at += length + 2;
    }
    (at <= bytes.len()).then_some((command, at))
}

/// Short enough for a test that waits for it, long enough for a busy machine.
pub const SHORT: Duration = Duration::from_millis(500);
