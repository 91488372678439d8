//! Lines on one port, and an operator's port beside it that lists connections and ends them.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};

use drainline::ingest::{Framing, ReadMessages};
use drainline::{BoxError, Connection, Listener, Server};

/// `list`, or `end ID`.
fn operate(conn: &mut Connection, server: &Server) -> Result<(), BoxError> {
    let mut lines = conn.messages(Framing::Lines, 100);
    while let Some(line) = lines.next_message()? {
        let line = String::from_utf8(line)?;
        match line.split_once(' ') {
            Some(("end", id)) => match id.parse().is_ok_and(|id| server.abort(id)) {
                true => writeln!(lines, "ended {id}")?,
                false => writeln!(lines, "there is no connection {id}")?,
            },
            None if line == "list" => {
                for connection in server.connections() {
                    writeln!(lines, "{connection}")?;
                }
                writeln!(lines, ".")?;
            }
            _ => writeln!(lines, "list, or end ID")?,
        }
    }
    Ok(())
}

pub fn start(
    data: SocketAddr,
    operator: SocketAddr,
    mut print: impl FnMut(&str) + Send + 'static,
) -> Result<Arc<OnceLock<Server>>, BoxError> {
    let server = Arc::new(OnceLock::new());
    let for_operator = Arc::clone(&server);
    let started = Server::builder::<String>()
        .listener(Listener::on(data).named("data"))
        .listener_with(Listener::on(operator).named("operator"), move |conn, _| {
            operate(conn, for_operator.wait())
        })
        .start_each(
            |conn, out| {
                for line in conn.messages(Framing::Lines, 4096) {
                    out.send(String::from_utf8_lossy(&line?).into_owned())?;
                }
                Ok(())
            },
            move |line| {
                print(&line);
                Ok(())
            },
        )?;
    server.get_or_init(|| started);
    Ok(server)
}

pub fn main() -> Result<(), BoxError> {
    let print = |line: &str| println!("{line}");
    let server = start("127.0.0.1:5142".parse()?, "127.0.0.1:5143".parse()?, print)?;
    server.wait().wait();
    Ok(())
}
