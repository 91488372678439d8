//! The settings for the inputs, why each is what it is, and what they promise.

use std::time::Duration;

use drainline::ingest::DEFAULT_MAX_MESSAGE;
use drainline::{Config, OnOverload, PauseAfter, WhenFull};

use crate::cli::{units, values};

use super::super::simulation::LARGE_READ;
use super::super::words::{count, rate, seconds};
use super::buffer;
use super::decision::{DAY, round_up, whole_seconds};
use super::decision::{Promise, Settings};
use super::inputs::Inputs;

/// The settings for one machine. `buffer_memory` is what the memory that was given leaves for the
/// buffer.
pub(crate) fn settings(inputs: &Inputs, buffer_memory: Option<u64>) -> Settings {
    let mut settings = Settings {
        config: Config::default(),
        max_message: DEFAULT_MAX_MESSAGE,
        promise: Promise::Lossless {
            held: Duration::ZERO,
        },
        decided: Vec::new(),
    };
    when_full(inputs, &mut settings);
    let holds = buffer::decide(inputs, buffer_memory, &mut settings);
    let line = line_time(inputs, &settings.config);
    promise(inputs, holds, &mut settings);
    send_timeout(inputs, line, &mut settings);
    pause(inputs, line, &mut settings);
    connections(inputs, &mut settings);
    rate_limit(inputs, &mut settings);
    drain(inputs, &mut settings);
    settings
}

fn when_full(inputs: &Inputs, settings: &mut Settings) {
    let keeps_up = inputs.keeps_up();
    let when_full = inputs.when_full.unwrap_or(match keeps_up {
        true => WhenFull::Abort,
        false => WhenFull::Block,
    });
    let why = match (inputs.when_full, when_full) {
        (Some(_), WhenFull::Drop) => "as asked for: what waits too long is dropped, and its connection kept".to_owned(),
        (Some(_), WhenFull::Block) => "as asked for: senders wait as long as it takes, and nothing is dropped".to_owned(),
        (Some(_), _) => "as asked for: a sender that waits too long is disconnected".to_owned(),
        (None, WhenFull::Block) if inputs.sink_rate == Some(inputs.rate) => {
            "the sink takes what arrives and no more, so what a stall leaves behind stays for ever: once the buffer is full, \
             senders have to wait, which TCP flow control makes them do"
                .to_owned()
        }
        (None, WhenFull::Block) => format!(
            "{} arrive and the sink takes {}: no buffer is large enough for that, so the senders have to wait, which TCP \
             flow control makes them do",
            rate(inputs.rate),
            rate(inputs.sink_rate.unwrap_or_default()),
        ),
        (None, _) => "the sink catches up after a stall, so no sender has to wait for ever; one that does is stuck, and is \
                      disconnected"
            .to_owned(),
    };
    settings.config.when_full = when_full;
    settings.decide(
        "--when-full",
        values::print_choice(values::WHEN_FULL, &when_full),
        why,
    );
}

/// How long the last one in line waits where every connection has a batch in it.
fn line_time(inputs: &Inputs, config: &Config) -> Duration {
    let Some(sink) = inputs.sink_rate else {
        return Duration::ZERO;
    };
    // A read, and with it a batch, is no longer than this or one message.
    let batch = LARGE_READ / (inputs.size as u64 + 1);
    let batch = batch.clamp(1, (config.buffer_messages as u64 / 8).max(1));
    // With less than a batch to send, nobody has one in line.
    let in_line = (inputs.connections as u64).saturating_mul(batch);
    let in_line = match inputs.keeps_up() {
        true => in_line.min(inputs.arrives_in_stall().saturating_mul(2)),
        false => in_line,
    };
    Duration::try_from_secs_f64(in_line as f64 / sink as f64).unwrap_or(DAY)
}

fn promise(inputs: &Inputs, holds: Duration, settings: &mut Settings) {
    let spare = inputs
        .rate
        .saturating_sub(inputs.sink_rate.unwrap_or(inputs.rate));
    settings.promise = match settings.config.when_full {
        _ if inputs.keeps_up() => {
            let held = inputs.stall.saturating_sub(holds);
            // What the buffer holds was computed with fractions.
            let held = Some(held).filter(|held| *held >= Duration::from_millis(1));
            Promise::Lossless {
                held: held.unwrap_or_default(),
            }
        }
        WhenFull::Block => Promise::Held {
            rest_per_second: spare,
        },
        _ => Promise::Loses { per_second: spare },
    };
}

fn send_timeout(inputs: &Inputs, line: Duration, settings: &mut Settings) {
    if settings.config.when_full == WhenFull::Block {
        return;
    }
    let default = Config::default().send_timeout;
    let needed = inputs.stall.saturating_mul(2).saturating_add(line);
    let timeout = if needed <= default {
        default
    } else {
        whole_seconds(needed)
    };
    settings.config.send_timeout = timeout.min(DAY);
    let mut why = format!(
        "outlasts a stall of {}",
        units::print_duration(inputs.stall)
    );
    if !line.is_zero() {
        why += &format!(
            " and the {} that the sink may then need to reach the last sender in line",
            seconds(line)
        );
    }
    why += "; even a stall twice as long disconnects nobody";
    if inputs.stall.is_zero() {
        why = "the default: a short hiccup of the sink disconnects nobody".to_owned();
    }
    if needed > DAY {
        why = "the longest that is accepted".to_owned();
    }
    settings.decide(
        "--send-timeout",
        units::print_duration(timeout.min(DAY)),
        why,
    );
}

fn pause(inputs: &Inputs, line: Duration, settings: &mut Settings) {
    let config = &mut settings.config;
    let waits = config.when_full == WhenFull::Block;
    let (pause, why) = if waits && !inputs.keeps_up() {
        let pause = whole_seconds((line * 2).max(Duration::from_secs(5))).min(DAY);
        let why = format!(
            "{}, for up to {} each; a wait of more than twice that means that the sink is in trouble, and no new client is \
             accepted",
            match inputs.sink_rate == Some(inputs.rate) {
                true => "in this load senders wait once the buffer is full",
                false => "in this load senders always wait",
            },
            seconds(line)
        );
        (pause, why)
    } else {
        let pause = (config.send_timeout / 6).max(Duration::from_secs(1));
        let pause = Duration::from_secs(pause.as_secs());
        let why = "a sixth of --send-timeout: while senders have waited for that long, a new client would only have to wait, too";
        (pause, why.to_owned())
    };
    config.pause_after = PauseAfter::After(pause);
    settings.decide("--pause-after", units::print_duration(pause), why);
}

fn connections(inputs: &Inputs, settings: &mut Settings) {
    let wanted = inputs.connections as u64;
    let most = round_up(wanted + wanted / 4 + 16).min(1_000_000);
    settings.config.max_connections = Some(most as usize);
    let why = format!(
        "{} connections, a quarter more and 16, for clients that come back before their old connection has ended. Clients above \
         that wait in the kernel's queue",
        count(wanted)
    );
    settings.decide("--max-connections", most.to_string(), why);
}

/// Behind a balancer there are other machines, which may have free slots.
pub(super) fn refuse_clients(settings: &mut Settings) {
    settings.config.on_overload = OnOverload::Refuse;
    let why =
        "another machine may have a free slot: the balancer sends a refused client there, and a health check sees the refusal"
            .to_owned();
    settings.decide("--on-overload", "refuse".to_owned(), why);
}

/// Only where each may have twice what it needs and all of them together still no more than the
/// sink takes.
fn rate_limit(inputs: &Inputs, settings: &mut Settings) {
    let connections = inputs.connections as u64;
    let Some(sink) = inputs.sink_rate.filter(|_| connections > 1) else {
        return;
    };
    let (share, needed) = (sink / connections, inputs.rate.div_ceil(connections));
    if share < needed * 2 || !inputs.keeps_up() {
        return;
    }
    settings.config.rate_limit = Some(share);
    let why = format!(
        "an even share of what the sink takes, and at least twice what a connection needs ({}): no sender can take the \
         others' part of the buffer. It slows, and never drops",
        rate(needed)
    );
    settings.decide("--rate-limit", units::print_rate(share), why);
}

/// A full buffer takes its time at a shutdown, too.
fn drain(inputs: &Inputs, settings: &mut Settings) {
    let Some(sink) = inputs.sink_rate else {
        return;
    };
    let default = Config::default().drain_timeout;
    let held = settings.config.buffer_messages as u64;
    let held = held.min(settings.config.buffer_bytes as u64 / (inputs.size as u64 + 1));
    let full = Duration::try_from_secs_f64(held as f64 * 1.25 / sink as f64).unwrap_or(DAY);
    let full = whole_seconds(full).min(DAY);
    if full > default {
        settings.config.drain_timeout = full;
        let why =
            "what the sink needs for a full buffer, so that a shutdown loses none of it. Whoever stops the server has to \
             wait as long: systemd kills after TimeoutStopSec (90 s), docker stop after --time (10 s), Kubernetes after \
             terminationGracePeriodSeconds (30 s)"
                .to_owned();
        settings.decide("--drain-timeout", units::print_duration(full), why);
    }
}
