//! A crowd that comes at once: connects in sequence, each with a line, nobody leaves.

use std::io::Write;
use std::net::TcpStream;
use std::time::Instant;

use super::Turn;
use crate::figures::{Figures, Metric};
use crate::{Outcome, proc};

const LINE: &[u8] = &[b'x'; 128];

pub(super) fn run(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let fifo = site
        .fifo
        .as_ref()
        .ok_or("the crowd's lines are counted in a FIFO")?;
    let (overflows, before) = (proc::listen_overflows()?, site.cpu()?);

    let begun = Instant::now();
    let crowd = gather(site.server.address, connections)?;
    fifo.wait_for_lines(connections as u64);
    let seconds = begun.elapsed().as_secs_f64();

    let cpu = site.cpu()? - before;
    let overflows = proc::listen_overflows()? - overflows;
    drop(crowd);
    let (mut figures, _) = site.finish(connections as u64, 0)?;
    figures.set(Metric::Seconds, seconds);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / connections as f64);
    figures.set(Metric::ListenOverflows, overflows as f64);
    Ok(figures)
}

/// So many connections, one after the other, each of which has sent a line.
pub(super) fn gather(address: std::net::SocketAddr, connections: usize) -> Outcome<Vec<TcpStream>> {
    let line = [LINE, b"\n"].concat();
    let connect = |_| {
        let mut client = TcpStream::connect(address)?;
        client.write_all(&line)?;
        Ok(client)
    };
    (0..connections).map(connect).collect()
}
