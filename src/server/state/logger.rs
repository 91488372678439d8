//! The thread that speaks. Everybody else hands it a line without waiting, so that a log that nobody
//! reads blocks this thread and no other.
//!
//! At most one line for each reason in ten seconds; the next one says how many were left out. Lines at debug are not
//! limited so: they have a part of the queue, and what finds that full is counted.

use std::collections::HashMap;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::Level;
use parking_lot::Mutex;

use crate::server::ledger::counted;

/// Lines that wait to be written; what comes on top is counted and left out.
const QUEUE: usize = 1024;
/// As many again at debug, which leave the room of the others alone.
const DEBUG_QUEUE: usize = 1024;
/// One line for each reason in this time.
const QUIET: Duration = Duration::from_secs(10);
/// How often what was left out is looked for.
const SUPPRESSED_CHECK: Duration = Duration::from_millis(500);

#[derive(Debug)]
struct Line {
    level: Level,
    text: String,
}

#[derive(Debug)]
struct Recent {
    at: Instant,
    level: Level,
    suppressed: u64,
}

#[derive(Debug)]
struct Inner {
    /// `None` only wakes the thread.
    lines: Sender<Option<Line>>,
    recent: Mutex<HashMap<&'static str, Recent>>,
    lost: AtomicU64,
    /// Those at debug, not yet told.
    lost_debug: AtomicU64,
    closed: AtomicBool,
}

/// A way to the server's log that never blocks.
///
/// Lines go to whatever logger the process has installed for the [`log`] crate, on the server's own
/// `logger` thread. A line that finds the queue full, of 1,024 and as many at debug, is counted and left out.
#[derive(Clone, Debug)]
pub struct Logger {
    inner: Arc<Inner>,
}

impl Logger {
    /// The logger and the body of its thread, which ends after [`close`](Logger::close).
    pub(crate) fn new() -> (Logger, impl FnOnce() + Send + 'static) {
        let (lines, queue) = bounded(QUEUE + DEBUG_QUEUE);
        let inner = Inner {
            lines,
            recent: Mutex::new(HashMap::new()),
            lost: AtomicU64::new(0),
            lost_debug: AtomicU64::new(0),
            closed: AtomicBool::new(false),
        };
        let logger = Logger {
            inner: Arc::new(inner),
        };
        let body = {
            let logger = logger.clone();
            move || logger.run(&queue)
        };
        (logger, body)
    }

    /// Hands over a line. Never blocks. Not rate-limited: for what happens once.
    pub fn log(&self, level: Level, text: impl Into<String>) {
        if self
            .inner
            .lines
            .try_send(Some(Line {
                level,
                text: text.into(),
            }))
            .is_err()
        {
            self.inner.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a line at debug, which is made only where the process logs at that level. Never blocks, and asks no
    /// logger. A line that finds 1,024 waiting is counted and left out, and how many were is said at debug.
    pub fn log_debug(&self, text: impl FnOnce() -> String) {
        if log::max_level() < Level::Debug {
            return;
        }
        if self.inner.lines.len() < DEBUG_QUEUE {
            self.log(Level::Debug, text());
        } else {
            self.inner.lost.fetch_add(1, Ordering::Relaxed);
            self.inner.lost_debug.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Hands over a line, at most one for each `reason` in ten seconds; others are counted, and only the
    /// lines that are said are made. Never blocks.
    pub fn log_limited(&self, reason: &'static str, level: Level, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let suppressed = {
            let mut recent = self.inner.recent.lock();
            match recent.get_mut(reason) {
                Some(recent) if now.duration_since(recent.at) < QUIET => {
                    recent.suppressed += 1;
                    return;
                }
                Some(recent) => {
                    recent.at = now;
                    std::mem::take(&mut recent.suppressed)
                }
                None => {
                    recent.insert(
                        reason,
                        Recent {
                            at: now,
                            level,
                            suppressed: 0,
                        },
                    );
                    0
                }
            }
        };
        let more = if suppressed > 0 {
            format!(" (suppressed {suppressed} similar messages before)")
        } else {
            String::new()
        };
        self.log(level, text() + &more);
    }

    /// A panic hook that hands its line to this logger instead of writing to stderr from the thread that
    /// panicked, as std's does: a stderr that nobody reads would block it there. The library installs
    /// nothing; give it to [`std::panic::set_hook`] if your process wants it.
    pub fn panic_hook(&self) -> Box<dyn Fn(&PanicHookInfo<'_>) + Send + Sync + 'static> {
        let logger = self.clone();
        Box::new(move |info| {
            let thread = std::thread::current();
            let thread = thread.name().unwrap_or("<unnamed>").to_owned();
            logger.log_limited("panic", Level::Error, || {
                format!("thread {thread} {}", info.to_string().replace('\n', " "))
            });
        })
    }

    /// Lines that found the queue full.
    pub(crate) fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// Asks the thread to end once it has said what is queued.
    pub(crate) fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        // Where the queue is full the thread is awake, or stuck in the logger.
        let _ = self.inner.lines.try_send(None);
    }

    fn run(&self, queue: &Receiver<Option<Line>>) {
        loop {
            match queue.recv_timeout(SUPPRESSED_CHECK) {
                Ok(Some(line)) => log::log!(target: "drainline", line.level, "{}", line.text),
                Ok(None) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let is_closed = self.inner.closed.load(Ordering::Acquire);
            self.log_suppressed(is_closed);
            if queue.is_empty() {
                let lost = self.inner.lost_debug.swap(0, Ordering::Relaxed);
                if lost > 0 {
                    let lost = counted(lost, "line");
                    log::debug!(target: "drainline", "suppressed {lost} at debug: the log was behind");
                }
            }
            if is_closed && queue.is_empty() {
                return;
            }
        }
    }

    /// Says what was left out and is not followed by a line of its own. Forgets reasons that are quiet.
    fn log_suppressed(&self, all: bool) {
        let now = Instant::now();
        let mut due = Vec::new();
        self.inner.recent.lock().retain(|reason, recent| {
            if !all && now.duration_since(recent.at) < QUIET {
                return true;
            }
            if recent.suppressed > 0 {
                due.push((*reason, recent.level, recent.suppressed));
                recent.suppressed = 0;
                recent.at = now;
                return true;
            }
            false
        });
        for (reason, level, suppressed) in due {
            let suppressed = counted(suppressed, "similar message");
            log::log!(target: "drainline", level, "suppressed {suppressed}: {reason}");
        }
    }
}
