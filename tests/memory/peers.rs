//! Those who take messages from an output, or are there for something else.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::thread;

use memchr::memmem;
use rustix::event::{PollFd, PollFlags, poll};

/// What is done with a connection, until the other end leaves.
pub type Serve = fn(TcpStream) -> io::Result<()>;

/// Takes connections on the port that is returned for as long as the process runs, each on a thread
/// of its own.
pub fn start(serve: Serve) -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            thread::spawn(move || drop(serve(stream)));
        }
    });
    port
}

/// The port of somebody who is not there: what connects is refused.
pub fn nobody() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

// ---- streams

pub fn reads(mut stream: TcpStream) -> io::Result<()> {
    io::copy(&mut stream, &mut io::sink()).map(drop)
}

pub fn never_reads(stream: TcpStream) -> io::Result<()> {
    let mut fds = [PollFd::new(&stream, PollFlags::empty())];
    poll(&mut fds, None)?;
    Ok(())
}

/// Reads, and says without an end what nobody asked for.
pub fn talks(stream: TcpStream) -> io::Result<()> {
    says(stream, b"", &[b'z'; 64 << 10])
}

/// Reads, and says something, and then something else over and over.
fn says(mut stream: TcpStream, first: &[u8], then: &[u8]) -> io::Result<()> {
    let reading = stream.try_clone()?;
    thread::spawn(move || reads(reading));
    stream.write_all(first)?;
    loop {
        stream.write_all(then)?;
    }
}

pub fn leaves(_: TcpStream) -> io::Result<()> {
    Ok(())
}

// ---- Redis

/// Answers the greeting, and then each command with what `answer` makes of its number.
pub fn answers_redis(
    mut stream: impl Read + Write,
    answer: impl Fn(u64) -> Vec<u8>,
) -> io::Result<()> {
    const COMMAND: &[u8] = b"$4\r\nXADD\r\n";
    let mut buffer = vec![0; 256 << 10];
    if stream.read(&mut buffer)? == 0 {
        return Ok(());
    }
    stream.write_all(b"+OK\r\n")?;
    let (mut held, mut nth) = (0, 0);
    loop {
        let read = stream.read(&mut buffer[held..])?;
        if read == 0 {
            return Ok(());
        }
        let there = held + read;
        let (mut out, mut end) = (Vec::new(), 0);
        for at in memmem::find_iter(&buffer[..there], COMMAND) {
            nth += 1;
            out.extend(answer(nth));
            end = at + COMMAND.len();
        }
        // The beginning of the next one may be there.
        let from = end.max(there.saturating_sub(COMMAND.len() - 1));
        buffer.copy_within(from..there, 0);
        held = there - from;
        stream.write_all(&out)?;
        stream.flush()?;
    }
}

pub fn redis_accepts(stream: TcpStream) -> io::Result<()> {
    answers_redis(stream, redis_added)
}

/// The answer to each command: it was added.
pub fn redis_added(_: u64) -> Vec<u8> {
    b"$3\r\n1-0\r\n".to_vec()
}

/// Refuses every second one, each time in other words, as long as they are shown.
pub fn redis_refuses(stream: TcpStream) -> io::Result<()> {
    answers_redis(stream, |nth| match nth % 2 {
        0 => b"$3\r\n1-0\r\n".to_vec(),
        _ => {
            let words = "\u{1f600}".repeat(180);
            format!("-ERR Elements are too large to be stored {words}{nth}\r\n").into_bytes()
        }
    })
}

/// Greets, and then says something over and over.
fn greets_and_says(mut stream: TcpStream, first: &[u8], then: &[u8]) -> io::Result<()> {
    let mut greeting = [0; 1024];
    let _ = stream.read(&mut greeting)?;
    says(stream, &[b"+OK\r\n", first].concat(), then)
}

/// Says that a list of two thousand million parts follows, and sends them.
pub fn redis_lists(stream: TcpStream) -> io::Result<()> {
    greets_and_says(stream, b"*2000000000\r\n", &b"_\r\n".repeat(20_000))
}

/// Lists in lists, nearly as deep as any are read, and a wide one at the bottom.
pub fn redis_nests(stream: TcpStream) -> io::Result<()> {
    let nested = b"*2\r\n_\r\n".repeat(95);
    let wide = [&b"*18000\r\n"[..], &b"_\r\n".repeat(18_000)].concat();
    greets_and_says(stream, b"", &[nested, wide].concat())
}

// ---- HTTP

/// Answers each request with what `answer` makes of the number of lines in its body.
pub fn answers_http(stream: impl Read + Write, answer: impl Fn(usize) -> String) -> io::Result<()> {
    let mut reading = BufReader::with_capacity(256 << 10, stream);
    loop {
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            if reading.read_line(&mut line)? == 0 {
                return Ok(());
            }
            let lower = line.to_ascii_lowercase();
            if let Some(value) = lower.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = (&mut reading).take(length);
        let mut lines = 0;
        loop {
            let piece = body.fill_buf()?;
            if piece.is_empty() {
                break;
            }
            lines += memchr::memchr_iter(b'\n', piece).count();
            let taken = piece.len();
            body.consume(taken);
        }
        reading.get_mut().write_all(answer(lines).as_bytes())?;
        reading.get_mut().flush()?;
    }
}

fn answer(status: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n\r\n{body}")
}

pub fn http_accepts(stream: TcpStream) -> io::Result<()> {
    answers_http(stream, http_accepted)
}

/// The answer to each request.
pub fn http_accepted(_: usize) -> String {
    answer("200 OK", "{}")
}

pub fn http_refuses(stream: TcpStream) -> io::Result<()> {
    answers_http(stream, |_| answer("400 Bad Request", "no"))
}

/// Of three documents of `_bulk`, one is accepted, one refused and one put off.
pub fn bulk_takes_turns(stream: TcpStream) -> io::Result<()> {
    answers_http(stream, |lines| {
        let reason = "r".repeat(300);
        let item = |nth: usize| match [201, 400, 429][nth % 3] {
            201 => r#"{"create":{"status":201}}"#.to_owned(),
            status => format!(r#"{{"create":{{"status":{status},"error":"{reason}"}}}}"#),
        };
        let items: Vec<_> = (0..lines / 2).map(item).collect();
        let items = items.join(",");
        answer("200 OK", &format!(r#"{{"errors":true,"items":[{items}]}}"#))
    })
}

pub fn http_headers_without_end(stream: TcpStream) -> io::Result<()> {
    says(stream, b"HTTP/1.1 200 OK\r\n", &b"a: b\r\n".repeat(2_000))
}

pub fn http_one_header_without_end(stream: TcpStream) -> io::Result<()> {
    says(stream, b"HTTP/1.1 200 OK\r\na: ", &[b'b'; 64 << 10])
}

pub fn http_chunks_without_end(stream: TcpStream) -> io::Result<()> {
    let first = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    says(stream, first, &b"1\r\nx\r\n".repeat(10_000))
}

pub fn http_body_without_end(stream: TcpStream) -> io::Result<()> {
    let first = b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\n";
    says(stream, first, &[b'z'; 64 << 10])
}
