//! `conn.messages(..)`: whole messages for any handler, in every framing, within the printed
//! limits whatever the peer sends.

mod ends;
mod hostile;
mod replies;
mod whole;

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;

use crate::common::client;
use crate::common::handlers::anywhere;
use crate::common::small;
use drainline::ingest::{Framing, Oversize, ReadMessages};
use drainline::{BoxError, Config, Connection, EndReason, Sender, Server, Stats};

const MAX: usize = 1000;

type Handler = fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError>;

/// A server whose handler sends whole messages to a channel.
fn start(
    mut config: Config,
    handler: impl Fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError> + Send + Sync + 'static,
) -> (Server, mpsc::Receiver<Vec<u8>>) {
    // Small: the servers of a process promise their limits together.
    config.max_connections = Some(10);
    let (seen, messages) = mpsc::channel();
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(anywhere())
        .start_each(handler, move |message| Ok(seen.send(message)?))
        .unwrap();
    (server, messages)
}

fn connect(server: &Server) -> TcpStream {
    client::connect(server.local_addrs()[0])
}

/// Sends each message to the consumer.
fn pass_on(
    framing: Framing,
    oversize: Oversize,
) -> impl Fn(&mut Connection, &Sender<Vec<u8>>) -> Result<(), BoxError> {
    move |conn, out| {
        for message in conn.messages(framing, MAX).oversize(oversize) {
            out.send(message?)?;
        }
        Ok(())
    }
}

/// Replies to each line with itself.
fn echo_lines(conn: &mut Connection, _: &Sender<Vec<u8>>) -> Result<(), BoxError> {
    let mut lines = conn.messages(Framing::Lines, MAX);
    while let Some(line) = lines.next_message()? {
        lines.write_all(&line)?;
        lines.write_all(b"\n")?;
    }
    Ok(())
}

fn ended(stats: &Stats, reason: EndReason) -> u64 {
    stats.ended.get(reason)
}
