//! A peer that speaks HTTP as it is told: threads and plain sockets, so that it can also speak it
//! wrongly.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use memchr::memmem;

/// How often a wait looks whether the peer is to end.
const SLICE: Duration = Duration::from_millis(20);

/// A request that came whole, or as far as [`Reply::Early`] let it.
#[derive(Clone, Debug)]
pub struct Request {
    /// From 0, over all connections.
    pub nth: usize,
    /// The first line, and the headers in lower case.
    pub head: String,
    pub body: Vec<u8>,
    /// From 0.
    pub connection: usize,
}

impl Request {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn lines(&self) -> Vec<String> {
        self.text().lines().map(str::to_owned).collect()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.head, name)
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines();
    lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

/// The head of a request.
#[derive(Debug)]
pub struct Head {
    /// The first line, and the headers in lower case.
    pub text: String,
    /// Where the body is, which may not have come whole.
    pub body: Range<usize>,
}

impl Head {
    /// Of what came; `None`: it is not whole yet.
    pub fn of(bytes: &[u8]) -> Option<Head> {
        let begin = memmem::find(bytes, b"\r\n\r\n")? + 4;
        let text = String::from_utf8_lossy(&bytes[..begin - 4]).into_owned();
        let (first, headers) = text.split_once("\r\n").unwrap_or((&text, ""));
        let headers: Vec<_> = headers
            .lines()
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| format!("{}: {}", name.to_lowercase(), value.trim()))
            .collect();
        let text = format!("{first}\n{}", headers.join("\n"));
        let length = header(&text, "content-length").unwrap().parse::<usize>();
        let body = begin..begin + length.unwrap();
        Some(Head { text, body })
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }
}

/// An answer, whole.
pub fn answer(status: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}");
    format!("{head}\r\n\r\n{body}").into_bytes()
}

/// What the peer does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A whole answer, of a status (`200 OK`), headers (`name: value\r\n`) and a body; the
    /// connection goes on.
    Answer(&'static str, String, String),
    /// The same, and the connection is closed without a word of it.
    AnswerAndClose(&'static str),
    /// These bytes, and the end.
    Raw(Vec<u8>),
    /// The end, without an answer.
    Close,
    /// These bytes, and nothing more until the client goes.
    RawAndNever(Vec<u8>),
    /// These bytes, and then nothing is read any more, and nothing closed.
    RawAndDeaf(Vec<u8>),
    /// Nothing, until the client goes.
    Never,
}

impl Reply {
    pub fn ok() -> Reply {
        Reply::status("200 OK")
    }

    pub fn status(status: &'static str) -> Reply {
        Reply::Answer(status, String::new(), String::new())
    }
}

/// What the answer to `_bulk` says of documents.
pub fn bulk_items(statuses: &[u16]) -> String {
    let item = |status: &u16| match status {
        201 => r#"{"create":{"status":201}}"#.to_owned(),
        _ => format!(
            r#"{{"create":{{"status":{status},"error":{{"type":"kind","reason":"why"}}}}}}"#
        ),
    };
    let items: Vec<_> = statuses.iter().map(item).collect();
    let has_errors = statuses.iter().any(|status| *status != 201);
    let items = items.join(",");
    format!(r#"{{"errors":{has_errors},"items":[{items}]}}"#)
}

type Serve = dyn Fn(&Request) -> Reply + Send + Sync;
/// What is put around a connection, and whether the head alone decides.
type Wrap = dyn Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync;

pub trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

struct Shared {
    serve: Box<Serve>,
    wrap: Box<Wrap>,
    /// Answers when it has seen the head, and closes without reading the body.
    is_early: AtomicBool,
    is_over: AtomicBool,
    requests: Mutex<Vec<Request>>,
    count: AtomicUsize,
    connections: AtomicUsize,
    open: AtomicUsize,
}

pub struct HttpPeer {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

impl HttpPeer {
    pub fn start(serve: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> HttpPeer {
        Self::wrapped(|stream| Ok(Box::new(stream)), serve)
    }

    pub fn wrapped(
        wrap: impl Fn(TcpStream) -> io::Result<Box<dyn Stream>> + Send + Sync + 'static,
        serve: impl Fn(&Request) -> Reply + Send + Sync + 'static,
    ) -> HttpPeer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            serve: Box::new(serve),
            wrap: Box::new(wrap),
            is_early: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            requests: Mutex::default(),
            count: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
        });
        let acceptor = thread::spawn({
            let shared = Arc::clone(&shared);
            move || accept(&listener, &shared)
        });
        HttpPeer {
            address,
            shared,
            acceptor: Some(acceptor),
        }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on each request is answered when its head has come, and its connection closed.
    pub fn answer_early(&self) {
        self.shared.is_early.store(true, Ordering::Relaxed);
    }

    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::Relaxed)
    }

    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::Relaxed)
    }
}

impl Drop for HttpPeer {
    fn drop(&mut self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(self.address);
        let joined = self.acceptor.take().map(JoinHandle::join);
        if !thread::panicking() {
            joined.unwrap().unwrap();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    let mut threads = Vec::new();
    for stream in listener.incoming() {
        if shared.is_over.load(Ordering::Relaxed) {
            break;
        }
        let stream = stream.unwrap();
        let shared = Arc::clone(shared);
        threads.push(thread::spawn(move || {
            let nth = shared.connections.fetch_add(1, Ordering::Relaxed);
            shared.open.fetch_add(1, Ordering::Relaxed);
            stream.set_read_timeout(Some(SLICE)).unwrap();
            // An error is the client's end.
            let _ = (shared.wrap)(stream).and_then(|stream| serve(stream, nth, &shared));
            shared.open.fetch_sub(1, Ordering::Relaxed);
        }));
    }
    threads.into_iter().for_each(|thread| {
        let _ = thread.join();
    });
}

fn serve(mut stream: Box<dyn Stream>, connection: usize, shared: &Shared) -> io::Result<()> {
    let mut bytes = Vec::new();
    loop {
        let head = loop {
            if let Some(head) = Head::of(&bytes) {
                break head;
            }
            read_more(&mut stream, &mut bytes, shared)?;
        };
        let is_early = shared.is_early.load(Ordering::Relaxed);
        let whole = head.body.end;
        while !is_early && bytes.len() < whole {
            read_more(&mut stream, &mut bytes, shared)?;
        }
        let request = Request {
            nth: shared.count.fetch_add(1, Ordering::Relaxed),
            head: head.text,
            body: bytes[head.body.start..whole.min(bytes.len())].to_vec(),
            connection,
        };
        bytes.drain(..whole.min(bytes.len()));
        let reply = (shared.serve)(&request);
        lock(&shared.requests).push(request);
        match reply {
            Reply::Answer(status, headers, body) => {
                let close = if is_early {
                    "connection: close\r\n"
                } else {
                    ""
                };
                stream.write_all(&answer(status, &format!("{headers}{close}"), &body))?;
                if is_early {
                    return Ok(());
                }
            }
            Reply::AnswerAndClose(status) => {
                return stream.write_all(&answer(status, "", ""));
            }
            Reply::Raw(bytes) => return stream.write_all(&bytes),
            Reply::RawAndNever(raw) => {
                stream.write_all(&raw)?;
                loop {
                    read_more(&mut stream, &mut bytes, shared)?;
                }
            }
            Reply::RawAndDeaf(raw) => {
                stream.write_all(&raw)?;
                while !shared.is_over.load(Ordering::Relaxed) {
                    thread::sleep(SLICE);
                }
                return Ok(());
            }
            Reply::Close => return Ok(()),
            // Until the client has gone.
            Reply::Never => loop {
                read_more(&mut stream, &mut bytes, shared)?;
            },
        }
    }
}

fn read_more(stream: &mut Box<dyn Stream>, bytes: &mut Vec<u8>, shared: &Shared) -> io::Result<()> {
    let mut part = [0; 64 << 10];
    loop {
        match stream.read(&mut part) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => {
                bytes.extend_from_slice(&part[..read]);
                return Ok(());
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if shared.is_over.load(Ordering::Relaxed) {
                    return Err(error);
                }
            }
            Err(error) => return Err(error),
        }
    }
}
