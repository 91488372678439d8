//! A plan, and how it is told.

use serde_json::{Value, json};
use textwrap::{Options, WordSplitter};

use crate::cli::units;

use super::super::chart;
use super::super::words::{count, rate, seconds};
use super::decision::Promise;
use super::inputs::Inputs;
use super::machines::Machine;
use super::measure::Measured;
use super::outlook::Outlook;

const WIDTH: usize = 100;
/// What TLS costs depends on certificates, which a plan does not know.
const OVER_TLS: &str = "Without TLS. Over TLS each connection takes more memory, which drainline check counts with your \
                        certificates; and where clients have certificates, a batch weighs up to 320 B more in the buffer.";

/// Everything that is told.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) inputs: Inputs,
    /// Messages a second that a machine takes, as given or as measured.
    pub(super) capacity: Option<u64>,
    pub(super) measured: Option<Measured>,
    pub(super) machine: Machine,
    pub(super) expected: Outlook,
    pub(super) what_if: Vec<Outlook>,
}

/// The command that starts the server.
fn command(plan: &Plan) -> String {
    format!("drainline {}", plan.machine.settings.flags().join(" "))
}

/// The report, ended by LF; with the timelines of the simulations if they are asked for.
pub(super) fn text(plan: &Plan, with_timelines: bool) -> String {
    let machine = &plan.machine;
    let mut text = format!("{}\n\n", command(plan));
    text += &wrapped(&load(&plan.inputs), 0);
    text += &wrapped(&format!("Promise: {}.", promised(plan)), 0);
    if let Some(line) = apart(&machine.share) {
        text += &wrapped(&line, 0);
    }
    text += &wrapped(&format!("Simulated: {}.", plan.expected.text), 0);
    text += &wrapped(&format!("Limits: {}.", machine.limits), 0);
    for note in &machine.notes {
        text += &wrapped(&format!("Note: {note}."), 0);
    }
    text += &wrapped(OVER_TLS, 0);
    text += "\nWhy\n";
    for decided in &machine.settings.decided {
        text += &wrapped(
            &format!("{} {}: {}.", decided.flag, decided.value, decided.why),
            2,
        );
    }
    text += "\nOne step beyond\n";
    for outlook in &plan.what_if {
        text += &wrapped(&format!("{}: {}.", outlook.what, outlook.text), 2);
    }
    if plan.inputs.sink_rate.is_none() {
        let line = "Above the sink's rate: not known without --sink-rate.";
        text += &wrapped(line, 2);
    }
    text += "\nMachines\n";
    for line in machines(plan) {
        text += &wrapped(&line, 2);
    }
    if with_timelines {
        for outlook in std::iter::once(&plan.expected).chain(&plan.what_if) {
            text += &format!(
                "\nSimulated: {}\n{}",
                outlook.what,
                chart::draw(&outlook.simulated.timeline)
            );
        }
    }
    text
}

fn load(inputs: &Inputs) -> String {
    let sink = match inputs.sink_rate {
        Some(sink) => format!("a sink that takes {}", rate(sink)),
        None => "a sink that keeps up".to_owned(),
    };
    let stall = match inputs.stall.is_zero() {
        true => "never stalls".to_owned(),
        false => format!(
            "takes nothing for up to {}",
            units::print_duration(inputs.stall)
        ),
    };
    format!(
        "For {} of {} on {} connections, {sink} and {stall}.",
        rate(inputs.rate),
        units::print_size(inputs.size),
        count(inputs.connections as u64),
    )
}

/// The promise, and how much of the load a simulation confirms it for, where not for all.
fn promised(plan: &Plan) -> String {
    let expected = &plan.expected;
    let text = promise(plan.machine.settings.promise);
    match expected.simulated_alone() {
        Some(part) if plan.machine.settings.promise.loses_nothing() => {
            format!("{text}. This is computed: a simulation confirms it for {part} alone")
        }
        _ => text,
    }
}

fn promise(promise: Promise) -> String {
    match promise {
        Promise::Lossless { held } if held.is_zero() => {
            "loses nothing under this load, and no sender is held up by a stall".to_owned()
        }
        Promise::Lossless { held } => format!(
            "loses nothing under this load; the buffer holds the beginning of a stall, and senders are held up for its last {}",
            seconds(held)
        ),
        Promise::Held { rest_per_second: 0 } => {
            "loses nothing; but the sink has nothing to spare, so what a stall leaves behind never goes away, and senders wait \
             once the buffer is full"
                .to_owned()
        }
        Promise::Held { rest_per_second } => format!(
            "loses nothing, because senders are held to the rate of the sink: {} of what they would send stay with them",
            rate(rest_per_second)
        ),
        Promise::Unkept { lost } => format!("none: the simulation of this load loses {} messages", count(lost)),
        Promise::Loses { per_second: 0 } => {
            "none. The sink has nothing to spare, so what a stall leaves behind never goes away: senders that find the buffer \
             full and cannot be made to wait lose messages"
                .to_owned()
        }
        Promise::Loses { per_second } => format!(
            "none. More arrives than the sink takes: senders that cannot be made to wait lose the difference, {} in the long run",
            rate(per_second)
        ),
    }
}

/// How often there may be such a stall.
fn apart(inputs: &Inputs) -> Option<String> {
    let recovery = inputs.recovery().filter(|recovery| !recovery.is_zero())?;
    let spare = inputs.sink_rate?.checked_sub(inputs.rate)?;
    Some(format!(
        "After such a stall the sink needs {} to catch up, with the {} that it has to spare. Stalls that come sooner add up.",
        seconds(recovery),
        rate(spare)
    ))
}

/// How many, why, and behind what.
fn machines(plan: &Plan) -> Vec<String> {
    let (machine, inputs) = (&plan.machine, &plan.inputs);
    let mut lines = Vec::new();
    if let Some(measured) = &plan.measured {
        lines.push(format!(
            "Measured here: {} of {} at full use, by what {} connections with {} each cost, sending included.",
            rate(measured.per_second),
            units::print_size(inputs.size),
            count(measured.connections as u64),
            rate(measured.rate),
        ));
    }
    match machine.count {
        1 => lines.push("One.".to_owned()),
        machines => lines.push(format!(
            "{}, each started as above, with {} on {} connections. In front of them a TCP load balancer that sends a client \
             whose connect is refused to another one: HAProxy in mode tcp, nginx's stream module, or IPVS.",
            count(machines),
            rate(machine.share.rate),
            count(machine.share.connections as u64),
        )),
    }
    if let Some(by_rate) = machine.by_rate {
        lines.push(format!(
            "{} for the rate, each used to 70 %.",
            count(by_rate)
        ));
    } else {
        lines.push(
            "What rate one takes is not known here: --capacity gives it, --measure measures it."
                .to_owned(),
        );
    }
    if let Some((by_connections, limit)) = &machine.by_connections {
        let line = format!(
            "{} for the connections: {limit} holds no more on this one.",
            count(*by_connections)
        );
        lines.push(line);
    }
    if let Some(sink) = inputs.sink_rate.filter(|sink| *sink < inputs.rate) {
        lines.push(format!(
            "More of them do not help the sink, which takes {} of {}. Behind them belongs a log that takes what arrives and \
             keeps it until the sink has come to it: Kafka, or Redis Streams where hours of it fit into memory. It grows by {}, \
             so the sink has to be made {:.1} times as fast, or the load has to fall below it some time of the day.",
            rate(sink),
            rate(inputs.rate),
            rate(inputs.rate - sink),
            inputs.rate as f64 / sink as f64,
        ));
    }
    lines
}

/// In lines of at most [`WIDTH`]; those behind the first are indented further.
fn wrapped(text: &str, indent: usize) -> String {
    let (first, behind) = (" ".repeat(indent), " ".repeat(indent + 2));
    let options = Options::new(WIDTH)
        .initial_indent(&first)
        .subsequent_indent(&behind)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(text, options) + "\n"
}

pub(super) fn json(plan: &Plan, with_timelines: bool) -> Value {
    let (machine, inputs) = (&plan.machine, &plan.inputs);
    let outlook = |outlook: &Outlook| outlook_json(outlook, with_timelines);
    let decided =
        machine.settings.decided.iter().map(
            |decided| json!({ "flag": decided.flag, "value": decided.value, "why": decided.why }),
        );
    json!({
        "load": {
            "rate": inputs.rate,
            "size": inputs.size,
            "connections": inputs.connections,
            "sink_rate": inputs.sink_rate,
            "stall_seconds": inputs.stall.as_secs_f64(),
        },
        "command": command(plan),
        "settings": decided.collect::<Vec<_>>(),
        "promise": {
            "loses_nothing": machine.settings.promise.loses_nothing(),
            "text": promised(plan),
        },
        "limits": {
            "connections": machine.limits.max_connections,
            "threads": machine.limits.threads,
            "descriptors": machine.limits.descriptors,
            "memory_bytes": machine.limits.memory_bytes,
            "arena_memory_bytes": machine.limits.arena_memory_bytes,
            "thread_cache_memory_bytes": machine.limits.thread_cache_memory_bytes,
            "kernel_memory_bytes": machine.limits.kernel_memory_bytes,
        },
        "notes": machine.notes,
        "expected": outlook(&plan.expected),
        "what_if": plan.what_if.iter().map(outlook).collect::<Vec<_>>(),
        "machines": {
            "count": machine.count,
            "by_rate": machine.by_rate,
            "by_connections": machine.by_connections.as_ref().map(|(count, _)| count),
            "capacity": plan.capacity,
            "text": machines(plan),
        },
    })
}

fn outlook_json(outlook: &Outlook, with_timeline: bool) -> Value {
    let metrics = &outlook.simulated.metrics;
    let watched = &outlook.simulated.watched;
    let lost: serde_json::Map<_, _> = metrics
        .lost
        .iter()
        .map(|(reason, count)| (reason.clone(), json!(count)))
        .collect();
    let timeline = outlook.simulated.timeline.iter().map(|point| {
        json!({
            "at": point.at.as_secs_f64(),
            "buffered": point.buffered,
            "longest_wait": point.longest_wait.as_secs_f64(),
            "delivered": point.delivered,
            "lost": point.lost,
            "rejected": point.rejected,
            "threads": point.threads,
            "overload": point.level.map(|level| level.name()),
        })
    });
    json!({
        "what": outlook.what,
        "text": outlook.text,
        "seconds": outlook.workload.duration.as_secs_f64(),
        "simulated_seconds": watched.at_end.at.as_secs_f64(),
        "stopped_at": metrics.stopped_at,
        "at_end": {
            "offered": watched.at_end.offered,
            "delivered": watched.at_end.delivered,
            "in_server": watched.at_end.in_server,
            "in_sockets": watched.at_end.in_sockets,
            "at_senders": watched.at_end.at_senders,
            "lost": watched.at_end.lost,
        },
        "most": {
            "in_sockets": watched.most.in_sockets,
            "at_senders": watched.most.at_senders,
            "at_one_sender": watched.most.at_one_sender,
            "unread_for_seconds": watched.most.late.as_secs_f64(),
            "waited_for_buffer_seconds": outlook.simulated.longest_wait().as_secs_f64(),
        },
        "sent": metrics.sent,
        "delivered": metrics.delivered,
        "lost": lost,
        "unseen": outlook.simulated.unseen,
        "peak_buffered": metrics.peak_buffered,
        "peak_threads": metrics.peak_threads,
        "held_up_p99_seconds": metrics.held_up_p99.as_secs_f64(),
        "timeline": with_timeline.then(|| timeline.collect::<Vec<_>>()),
    })
}
