//! So many messages a second from each connection, each a batch of its own, to a sink that is far
//! away: how far behind it is at most.

use std::time::Duration;
use std::time::Instant;

use super::{Turn, sleep_until, words};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::load;

const MESSAGE_BYTES: u64 = 128;
const LOADED: Duration = Duration::from_secs(6);
const LOOK: Duration = Duration::from_millis(250);
/// When connections are made.
const WARM_UP: Duration = Duration::from_millis(1000);

pub(super) fn run(turn: Turn<'_>, rate: u32, round_trip: Duration) -> Outcome<Figures> {
    let site = turn.start_at_distance(Some(round_trip))?;
    let args = format!(
        "--connections {} --duration {}ms --rate {rate} --size {MESSAGE_BYTES} --wait-close",
        turn.connections(),
        LOADED.as_millis(),
    );
    let load = load::start(&turn.load_program()?, &site.server.target(), &words(&args))?;
    let begun = Instant::now();
    let before = site.cpu()?;
    let (mut behind, mut next) = (0.0_f64, WARM_UP);
    while next < LOADED {
        sleep_until(begun, next);
        let in_flight = site.server.status()?["in_flight"].as_f64();
        behind = behind.max(in_flight.ok_or("no in_flight")?);
        next += LOOK;
    }
    let sent = load.wait()?;
    let written = sent.messages * (MESSAGE_BYTES + 1);
    site.wait_for_sink(sent.messages, written)?;
    let cpu = site.cpu()? - before;
    let wanted = turn.connections() as f64 * f64::from(rate) * LOADED.as_secs_f64();
    let (mut figures, _) = site.finish(sent.messages, written)?;
    figures.set(Metric::Rate, sent.messages as f64 / sent.seconds);
    figures.set(Metric::Offered, sent.messages as f64 / wanted);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / sent.messages as f64);
    figures.set(Metric::Behind, behind);
    Ok(figures)
}
