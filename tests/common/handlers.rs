//! Servers that are embedded in a test: handlers, and waiting for what they do.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use drainline::{BoxError, Connection, Report, Sender, Server};

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
