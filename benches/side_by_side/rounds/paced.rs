//! Many connections that send a little each, at a pace: what a message costs, and how long it takes
//! to the sink.

use std::time::{Duration, Instant};

use super::{Turn, sleep_until, words};
use crate::Outcome;
use crate::figures::{Figures, Metric, percentile};
use crate::load;

/// Connections are made, and whoever adapts to a load has done so.
const WARM_UP: Duration = Duration::from_millis(900);
/// How much longer that is where each connection begins with a handshake.
const HANDSHAKES: Duration = Duration::from_millis(2000);
const MEASURED: Duration = Duration::from_millis(2000);
const LOADED: Duration = Duration::from_millis(3000);
const MESSAGE_BYTES: u64 = 128;

pub(super) fn run(turn: Turn<'_>, rate: u32) -> Outcome<Figures> {
    let handshakes = match turn.entrant.is_over_tls {
        true => HANDSHAKES,
        false => Duration::ZERO,
    };
    let (warm_up, loaded) = (WARM_UP + handshakes, LOADED + handshakes);
    let site = turn.start()?;
    let args = format!(
        "--connections {} --duration {}ms --rate {rate} --size {MESSAGE_BYTES} --timestamped --wait-close",
        turn.connections(),
        loaded.as_millis(),
    );
    let load = load::start(&turn.load_program()?, &site.server.target(), &words(&args))?;
    let begun = Instant::now();
    sleep_until(begun, warm_up);
    if let Some(fifo) = &site.fifo {
        fifo.begin_timing();
    }
    let (before, from) = (site.cpu()?, Instant::now());
    sleep_until(begun, warm_up + MEASURED);
    let (after, measured) = (site.cpu()?, from.elapsed());
    if let Some(fifo) = &site.fifo {
        fifo.end_timing();
    }
    let sent = load.wait()?;
    if let Some(fifo) = &site.fifo {
        fifo.wait_for_lines(sent.messages);
    }
    let written = sent.messages * (MESSAGE_BYTES + 1);
    site.wait_for_sink(sent.messages, written)?;

    // Paced: so many fall into any part of the time.
    let wanted = turn.connections() as f64 * f64::from(rate);
    let offered = sent.messages as f64 / (wanted * loaded.as_secs_f64());
    let messages = offered * wanted * measured.as_secs_f64();
    let (mut figures, mut latencies) = site.finish(sent.messages, written)?;
    figures.set(Metric::Rate, offered * wanted);
    figures.set(Metric::Offered, offered);
    figures.set(Metric::CpuNs, (after - before).as_nanos() as f64 / messages);
    for (metric, share) in [(Metric::LatencyP50Us, 0.5), (Metric::LatencyP99Us, 0.99)] {
        if let Some(latency) = percentile(&mut latencies, share) {
            figures.set(metric, latency as f64 / 1e3);
        }
    }
    Ok(figures)
}
