//! What the machine itself can do: the loopback, and a file.

use std::fs::File;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use serde_json::Value;

use super::Turn;
use crate::Outcome;
use crate::figures::{Figures, Metric};
use crate::scenario::Batches;

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
        file.write_all(&block)?;
        bytes += BLOCK_BYTES;
    }
    let per_second = bytes as f64 / begun.elapsed().as_secs_f64();
    Ok(Figures::default()
        .with(Metric::BytesPerSecond, per_second)
        .with(Metric::Rate, per_second / (message_bytes + 1) as f64))
}
