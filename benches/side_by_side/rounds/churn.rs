//! Short connections: connect, a line, wait for the server's end.

use std::time::Duration;

use super::{Turn, words};
use crate::figures::{Figures, Metric};
use crate::load::{self, Sent};
use crate::{Outcome, provision};

const WARM_UP: Duration = Duration::from_millis(200);
const LOADED: Duration = Duration::from_millis(1500);
const MESSAGE_BYTES: u64 = 128;

pub(super) fn run(turn: Turn<'_>, clients: usize) -> Outcome<Figures> {
    let site = turn.start()?;
    let load = |duration: Duration| -> Outcome<Sent> {
        let args = format!(
            "--connections {clients} --duration {}ms --size {MESSAGE_BYTES} --reconnect-every 1 --wait-close",
            duration.as_millis(),
        );
        load::run(
            provision::DRAINLINE.as_ref(),
            site.server.address,
            &words(&args),
        )
    };

    let warm_up = load(WARM_UP)?;
    let before = site.cpu()?;
    let sent = load(LOADED)?;
    let cpu = site.cpu()? - before;

    let messages = warm_up.messages + sent.messages;
    let (mut figures, _) = site.finish(messages, messages * (MESSAGE_BYTES + 1))?;
    figures.set(Metric::Rate, sent.connects as f64 / sent.seconds);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / sent.connects as f64);
    Ok(figures)
}
