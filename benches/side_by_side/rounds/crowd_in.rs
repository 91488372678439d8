//! A crowd that comes at once, and stays.

use super::{Site, Turn};
use crate::Outcome;
use crate::crowd::Crowd;
use crate::fifo::epoch_ns;
use crate::figures::{Figures, Metric};
use crate::proc::TcpCounters;

pub(super) fn run(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let lines = connections as u64;
    let mut crowd = Crowd::start(site.server.address, connections)?;
    let (counters, before) = (TcpCounters::now()?, site.cpu()?);

    crowd.call()?;
    let mut arrival = arrival(&site, &mut crowd, lines, counters)?;

    let cpu = site.cpu()? - before;
    arrival.set(Metric::CpuNs, cpu.as_nanos() as f64 / lines as f64);
    drop(crowd);
    let (figures, _) = site.finish(lines, 0)?;
    Ok(figures.and(arrival))
}

/// Waits until a crowd that was called has come, and so many lines are at the sink.
pub(super) fn arrival(
    site: &Site,
    crowd: &mut Crowd,
    lines: u64,
    before: TcpCounters,
) -> Outcome<Figures> {
    let arrival = crowd.arrival()?;
    site.fifo()?.wait_for_lines(lines);
    let seconds = epoch_ns().saturating_sub(arrival.begun_ns) as f64 / 1e9;
    let counters = TcpCounters::since(before)?;
    let has_overflowed = counters.listen_overflows > 0;
    let mut figures = Figures::default()
        .with(Metric::ConnectSeconds, arrival.seconds())
        .with(Metric::Seconds, seconds)
        .with(Metric::ListenOverflows, counters.listen_overflows as f64)
        .with(Metric::SynRetries, counters.syn_retries as f64)
        .with(Metric::Overflowed, f64::from(u8::from(has_overflowed)));
    if !has_overflowed {
        figures.set(Metric::UnhinderedSeconds, seconds);
    }
    Ok(figures)
}
