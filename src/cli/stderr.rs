//! Standard error: opened once, so that it can be written to when no descriptor is left; shared
//! with the log; and never in the middle of a message, where the sink writes to the same place.

use std::io::{self, IsTerminal, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use drainline::Server;
use drainline::ingest::sink::FdWriter;
use drainline::ingest::{Batches, Resources, Sink, SinkError};
use parking_lot::{Mutex, MutexGuard};
use rustix::fs::{Stat, fstat, stat};

use super::report;
use super::values::ReportFormat;

/// How long a line waits for a stderr that takes nothing, counted from when it stopped.
const PATIENCE: Duration = Duration::from_secs(1);
/// The least that each line waits: stderr's reader may come at this moment.
const MIN_PATIENCE: Duration = Duration::from_millis(100);
/// The time between two tries to take the lock.
const SLICE: Duration = Duration::from_millis(20);

/// Prints a line to stderr, which may be a pipe that nobody reads: the line gets a second.
pub(crate) fn say(line: &str) {
    if let Ok(stderr) = FdWriter::stderr() {
        stderr.write_within(format!("{line}\n").as_bytes(), PATIENCE);
    }
}

/// What stderr ends in, which lines and perhaps messages are written to.
#[derive(Debug, Default)]
struct Tail {
    /// The sink has written a message in part, and will go on with it.
    is_inside: bool,
    /// What was written last will never be finished: the next line begins with a line end.
    is_torn: bool,
}

/// This process's standard error.
#[derive(Debug)]
pub(crate) struct Stderr {
    /// `None`: stderr is closed, and every line is lost.
    output: Option<FdWriter>,
    /// The holder of this lock writes.
    tail: Mutex<Tail>,
    /// Since when stderr takes nothing, if the last write took nothing.
    stands_since: Mutex<Option<Instant>>,
}

impl Stderr {
    pub(super) fn open() -> Arc<Stderr> {
        Arc::new(Stderr {
            output: FdWriter::stderr().ok(),
            tail: Mutex::default(),
            stands_since: Mutex::default(),
        })
    }

    /// Writes a line within a second, or what is left of that second where stderr takes nothing
    /// already. After that the line is even put into the middle of a message: either nobody reads
    /// anything, or the message will not be finished.
    pub(super) fn say(&self, line: &str) {
        let end = patience_ends(*self.stands_since.lock(), Instant::now());
        let is_over = || Instant::now() >= end;
        match self.lock(is_over) {
            Some(tail) => self.write(tail, &format!("{line}\n"), is_over),
            None => drop(self.put(&format!("\n{line}\n"), is_over)),
        }
    }

    /// Writes `text` between two messages, all of it or until `is_over`.
    fn write(&self, mut tail: MutexGuard<'_, Tail>, text: &str, is_over: impl Fn() -> bool) {
        let torn = if tail.is_torn { "\n" } else { "" };
        tail.is_torn = !self.put(&format!("{torn}{text}"), is_over);
        // Handed to whoever waits: else log and sink could keep each other from writing.
        MutexGuard::unlock_fair(tail);
    }

    /// Whether all of `text` was written. At least one write is tried.
    fn put(&self, text: &str, is_over: impl Fn() -> bool) -> bool {
        let Some(output) = &self.output else {
            return true;
        };
        let mut rest = text.as_bytes();
        loop {
            match output.write_part(rest) {
                Ok(written) => {
                    self.took(written);
                    rest = &rest[written..];
                }
                Err(_) => return true,
            }
            if rest.is_empty() || is_over() {
                return rest.is_empty();
            }
        }
    }

    fn took(&self, written: usize) {
        let mut since = self.stands_since.lock();
        match written {
            0 => drop(since.get_or_insert_with(Instant::now)),
            _ => *since = None,
        }
    }

    /// Takes the lock once no message is half written.
    fn lock(&self, is_over: impl Fn() -> bool) -> Option<MutexGuard<'_, Tail>> {
        loop {
            if let Some(tail) = self.tail.try_lock_for(SLICE) {
                if !tail.is_inside {
                    return Some(tail);
                }
                drop(tail);
                thread::sleep(SLICE);
            }
            if is_over() {
                return None;
            }
        }
    }

    /// Where the log writes. Its lines wait as long as it takes: only the logger's thread waits.
    pub(super) fn log_target(self: &Arc<Self>) -> env_logger::Target {
        env_logger::Target::Pipe(Box::new(LogTarget(Arc::clone(self))))
    }

    /// Whether the log may be coloured.
    pub(super) fn takes_colours(&self) -> bool {
        let is_plain = |name: &str, plain: &dyn Fn(&str) -> bool| {
            std::env::var(name).is_ok_and(|value| plain(&value))
        };
        self.output.is_some()
            && io::stderr().is_terminal()
            && !is_plain("NO_COLOR", &|value| !value.is_empty())
            && !is_plain("TERM", &|value| value == "dumb")
    }

    /// Whether stdout is the same place.
    pub(super) fn is_stdout(&self) -> bool {
        self.is_same(fstat(rustix::stdio::stdout()))
    }

    /// Whether the file of this name is the same place.
    pub(super) fn is_file(&self, path: &Path) -> bool {
        self.is_same(stat(path))
    }

    fn is_same(&self, other: rustix::io::Result<Stat>) -> bool {
        let (Some(_), Ok(this), Ok(other)) = (&self.output, fstat(rustix::stdio::stderr()), other)
        else {
            return false;
        };
        (this.st_dev, this.st_ino) == (other.st_dev, other.st_ino)
    }
}

/// Lines that follow each other wait for the same reader, and so for no more than a second in all.
fn patience_ends(stands_since: Option<Instant>, now: Instant) -> Instant {
    let ends = stands_since.unwrap_or(now) + PATIENCE;
    ends.max(now + MIN_PATIENCE)
}

struct LogTarget(Arc<Stderr>);

impl Write for LogTarget {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(tail) = self.0.lock(|| false) {
            self.0.write(tail, &String::from_utf8_lossy(line), || false);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A sink that writes to where stderr goes: the sink has stderr to itself from a message's first
/// byte to its last.
///
/// The sink holds the lock while it writes all that it is offered. If the reader stops, no line
/// could be written either.
#[derive(Debug)]
pub(super) struct Between<S> {
    sink: S,
    stderr: Arc<Stderr>,
}

impl<S: Sink> Between<S> {
    pub(super) fn new(sink: S, stderr: Arc<Stderr>) -> Between<S> {
        Between { sink, stderr }
    }
}

// Every method of the trait, so that none gets its default.
impl<S: Sink> Sink for Between<S> {
    fn name(&self) -> String {
        self.sink.name()
    }

    fn delivered_means(&self) -> String {
        self.sink.delivered_means()
    }

    fn resources(&self) -> Resources {
        self.sink.resources()
    }

    fn check(&self) -> Result<(), String> {
        self.sink.check()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        // A line may be on its way to a reader that has stopped.
        let mut tail = loop {
            match self.stderr.tail.try_lock_for(SLICE) {
                Some(tail) => break tail,
                None if batches.is_timed_out() => return Ok(()),
                None => {}
            }
        };
        let outcome = self.sink.write(batches);
        tail.is_inside = self.sink.is_inside_message(batches);
        MutexGuard::unlock_fair(tail);
        outcome
    }

    fn uses_output_framing(&self) -> bool {
        self.sink.uses_output_framing()
    }

    fn needs_exact_times(&self) -> bool {
        self.sink.needs_exact_times()
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.sink.reopen()
    }

    fn maintain(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.sink.maintain(batches)
    }

    fn finish(&mut self, batches: &mut Batches<'_>) {
        self.sink.finish(batches);
    }

    fn is_inside_message(&self, batches: &Batches<'_>) -> bool {
        self.sink.is_inside_message(batches)
    }
}

/// Half a message that will not be finished keeps no line waiting.
impl<S> Drop for Between<S> {
    fn drop(&mut self) {
        if let Some(mut tail) = self.stderr.tail.try_lock_for(PATIENCE) {
            tail.is_torn |= std::mem::take(&mut tail.is_inside);
        }
    }
}

/// Asks for the list of connections, which a thread of its own writes: one list at a time, and the
/// asking thread waits for none.
#[derive(Clone, Debug)]
pub(super) struct Lister {
    asked: Arc<AtomicBool>,
    gives_way: Arc<AtomicBool>,
    thread: thread::Thread,
}

impl Lister {
    pub(super) fn start(
        server: Arc<Server>,
        stderr: Arc<Stderr>,
        format: ReportFormat,
    ) -> io::Result<(Lister, JoinHandle<()>)> {
        let (asked, gives_way) = (Arc::default(), Arc::default());
        let (is_asked, is_over) = (Arc::clone(&asked), Arc::clone(&gives_way));
        let body = move || list(&server, &stderr, format, &is_asked, &is_over);
        let thread = thread::Builder::new().name("lister".to_owned());
        let joins = thread.spawn(body)?;
        let thread = joins.thread().clone();
        let lister = Lister {
            asked,
            gives_way,
            thread,
        };
        Ok((lister, joins))
    }

    pub(super) fn list(&self) {
        self.asked.store(true, Release);
        self.thread.unpark();
    }

    /// Ends the thread; a list that is being written stops where it is, for the last line.
    pub(super) fn give_way(&self) {
        self.gives_way.store(true, Release);
        self.thread.unpark();
    }
}

fn list(
    server: &Server,
    stderr: &Stderr,
    format: ReportFormat,
    is_asked: &AtomicBool,
    gives_way: &AtomicBool,
) {
    while !gives_way.load(Acquire) {
        if !is_asked.swap(false, AcqRel) {
            thread::park();
            continue;
        }
        let text = report::status(server, format) + "\n";
        let end = Instant::now() + PATIENCE;
        let is_over = || gives_way.load(Acquire) || Instant::now() >= end;
        if let Some(tail) = stderr.lock(is_over) {
            stderr.write(tail, &text, is_over);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stderr_that_stands_still_has_used_up_the_patience_of_the_lines_that_come_later() {
        let now = Instant::now();
        let ms = Duration::from_millis;
        let patience = |since| patience_ends(since, now).duration_since(now);
        let stood_for = |time| patience(now.checked_sub(time));
        assert_eq!(patience(None), ms(1000));
        assert_eq!(stood_for(ms(0)), ms(1000));
        assert_eq!(stood_for(ms(750)), ms(250));
        assert_eq!(stood_for(ms(60_000)), ms(100));
    }
}
