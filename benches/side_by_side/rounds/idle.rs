//! What a quiet connection holds.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use super::Turn;
use crate::figures::{Figures, Metric};
use crate::load::{self, Holder};
use crate::scenario::Burst;
use crate::{Outcome, proc};

/// Whoever gives memory back when it is quiet has done so.
const QUIET: Duration = Duration::from_secs(2);
const LINE_BYTES: usize = 128;

pub(super) fn run(turn: Turn<'_>, connections: usize, burst: Option<Burst>) -> Outcome<Figures> {
    let site = turn.start()?;
    let fifo = site.fifo()?;
    let pid = site.server.pid();
    let (empty, empty_kernel) = (proc::resident_bytes(pid)?, proc::kernel_bytes()?);
    let each = |now: u64, empty: u64| now.saturating_sub(empty) as f64 / connections as f64;

    let mut crowd = match turn.entrant.is_over_tls {
        true => Crowd::Held(load::hold(
            &turn.load_program()?,
            site.server.address,
            connections,
        )?),
        false => Crowd::Own(gather(site.server.address, connections)?),
    };
    let mut sent = connections as u64;
    fifo.wait_for_lines(sent);
    thread::sleep(QUIET);
    let mut idle = Figures::default()
        .with(Metric::IdleBytes, each(proc::resident_bytes(pid)?, empty))
        .with(
            Metric::KernelBytes,
            each(proc::kernel_bytes()?, empty_kernel),
        );

    if let Some(burst) = burst {
        let lines = burst.bytes / line().len();
        match &mut crowd {
            Crowd::Own(clients) => {
                let bytes = line().repeat(lines);
                for client in clients.iter_mut().take(burst.connections) {
                    client.write_all(&bytes)?;
                }
            }
            Crowd::Held(holder) => holder.burst(burst.connections, lines)?,
        }
        sent += (lines * burst.connections) as u64;
        fifo.wait_for_lines(sent);
        thread::sleep(QUIET);
        idle.set(
            Metric::IdleBytesAfterBurst,
            each(proc::resident_bytes(pid)?, empty),
        );
    }
    drop(crowd);
    let (mut figures, _) = site.finish(sent, 0)?;
    figures.0.append(&mut idle.0);
    Ok(figures)
}

/// Who keeps the connections open.
enum Crowd {
    Own(Vec<TcpStream>),
    Held(Holder),
}

/// So many connections, one after the other, each of which has sent a line.
fn gather(address: SocketAddr, connections: usize) -> Outcome<Vec<TcpStream>> {
    let line = line();
    let connect = |_| {
        let mut client = TcpStream::connect(address)?;
        client.write_all(&line)?;
        Ok(client)
    };
    (0..connections).map(connect).collect()
}

fn line() -> Vec<u8> {
    [&[b'x'; LINE_BYTES], &b"\n"[..]].concat()
}
