//! Servers that are embedded in a test: handlers, and waiting for what they do.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Connection, Listener, Reply, Report, Sender, Server};

use super::small;
use super::wait::{DEADLINE, wait_until, within};

/// Long enough that a shutdown which needs its deadline is told from one that does not.
pub const LONG: Duration = Duration::from_secs(120);

/// A free port on loopback.
pub fn anywhere() -> SocketAddr {
    ([127, 0, 0, 1], 0).into()
}

/// Sends each line of the connection, without its LF, until the stream ends.
pub fn lines(conn: &mut Connection, out: &Sender<String>) -> Result<(), BoxError> {
    for line in BufReader::new(conn).lines() {
        out.send(line?)?;
    }
    Ok(())
}
/// A handler that does not read before it is told to, then runs `handler`.
pub fn held(
    held: Receiver<()>,
    handler: impl Fn(&mut Connection, &Sender<String>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> impl Fn(&mut Connection, &Sender<String>) -> Result<(), BoxError> + Send + Sync + 'static {
    let held = Mutex::new(held);
    move |conn, out| {
        held.lock().unwrap().recv()?;
        handler(conn, out)
    }
}

/// Blocks until so many connections are open.
#[track_caller]
pub fn wait_open(server: &Server, count: u64) {
    wait_until("connections open", DEADLINE, || {
        server.stats().open == count
    });
}

/// Shuts down with a deadline that nothing may need, and returns the report of a clean end.
#[track_caller]
pub fn drained(server: Server) -> Report {
    let report = within("the end of the drain", DEADLINE, move || {
        server.shutdown(LONG)
    });
    assert!(!report.timed_out, "{report:?}");
    assert!(report.stats.is_balanced(), "{report:?}");
    assert_eq!(report.stats.in_flight, 0);
    report
}

/// A server that asks its consumer for each reply: a line's letters in upper case.
pub fn upper_case(listener: Listener) -> Server {
    small::server::<(String, Reply<String>)>()
        .listener(listener)
        .start_each(
            |conn, out| {
                let mut lines = conn.messages(Framing::Lines, 1000);
                while let Some(line) = lines.next_message()? {
                    let line = String::from_utf8(line)?;
                    let answer = out.request(|reply| (line, reply))?;
                    writeln!(lines, "{answer}")?;
                }
                Ok(())
            },
            |(line, reply)| {
                reply.send(line.to_uppercase());
                Ok(())
            },
        )
        .unwrap()
}

/// A server that writes `len` bytes to each client and ends that direction, expects one byte of the
/// other, `y`, and returns once it is told to.
pub fn large_reply(listener: Listener, len: usize) -> (Server, mpsc::Sender<()>) {
    let (tell, told) = mpsc::channel();
    let told = Mutex::new(told);
    let server = small::server::<()>()
        .listener(listener)
        .serve(move |conn| {
            conn.write_all(&vec![b'x'; len])?;
            conn.shutdown_write()?;
            assert!(conn.write_all(b"more").is_err());
            // The other direction goes on.
            let mut byte = [0];
            conn.read_exact(&mut byte)?;
            assert_eq!(byte, [b'y']);
            told.lock().unwrap().recv()?;
            Ok(())
        })
        .unwrap();
    (server, tell)
}
