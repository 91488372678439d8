//! What it was measured on, and with which versions: without them the figures mean nothing.

use std::fs;
use std::process::Command;
use std::thread;

use crate::provision;

/// One line.
pub(crate) fn describe() -> String {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    let (processors, memory) = (read("/proc/cpuinfo"), read("/proc/meminfo"));
    let model = value(&processors, "model name").unwrap_or("processors of some kind");
    let kib: u64 = value(&memory, "MemTotal")
        .and_then(|size| size.split_whitespace().next()?.parse().ok())
        .unwrap_or(0);
    let release = read("/proc/sys/kernel/osrelease");
    let count = thread::available_parallelism().map_or(1, usize::from);
    format!(
        "{count} x {model}, {} GiB, Linux {}",
        kib >> 20,
        release.trim()
    )
}

/// The versions of those programs that are there, in a line.
pub(crate) fn versions() -> String {
    let syslog_ng = provision::unpacked_syslog_ng();
    let programs = [
        (provision::DRAINLINE, "--version"),
        ("go", "version"),
        ("rustc", "--version"),
        ("iperf3", "--version"),
        ("/usr/sbin/rsyslogd", "-v"),
        (syslog_ng.to_str().unwrap_or_default(), "--version"),
    ];
    let said = programs.iter().filter_map(|(program, flag)| {
        let output = Command::new(program).arg(flag).output().ok()?;
        let text = String::from_utf8_lossy(&output.stdout);
        let words: Vec<&str> = text.lines().next()?.split_whitespace().take(4).collect();
        Some(words.join(" "))
    });
    said.collect::<Vec<_>>().join("; ")
}

fn value<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    Some(line.split_once(':')?.1.trim())
}
