//! What one writes by hand in an afternoon to get lines over TCP into `_bulk`: a thread for each
//! connection, a bounded channel of lines, a thread that makes bodies of them with serde_json, and
//! threads that send these with ureq. Nothing is sent again, no message is accounted for, no
//! connection is limited.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use http_peer::{MAX_DOCUMENTS, Outcome, QUERY, agent, now, post, put};
use signal_hook::consts::SIGTERM;
use signal_hook::iterator::Signals;
use socket2::{Domain, Socket, Type};

const USAGE: &str = "usage: lines-to-bulk --listen ADDRESS --to URL --body-bytes N --requests N";
const BACKLOG: i32 = 4096;
const READ_BYTES: usize = 64 << 10;
const QUEUED_LINES: usize = 100_000;
/// How long a body waits to be full.
const LINGER: Duration = Duration::from_millis(20);

static SENT: AtomicU64 = AtomicU64::new(0);

struct Body {
    bytes: Vec<u8>,
    documents: u64,
}

fn main() -> Outcome<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name);
        at.and_then(|at| arguments.get(at + 1)).ok_or(USAGE)
    };
    let address: SocketAddr = value("--listen")?.parse()?;
    let url = format!("{}/{QUERY}", value("--to")?);
    let limit: usize = value("--body-bytes")?.parse()?;
    let requests: usize = value("--requests")?.parse()?;

    let mut signals = Signals::new([SIGTERM])?;
    let (to_render, lines) = sync_channel::<String>(QUEUED_LINES);
    let (to_send, bodies) = sync_channel::<Body>(requests);
    let bodies = Arc::new(Mutex::new(bodies));
    for _ in 0..requests {
        let (url, bodies) = (url.clone(), Arc::clone(&bodies));
        thread::spawn(move || send(&url, &bodies));
    }
    thread::spawn(move || render(&lines, limit, &to_send));
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    thread::spawn(move || {
        loop {
            let Ok((client, _)) = socket.accept() else {
                continue;
            };
            let to_render = to_render.clone();
            thread::spawn(move || receive(client.into(), &to_render));
        }
    });
    signals.forever().next();
    println!("{{\"messages\":{}}}", SENT.load(Ordering::Relaxed));
    Ok(())
}

fn receive(client: TcpStream, to_render: &SyncSender<String>) {
    let lines = BufReader::with_capacity(READ_BYTES, client).lines();
    for line in lines.map_while(Result::ok) {
        if to_render.send(line).is_err() {
            return;
        }
    }
}

fn render(lines: &Receiver<String>, limit: usize, to_send: &SyncSender<Body>) {
    let (mut bytes, mut documents) = (Vec::with_capacity(limit), 0);
    let mut document = Vec::new();
    let mut due: Option<Instant> = None;
    loop {
        let left = due.map(|due| due.saturating_duration_since(Instant::now()));
        let line = match lines.recv_timeout(left.unwrap_or(LINGER)) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Timeout) => None,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        document.clear();
        if let Some(line) = &line {
            put(&mut document, &now(), line);
        }
        let is_full = bytes.len() + document.len() > limit || documents == MAX_DOCUMENTS;
        let is_due = left == Some(Duration::ZERO) || line.is_none();
        if documents > 0 && (is_full || is_due) {
            let full = std::mem::replace(&mut bytes, Vec::with_capacity(limit));
            let body = Body {
                bytes: full,
                documents,
            };
            if to_send.send(body).is_err() {
                return;
            }
            (documents, due) = (0, None);
        }
        if line.is_some() {
            bytes.extend_from_slice(&document);
            documents += 1;
            due.get_or_insert_with(|| Instant::now() + LINGER);
        }
    }
}

fn send(url: &str, bodies: &Mutex<Receiver<Body>>) {
    let agent = agent();
    loop {
        let next = bodies.lock().expect("a thread panicked").recv();
        let Ok(body) = next else {
            return;
        };
        post(&agent, url, &body.bytes).expect("the server failed");
        SENT.fetch_add(body.documents, Ordering::Relaxed);
    }
}
