//! Clients that wait for a reply before they ask again.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Turn;
use crate::Outcome;
use crate::figures::{Figures, Metric, percentile};

const WARM_UP: Duration = Duration::from_millis(300);
const LOADED: Duration = Duration::from_millis(2000);
const LINE_BYTES: usize = 128;

/// What the clients are told.
#[derive(Debug, Default)]
struct Phase {
    is_measured: AtomicBool,
    is_over: AtomicBool,
    requests: AtomicU64,
}

pub(super) fn run(turn: Turn<'_>, clients: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let address = site.server.address;
    let phase = Phase::default();
    let (mut latencies, cpu, measured) = thread::scope(|scope| -> Outcome<_> {
        let asking: Vec<_> = (0..clients)
            .map(|_| scope.spawn(|| ask(address, &phase)))
            .collect();
        thread::sleep(WARM_UP);
        let (before, from) = (site.cpu()?, Instant::now());
        phase.is_measured.store(true, Ordering::Relaxed);
        thread::sleep(LOADED);
        phase.is_measured.store(false, Ordering::Relaxed);
        let (cpu, measured) = (site.cpu()? - before, from.elapsed());
        phase.is_over.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for client in asking {
            latencies.append(&mut client.join().map_err(|_| "a client panicked")??);
        }
        Ok((latencies, cpu, measured))
    })?;

    let measured_requests = latencies.len() as f64;
    let sent = phase.requests.load(Ordering::Relaxed);
    let (mut figures, _) = site.finish(sent, sent * LINE_BYTES as u64)?;
    figures.set(Metric::Rate, measured_requests / measured.as_secs_f64());
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / measured_requests);
    for (metric, share) in [(Metric::LatencyP50Us, 0.5), (Metric::LatencyP99Us, 0.99)] {
        let latency = percentile(&mut latencies, share).ok_or("nobody was answered")?;
        figures.set(metric, latency as f64 / 1e3);
    }
    Ok(figures)
}

fn ask(address: SocketAddr, phase: &Phase) -> Result<Vec<u64>, String> {
    let failed = |error: std::io::Error| format!("a client failed: {error}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_nodelay(true).map_err(failed)?;
    let mut line = [b'x'; LINE_BYTES];
    line[LINE_BYTES - 1] = b'\n';
    let mut reply = [0; LINE_BYTES];
    let mut latencies = Vec::new();
    while !phase.is_over.load(Ordering::Relaxed) {
        let is_measured = phase.is_measured.load(Ordering::Relaxed);
        let asked = Instant::now();
        stream.write_all(&line).map_err(failed)?;
        stream.read_exact(&mut reply).map_err(failed)?;
        if is_measured {
            latencies.push(asked.elapsed().as_nanos() as u64);
        }
        phase.requests.fetch_add(1, Ordering::Relaxed);
    }
    Ok(latencies)
}
