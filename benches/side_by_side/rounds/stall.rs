//! A sink that takes nothing for a while: what is held meanwhile, what is lost, and how soon it is
//! over.

use std::thread;
use std::time::{Duration, Instant};

use super::{Site, Turn, words};
use crate::figures::{Figures, Metric};
use crate::load;
use crate::{Outcome, provision};

const BEFORE: Duration = Duration::from_secs(2);
const STALLED: Duration = Duration::from_secs(10);
/// Full throughput is measured in this time, after a second to recover.
const RECOVER: Duration = Duration::from_secs(1);
const AFTER: Duration = Duration::from_secs(1);
const MESSAGE_BYTES: u64 = 128;

pub(super) fn run(turn: Turn<'_>, connections: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let fifo = site.fifo()?;
    let duration = BEFORE + STALLED + RECOVER + AFTER;
    let args = format!(
        "--connections {connections} --duration {}ms --size {MESSAGE_BYTES} --wait-close",
        duration.as_millis()
    );
    let load = load::start(
        provision::DRAINLINE.as_ref(),
        &site.server.target(),
        &words(&args),
    )?;
    let rate_over = |time: Duration| {
        let (begun, bytes) = (Instant::now(), fifo.bytes());
        thread::sleep(time);
        (fifo.bytes() - bytes) as f64 / begun.elapsed().as_secs_f64()
    };
    // Everybody has connected in the first half of the time.
    thread::sleep(BEFORE / 2);
    let before = rate_over(BEFORE / 2);
    fifo.stall(true);
    thread::sleep(STALLED);
    fifo.stall(false);
    thread::sleep(RECOVER);
    let after = rate_over(AFTER);

    let sent = load.wait()?;
    fifo.wait_for_lines(sent.messages);
    let limit = printed_limit(&site);
    let (mut figures, _) = site.finish(sent.messages, sent.bytes)?;
    figures.set(Metric::BytesPerSecond, before);
    figures.set(Metric::Recovered, after / before);
    if let (Some(limit), Some(peak)) = (limit, figures.get(Metric::PeakBytes)) {
        figures.set(Metric::PeakOfLimit, peak / limit);
    }
    Ok(figures)
}

/// The memory that drainline's first lines say it can ever need, in bytes.
fn printed_limit(site: &Site) -> Option<f64> {
    let log = site.server.log();
    let (before, _) = log.split_once(" of memory")?;
    let mut words = before.rsplit(' ');
    let (unit, number) = (words.next()?, words.next()?);
    let scale = match unit {
        "KiB" => 1u64 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale as f64)
}
