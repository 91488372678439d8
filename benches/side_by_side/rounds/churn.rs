//! Short connections: connect, a line, wait for the server's end.

use std::time::Duration;

use super::{Turn, words};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::load::{self, Sent};

/// Each with a server and its address anew. Towards one address the kernel has half of its ports,
/// 14,116, at hand, and each stays in TIME_WAIT for a minute; then connects search for a port, and
/// that would be what is measured.
const PARTS: u32 = 5;
const WARM_UP: Duration = Duration::from_millis(50);
const LOADED: Duration = Duration::from_millis(250);
const MESSAGE_BYTES: u64 = 128;

pub(super) fn run(turn: Turn<'_>, clients: usize) -> Outcome<Figures> {
    let program = turn.load_program()?;
    let (mut connects, mut seconds, mut cpu) = (0, 0.0, Duration::ZERO);
    let (mut parts, mut delivered) = (Figures::default(), 0.0);
    for _ in 0..PARTS {
        let site = turn.start()?;
        let load = |duration: Duration| -> Outcome<Sent> {
            let args = format!(
                "--connections {clients} --duration {}ms --size {MESSAGE_BYTES} \
                 --reconnect-every 1 --wait-close",
                duration.as_millis(),
            );
            load::run(&program, &site.server.target(), &words(&args))
        };

        let warm_up = load(WARM_UP)?;
        let before = site.cpu()?;
        let sent = load(LOADED)?;
        cpu += site.cpu()? - before;
        connects += sent.connects;
        seconds += sent.seconds;

        let messages = warm_up.messages + sent.messages;
        let (figures, _) = site.finish(messages, messages * (MESSAGE_BYTES + 1))?;
        delivered += figures.get(Metric::Delivered).unwrap_or(0.0) / f64::from(PARTS);
        parts = figures;
    }
    Ok(parts
        .with(Metric::Delivered, delivered)
        .with(Metric::Rate, connects as f64 / seconds)
        .with(Metric::CpuNs, cpu.as_nanos() as f64 / connects as f64))
}
