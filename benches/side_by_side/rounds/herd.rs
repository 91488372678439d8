//! A server that is gone and comes back, and all its clients with it.

use super::Turn;
use super::crowd_in::arrival;
use crate::Outcome;
use crate::crowd::Crowd;
use crate::figures::{Figures, Metric};
use crate::proc::TcpCounters;

/// The server is killed, so that everybody's is gone as quickly. How long a server takes to start
/// is in none of the figures of time: they begin with the first connect that is not refused.
pub(super) fn run(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let mut site = turn.start()?;
    let lines = connections as u64;
    let mut crowd = Crowd::start(site.server.address, connections)?;
    crowd.call()?;
    crowd.arrival()?;
    site.fifo()?.wait_for_lines(lines);

    site.server.kill()?;
    let counters = TcpCounters::now()?;
    crowd.call()?;
    site.start_again(turn)?;
    let mut arrival = arrival(&site, &mut crowd, 2 * lines, counters)?;

    // All of it is for those who came back: the server is new.
    let cpu = site.cpu()?;
    arrival.set(Metric::CpuNs, cpu.as_nanos() as f64 / lines as f64);
    drop(crowd);
    let (figures, _) = site.finish(2 * lines, 0)?;
    Ok(figures.and(arrival))
}
