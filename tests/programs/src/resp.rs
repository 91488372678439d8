//! A key-value store that speaks Redis's protocol (RESP 2), pipelining included.

use std::collections::HashMap;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::SocketAddr;

use drainline::{BoxError, Config, Server};
use parking_lot::Mutex;

type Map = Mutex<HashMap<Vec<u8>, Vec<u8>>>;

const MAX_PARTS: usize = 4;
const MAX_PART: usize = 8 << 10;

/// A number behind its mark, on a line of its own.
fn number(input: &mut impl BufRead, mark: char, most: usize) -> Result<usize, BoxError> {
    let mut line = String::new();
    input.take(32).read_line(&mut line)?;
    match line.trim_end().strip_prefix(mark).map(str::parse) {
        Some(Ok(number)) if number <= most => Ok(number),
        _ => Err("no number, or one that is too large".into()),
    }
}

fn command(input: &mut impl BufRead) -> Result<Vec<Vec<u8>>, BoxError> {
    let parts = number(input, '*', MAX_PARTS)?;
    let part = |_| {
        let bytes = number(input, '$', MAX_PART)?;
        let mut part = vec![0; bytes + 2];
        input.read_exact(&mut part)?;
        part.truncate(bytes);
        Ok(part)
    };
    (0..parts).map(part).collect()
}

fn answer(map: &Map, command: &[Vec<u8>], out: &mut impl Write) -> io::Result<()> {
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

pub fn start(address: SocketAddr, config: Config) -> Result<Server, BoxError> {
    let map = Map::default();
    let builder = Server::builder().config(config).listen(address);
    Ok(builder.serve(move |conn| {
        let (mut input, mut out) = (BufReader::new(&*conn), BufWriter::new(&*conn));
        // Between two commands only the idle deadline runs.
        while !input.fill_buf()?.is_empty() {
            conn.frame_progress(0, true);
            let command = command(&mut input)?;
            conn.frame_progress(1, false);
            answer(&map, &command, &mut out)?;
            if input.buffer().is_empty() {
                out.flush()?;
            }
        }
        Ok(out.flush()?)
    })?)
}

pub fn main() -> Result<(), BoxError> {
    start("127.0.0.1:6379".parse()?, Config::default())?.wait();
    Ok(())
}
