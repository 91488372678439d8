//! What others do without a server of messages: the loopback, a file, and what stands behind a
//! sink, each with a load of its own.

use std::fs::File;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::Turn;
use crate::Outcome;
use crate::destination::{Destination, STREAM, TOPIC};
use crate::figures::{Figures, Metric};
use crate::owned::Owned;
use crate::scenario::Batches;
use crate::servers::BODY_BYTES;

/// iperf3 against itself, with as many connections and the same size of a write.
pub(super) fn iperf3(turn: Turn<'_>) -> Outcome<Figures> {
    let Batches::Bulk {
        duration,
        message_bytes,
        ..
    } = turn.scenario.work
    else {
        return Err("iperf3 knows no messages".into());
    };
    let site = turn.start()?;
    let before = site.cpu()?;
    let output = Command::new(turn.program)
        .args(["--client", "127.0.0.1", "--json", "--length", "64K"])
        .args(["--port", &site.server.address.port().to_string()])
        .args(["--parallel", &turn.connections().to_string()])
        .args(["--time", &duration.as_secs_f64().ceil().to_string()])
        .output()?;
    let cpu = site.cpu()? - before;
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let sum = &report["end"]["sum_received"];
    let number = |key: &str| sum[key].as_f64().ok_or(format!("no {key}: {report}"));
    let messages = number("bytes")? / (message_bytes + 1) as f64;
    let (mut figures, _) = site.finish(1, 1)?;
    figures.set(Metric::BytesPerSecond, number("bits_per_second")? / 8.0);
    figures.set(Metric::Rate, messages / number("seconds")?);
    figures.set(Metric::CpuNs, cpu.as_nanos() as f64 / messages);
    Ok(figures)
}

/// One thread that writes from memory, in blocks of 64 KiB.
pub(super) fn write_call(turn: Turn<'_>) -> Outcome<Figures> {
    write(turn, None)
}

/// The same, and each time that so many bytes are written it waits until they are on the disk.
pub(super) fn write_and_sync(turn: Turn<'_>, group_bytes: usize) -> Outcome<Figures> {
    write(turn, Some(group_bytes))
}

fn write(turn: Turn<'_>, group_bytes: Option<usize>) -> Outcome<Figures> {
    const BLOCK_BYTES: usize = 64 << 10;
    let Batches::Bulk {
        duration,
        message_bytes,
        ..
    } = turn.scenario.work
    else {
        return Err("a file is written in bulk".into());
    };
    let folder = turn.folder()?;
    let mut file = File::create(folder.path().join("messages"))?;
    let block = vec![b'x'; BLOCK_BYTES];
    let (begun, mut bytes) = (Instant::now(), 0);
    while begun.elapsed() < duration {
        for _ in 0..group_bytes.map_or(1, |group| group / BLOCK_BYTES) {
            file.write_all(&block)?;
            bytes += BLOCK_BYTES;
        }
        if group_bytes.is_some() {
            file.sync_data()?;
        }
    }
    let per_second = bytes as f64 / begun.elapsed().as_secs_f64();
    Ok(Figures::default()
        .with(Metric::BytesPerSecond, per_second)
        .with(Metric::Rate, per_second / (message_bytes + 1) as f64))
}

/// The load that comes with Redis: the same command, over one connection.
pub(super) fn redis_benchmark(turn: Turn<'_>, message_bytes: usize) -> Outcome<Figures> {
    /// Some seconds.
    const COMMANDS: u64 = 500_000;
    /// Commands that it sends before it reads the answers.
    const PIPELINED: u64 = 512;
    let redis = Destination::start(turn.sink(), None)?.ok_or("there is no Redis")?;
    let output = Command::new(turn.program)
        .args(["-h", "127.0.0.1", "-c", "1", "--csv"])
        .args(["-p", &redis.server.address.port().to_string()])
        .args(["-P", &PIPELINED.to_string(), "-n", &COMMANDS.to_string()])
        .args(["XADD", STREAM, "*", "message"])
        .arg("x".repeat(message_bytes))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().next_back().unwrap_or_default();
    // The command in quotes, which may have commas in it, and then the rate.
    let (_, figures) = last
        .split_once("\",\"")
        .ok_or(format!("no figures: {text}"))?;
    let rate: f64 = figures.split('"').next().unwrap_or_default().parse()?;
    let arrived = redis.messages()? as f64 / COMMANDS as f64;
    Ok(Figures::default()
        .with(Metric::Rate, rate)
        .with(Metric::BytesPerSecond, rate * (message_bytes + 1) as f64)
        .with(Metric::Delivered, arrived))
}

/// The same body again and again, of as many messages as fit.
pub(super) fn ureq_loop(
    turn: Turn<'_>,
    message_bytes: usize,
    duration: Duration,
) -> Outcome<Figures> {
    let server = Destination::start(turn.sink(), None)?.ok_or("there is no server")?;
    let mut command = Command::new(turn.program);
    command
        .args(["--to", &server.url(), "--body-bytes", BODY_BYTES])
        .args(turn.entrant.flags);
    let (messages, figures) = loop_of(command, message_bytes, duration)?;
    let arrived = server.messages()? as f64 / messages;
    Ok(figures.with(Metric::Delivered, arrived))
}

/// The same record again and again.
pub(super) fn kafka_loop(
    turn: Turn<'_>,
    message_bytes: usize,
    duration: Duration,
) -> Outcome<Figures> {
    let cluster = Destination::start(turn.sink(), None)?.ok_or("there is no Kafka")?;
    let mut command = Command::new(turn.program);
    command
        .args(["--to", cluster.brokers(), "--topic", TOPIC])
        .args(turn.entrant.flags);
    let (_, figures) = loop_of(command, message_bytes, duration)?;
    Ok(figures)
}

/// A program that sends from memory for so long, and then says how much that was.
fn loop_of(
    mut command: Command,
    message_bytes: usize,
    duration: Duration,
) -> Outcome<(f64, Figures)> {
    command
        .args(["--message-bytes", &message_bytes.to_string()])
        .args(["--milliseconds", &duration.as_millis().to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let output = Owned::new(command.spawn()?).wait_with_output()?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).trim().into());
    }
    let said: Value = serde_json::from_slice(&output.stdout)?;
    let number = |key: &str| said[key].as_f64().ok_or(format!("no {key}: {said}"));
    let (messages, seconds) = (number("messages")?, number("seconds")?);
    let per_second = messages / seconds;
    let figures = Figures::default()
        .with(Metric::Rate, per_second)
        .with(
            Metric::BytesPerSecond,
            per_second * (message_bytes + 1) as f64,
        )
        .with(Metric::CpuNs, number("cpu_ns")? / messages);
    Ok((messages, figures))
}
