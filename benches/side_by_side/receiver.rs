//! A server of HTTP/1.1 that takes whatever is posted, and answers at once: a thread for each
//! connection, no more than a client needs. `_bulk` is answered with an item for each document, as
//! Elasticsearch does where nothing but their statuses is asked for.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use crate::Outcome;

/// What this program is started with to be that server; an address follows.
pub(crate) const ARGUMENT: &str = "--http-receiver";

const READ_BYTES: usize = 64 << 10;
const ITEM: &str = "{\"create\":{\"status\":201}},";

/// Messages of bodies that were answered.
static MESSAGES: AtomicU64 = AtomicU64::new(0);

pub(crate) fn serve(address: &str) -> Outcome<()> {
    let listener = TcpListener::bind(address)?;
    for client in listener.incoming() {
        let client = client?;
        thread::spawn(move || answer_all(&client));
    }
    Ok(())
}

/// How many messages one that runs has got.
pub(crate) fn messages(address: SocketAddr) -> Outcome<u64> {
    let mut stream = TcpStream::connect(address)?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").ok_or("no answer")?;
    Ok(body.parse()?)
}

fn answer_all(client: &TcpStream) -> io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::with_capacity(READ_BYTES, client);
    let (mut writer, mut body, mut items) = (client, Vec::new(), String::new());
    while let Some(request) = read_head(&mut reader)? {
        body.resize(request.body_bytes.max(body.len()), 0);
        let body = &mut body[..request.body_bytes];
        reader.read_exact(body)?;
        let lines = memchr::memchr_iter(b'\n', body).count();
        let documents = lines / 2;
        let text = match request.kind {
            Kind::Count => MESSAGES.load(Ordering::Relaxed).to_string(),
            Kind::Lines => {
                MESSAGES.fetch_add(lines as u64, Ordering::Relaxed);
                String::new()
            }
            Kind::Bulk => {
                MESSAGES.fetch_add(documents as u64, Ordering::Relaxed);
                let length = documents * ITEM.len();
                if items.len() < length {
                    items = ITEM.repeat(documents);
                }
                let items = items[..length].trim_end_matches(',');
                format!("{{\"errors\":false,\"items\":[{items}]}}")
            }
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", text.len());
        writer.write_all((head + &text).as_bytes())?;
        if request.is_last {
            break;
        }
    }
    Ok(())
}

enum Kind {
    /// How many messages it has got.
    Count,
    Lines,
    Bulk,
}

struct Request {
    kind: Kind,
    body_bytes: usize,
    is_last: bool,
}

/// `None` where the connection ends instead.
fn read_head(reader: &mut impl BufRead) -> io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let kind = match &*line {
        line if line.starts_with("GET ") => Kind::Count,
        line if line.contains(" /_bulk") => Kind::Bulk,
        _ => Kind::Lines,
    };
    let (mut body_bytes, mut is_last) = (0, false);
    loop {
        line.clear();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        match (name, value.trim()) {
            ("content-length", length) => body_bytes = length.parse().unwrap_or(0),
            ("connection", "close") => is_last = true,
            _ => {}
        }
    }
    Ok(Some(Request {
        kind,
        body_bytes,
        is_last,
    }))
}
