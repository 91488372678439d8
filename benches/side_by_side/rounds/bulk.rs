//! As many messages as go through.

use std::time::{Duration, Instant};

use super::{Turn, words};
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::load::{self, Sent};

const WARM_UP: Duration = Duration::from_millis(200);

pub(super) fn run(turn: Turn<'_>, message_bytes: usize, duration: Duration) -> Outcome<Figures> {
    let program = turn.load_program()?;
    let site = turn.start()?;
    let load = |duration: Duration| -> Outcome<Sent> {
        let args = format!(
            "--connections {} --duration {}ms --size {message_bytes} --framing {} --write-size 64KiB --wait-close",
            turn.connections(),
            duration.as_millis(),
            turn.entrant.sent_as,
        );
        load::run(&program, &site.server.target(), &words(&args))
    };
    // As it stands in a file of lines.
    let written = |messages: u64| messages * (message_bytes as u64 + 1);

    let warm_up = load(WARM_UP)?;
    site.wait_for_sink(warm_up.messages, written(warm_up.messages))?;
    let before = site.cpu()?;
    let sent = load(duration)?;
    let ended = Instant::now();
    let messages = warm_up.messages + sent.messages;
    site.wait_for_sink(messages, written(messages))?;
    let seconds = sent.seconds + ended.elapsed().as_secs_f64();
    let cpu = site.cpu()? - before;

    let (mut figures, _) = site.finish(messages, written(messages))?;
    figures.set(Metric::Rate, sent.messages as f64 / seconds);
    figures.set(Metric::BytesPerSecond, sent.bytes as f64 / seconds);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / sent.messages as f64);
    Ok(figures)
}
