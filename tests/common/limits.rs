//! The bound that a server prints at start, read back from its text.

use super::child::Drainline;
use super::wait::{DEADLINE, wait_for};

/// `limits: at most 256 connections, 262 threads, 270 descriptors, 63.5 MiB of memory`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResourceLimits {
    pub connections: u64,
    pub threads: u64,
    pub descriptors: u64,
    pub memory_bytes: u64,
}

impl ResourceLimits {
    /// The first bound in `text`, if there is a whole line of it.
    pub fn find(text: &str) -> Option<ResourceLimits> {
        // An output may be said to deliver at most once.
        let mut at_most = text
            .match_indices("at most ")
            .map(|(at, words)| at + words.len());
        let start = at_most.find(|&at| text[at..].starts_with(|c: char| c.is_ascii_digit()))?;
        let (line, _) = text[start..].split_once('\n')?;
        let before = |unit: &str| line.split(unit).next()?.rsplit(' ').next();
        let count = |unit: &str| before(unit)?.parse().ok();
        let memory = line.split(" of memory").next()?;
        let (size, unit) = memory.rsplit(", ").next()?.split_once(' ')?;
        let power = ["KiB", "MiB", "GiB", "TiB"]
            .iter()
            .position(|name| *name == unit)?;
        let bytes = size.parse::<f64>().ok()? * 1024f64.powi(power as i32 + 1);
        Some(ResourceLimits {
            connections: count(" connection")?,
            threads: count(" thread")?,
            descriptors: count(" descriptor")?,
            memory_bytes: bytes as u64,
        })
    }
}

impl Drainline {
    /// The bound that it printed. Blocks until it did, for at most [`DEADLINE`]; stderr has to be
    /// collected.
    #[track_caller]
    pub fn limits(&self) -> ResourceLimits {
        wait_for("the bound on stderr", DEADLINE, || {
            ResourceLimits::find(&self.stderr_text())
        })
    }
}
