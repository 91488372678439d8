//! A sink that the bench reads: it counts what arrives, and when.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rustix::fs::{CWD, FileType, Mode, mknodat};

use crate::Outcome;

/// No message of ours holds it: the reader ends there.
const END: u8 = 0;
const READ_BYTES: usize = 256 << 10;

#[derive(Debug)]
pub(crate) struct Fifo {
    path: PathBuf,
    shared: Arc<Shared>,
    reader: JoinHandle<Vec<u64>>,
}

#[derive(Debug, Default)]
struct Shared {
    lines: AtomicU64,
    bytes: AtomicU64,
    is_stalled: AtomicBool,
    /// Nanoseconds since the epoch: messages that were sent before this time or after that are not
    /// timed.
    timed_from: AtomicU64,
    timed_until: AtomicU64,
}

impl Fifo {
    /// Makes the FIFO and begins to read it.
    pub(crate) fn create(path: &Path) -> Outcome<Fifo> {
        mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
        // Open for writing, too, so that it has no end between two writers (fifo(7)).
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let shared = Arc::new(Shared {
            timed_from: AtomicU64::new(u64::MAX),
            ..Shared::default()
        });
        let reader = thread::Builder::new().name("fifo".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || read(file, &shared)
        })?;
        Ok(Fifo {
            path: path.to_owned(),
            shared,
            reader,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn lines(&self) -> u64 {
        self.shared.lines.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.shared.bytes.load(Ordering::Relaxed)
    }

    /// Messages that are sent from now on are timed.
    pub(crate) fn begin_timing(&self) {
        self.shared.timed_until.store(u64::MAX, Ordering::Relaxed);
        self.shared.timed_from.store(epoch_ns(), Ordering::Relaxed);
    }

    pub(crate) fn end_timing(&self) {
        self.shared.timed_until.store(epoch_ns(), Ordering::Relaxed);
    }

    /// Takes nothing, until told otherwise.
    pub(crate) fn stall(&self, is_stalled: bool) {
        self.shared.is_stalled.store(is_stalled, Ordering::Relaxed);
        self.reader.thread().unpark();
    }

    /// Waits until so many lines have arrived. `false`: they have not, and nothing has for 5 s.
    pub(crate) fn wait_for_lines(&self, lines: u64) -> bool {
        const PATIENCE: Duration = Duration::from_secs(5);
        let (mut last, mut since) = (self.lines(), Instant::now());
        while self.lines() < lines {
            thread::sleep(Duration::from_micros(200));
            if self.lines() != last {
                (last, since) = (self.lines(), Instant::now());
            } else if since.elapsed() > PATIENCE {
                return false;
            }
        }
        true
    }

    /// Ends the reading, when nobody writes any more. The latencies of the timed messages, in
    /// nanoseconds.
    pub(crate) fn finish(self) -> Outcome<Vec<u64>> {
        self.stall(false);
        OpenOptions::new()
            .write(true)
            .open(&self.path)?
            .write_all(&[END])?;
        let latencies = self
            .reader
            .join()
            .map_err(|_| "the reader of the FIFO panicked")?;
        std::fs::remove_file(&self.path)?;
        Ok(latencies)
    }
}

fn read(mut file: File, shared: &Shared) -> Vec<u64> {
    let mut latencies = Vec::new();
    let mut buffer = vec![0; READ_BYTES];
    // The beginning of a line whose end has not come yet.
    let mut kept = 0;
    loop {
        while shared.is_stalled.load(Ordering::Relaxed) {
            thread::park();
        }
        let Ok(read) = file.read(&mut buffer[kept..]) else {
            return latencies;
        };
        let now = epoch_ns();
        let got = kept + read;
        let is_last = buffer[..got].last() == Some(&END);
        let from = shared.timed_from.load(Ordering::Relaxed);
        let whole = memchr::memrchr(b'\n', &buffer[..got]).map_or(0, |at| at + 1);
        let lines = if from == u64::MAX {
            memchr::memchr_iter(b'\n', &buffer[..whole]).count() as u64
        } else {
            let window = from..shared.timed_until.load(Ordering::Relaxed);
            let mut lines = 0;
            for line in buffer[..whole].split(|&byte| byte == b'\n') {
                lines += 1;
                if let Some(sent) = time_of(line)
                    && window.contains(&sent)
                {
                    latencies.push(now.saturating_sub(sent));
                }
            }
            lines - 1 // what is after the last LF is none
        };
        shared.lines.fetch_add(lines, Ordering::Relaxed);
        shared.bytes.fetch_add(read as u64, Ordering::Relaxed);
        buffer.copy_within(whole..got, 0);
        kept = got - whole;
        if is_last {
            return latencies;
        }
    }
}

/// The number that a timed message begins with.
fn time_of(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_digit()).count();
    str::from_utf8(&line[..digits]).ok()?.parse().ok()
}

pub(crate) fn epoch_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    since.as_nanos() as u64
}
