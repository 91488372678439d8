//! The load generator: the program's own, as a child process.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};

use serde_json::Value;

use crate::Outcome;
use crate::owned::Owned;

/// What `drainline load --json -` said.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) seconds: f64,
    pub(crate) connects: u64,
}

#[derive(Debug)]
pub(crate) struct Load(Owned);

/// Starts it.
pub(crate) fn start(program: &Path, target: &str, args: &[String]) -> Outcome<Load> {
    let child = Command::new(program)
        .arg("load")
        .arg(target)
        .args(args)
        .args(["--json", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    Ok(Load(Owned::new(child)))
}

/// Runs it to its end.
pub(crate) fn run(program: &Path, target: &str, args: &[String]) -> Outcome<Sent> {
    start(program, target, args)?.wait()
}

/// Connections over TLS that a process of their own keeps open, each of which has sent a line.
/// They are closed when this is dropped.
#[derive(Debug)]
pub(crate) struct Holder {
    stdin: ChildStdin,
    _process: Owned,
}

impl Holder {
    /// Sends so many lines at once on each of the first `connections`.
    pub(crate) fn burst(&mut self, connections: usize, lines: usize) -> Outcome<()> {
        Ok(writeln!(self.stdin, "{connections} {lines}")?)
    }
}

/// Opens them, and waits until all are.
pub(crate) fn hold(program: &Path, address: SocketAddr, connections: usize) -> Outcome<Holder> {
    let mut child = Command::new(program)
        .args(["hold", &address.to_string(), &connections.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()?;
    let stdout = child.stdout.take().ok_or("no stdout")?;
    let stdin = child.stdin.take().ok_or("no stdin")?;
    let holder = Holder {
        stdin,
        _process: Owned::new(child),
    };
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    match line.trim() {
        "held" => Ok(holder),
        _ => Err("the load could not connect".into()),
    }
}

impl Load {
    pub(crate) fn wait(self) -> Outcome<Sent> {
        let output = self.0.wait_with_output()?;
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (stdout, stderr) = (said(&output.stdout), said(&output.stderr));
        // A progress bar or a log line may stand before it.
        let report = [&stdout, &stderr]
            .into_iter()
            .find_map(|text| text.lines().rev().find(|line| line.starts_with('{')));
        let Some(report) = report else {
            return Err(format!("the load ended with {}: {}", output.status, stderr.trim()).into());
        };
        let report: Value = serde_json::from_str(report)?;
        let number = |key: &str| {
            report[key]
                .as_f64()
                .ok_or(format!("no {key} in the load's report"))
        };
        for failed in ["connect_errors", "write_errors"] {
            let errors = number(failed)?;
            if errors > 0.0 {
                return Err(format!("the load had {errors} {failed}: {}", stderr.trim()).into());
            }
        }
        Ok(Sent {
            messages: number("messages")? as u64,
            bytes: number("bytes")? as u64,
            seconds: number("seconds")?,
            connects: number("connects")? as u64,
        })
    }
}
