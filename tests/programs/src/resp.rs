//! A key-value store that speaks Redis's protocol (RESP 2), pipelining included.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::SocketAddr;

use drainline::{BoxError, Server};
use parking_lot::Mutex;

const MAX_PARTS: usize = 4;
const MAX_PART: usize = 8 << 10;

/// A number behind its mark, on a line of its own. `None`: the stream ended before it.
fn number(input: &mut impl BufRead, mark: char, most: usize) -> Result<Option<usize>, BoxError> {
    let mut line = String::new();
    if input.take(32).read_line(&mut line)? == 0 {
        return Ok(None);
    }
    match line.trim_end().strip_prefix(mark).map(str::parse) {
        Some(Ok(number)) if number <= most => Ok(Some(number)),
        _ => Err("no number, or one that is too large".into()),
    }
}

fn command(input: &mut impl BufRead) -> Result<Option<Vec<Vec<u8>>>, BoxError> {
    let Some(parts) = number(input, '*', MAX_PARTS)? else {
        return Ok(None);
    };
    let part = |_| {
        let bytes = number(input, '$', MAX_PART)?.ok_or("the stream ended")?;
        let mut part = vec![0; bytes + 2];
        input.read_exact(&mut part)?;
        part.truncate(bytes);
        Ok(part)
    };
    (0..parts).map(part).collect::<Result<_, _>>().map(Some)
}

fn answer(
    map: &Mutex<HashMap<Vec<u8>, Vec<u8>>>,
    command: Vec<Vec<u8>>,
    out: &mut impl Write,
) -> io::Result<()> {
    match &command.iter().map(Vec::as_slice).collect::<Vec<_>>()[..] {
        [b"PING"] => out.write_all(b"+PONG\r\n"),
        [b"SET", key, value] => {
            map.lock().insert(key.to_vec(), value.to_vec());
            out.write_all(b"+OK\r\n")
        }
        [b"GET", key] => match map.lock().get(*key) {
            None => out.write_all(b"$-1\r\n"),
            Some(value) => {
                write!(out, "${}\r\n", value.len())?;
                out.write_all(&[value, &b"\r\n"[..]].concat())
            }
        },
        _ => out.write_all(b"-ERR unknown command\r\n"),
    }
}

pub fn start(address: SocketAddr) -> Result<Server, BoxError> {
    let map = Mutex::default();
    Ok(Server::builder().listen(address).serve(move |conn| {
        let (mut input, mut out) = (BufReader::new(&*conn), BufWriter::new(&*conn));
        while let Some(command) = command(&mut input)? {
            answer(&map, command, &mut out)?;
            if input.buffer().is_empty() {
                out.flush()?;
            }
        }
        Ok(out.flush()?)
    })?)
}

pub fn main() -> Result<(), BoxError> {
    start("127.0.0.1:6379".parse()?)?.wait();
    Ok(())
}
