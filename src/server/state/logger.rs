//! The logger's queue and thread. All other threads queue their lines without waiting, so that a
//! log that nobody reads blocks the logger's thread and no other.
//!
//! Rate-limited lines appear at most once per subject and reason in ten seconds; the next line of
//! both tells how many were suppressed. The subject is an output, or the server as a whole, and
//! reasons are literals, so that there is an end to what is remembered. Lines at debug have no such
//! limit, but only a part of the queue: lines beyond that are counted and dropped.

use std::collections::HashMap;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded};
use log::Level;
use parking_lot::Mutex;

use crate::server::ledger::counted;

/// Slots of the queue for lines above debug. A line that finds the queue full is counted and
/// dropped.
const QUEUE: usize = 1024;
/// Slots of the queue for lines at debug, which cannot take those of other lines.
const DEBUG_QUEUE: usize = 1024;
/// How often the thread looks for suppressed lines that it has not reported yet.
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

/// What lines are limited by: of whom they tell, and why.
type Key = (Option<Arc<Subject>>, &'static str);

/// Of what lines tell, where that is not the server as a whole.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Subject {
    name: String,
    /// Whether lines begin with the name. Otherwise they have it in their text.
    begins_lines: bool,
}

#[derive(Debug)]
struct Inner {
    /// `None` only wakes the thread.
    lines: Sender<Option<Line>>,
    recent: Mutex<HashMap<Key, Recent>>,
    lost: AtomicU64,
    /// Lines at debug that were dropped and are not reported yet.
    lost_debug: AtomicU64,
    closed: AtomicBool,
}

/// Writes to the server's log without ever blocking.
///
/// Lines are queued, and the server's own `logger` thread hands them to whatever logger the process
/// has installed for the [`log`] crate. The queue takes 1,024 lines, and as many more at debug; a
/// line that finds the queue full is dropped and counted in
/// [`Stats::log_lines_lost`](crate::server::Stats::log_lines_lost).
#[derive(Clone, Debug)]
pub struct Logger {
    inner: Arc<Inner>,
    subject: Option<Arc<Subject>>,
}

impl Logger {
    /// At most one line per reason appears in this time.
    pub(crate) const QUIET: Duration = Duration::from_secs(10);

    /// The logger, and the body of its thread, which ends after [`close`](Logger::close).
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
            subject: None,
        };
        let body = {
            let logger = logger.clone();
            move || logger.run(&queue)
        };
        (logger, body)
    }

    /// The log as one of several writes to it: its limited lines do not suppress those of others.
    /// With `begins_lines`, each line begins with the name.
    pub(crate) fn of(&self, name: &str, begins_lines: bool) -> Logger {
        let name = name.to_owned();
        Logger {
            inner: Arc::clone(&self.inner),
            subject: Some(Arc::new(Subject { name, begins_lines })),
        }
    }

    /// Queues a line without a rate limit: for what happens once. Never blocks.
    pub fn log(&self, level: Level, text: impl Into<String>) {
        let text = match self.subject.as_deref() {
            Some(subject) if subject.begins_lines => format!("{}: {}", subject.name, text.into()),
            _ => text.into(),
        };
        if self
            .inner
            .lines
            .try_send(Some(Line { level, text }))
            .is_err()
        {
            self.inner.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Queues a line at debug. `text` is only called if [`log::max_level`] includes debug. Never
    /// blocks. A line that finds 1,024 lines waiting is dropped; how many were is logged at debug
    /// later.
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

    /// Queues a line, at most one per `reason` in ten seconds; each output's are counted by
    /// themselves. Other lines are suppressed and counted, and `text` is not called for them. Never
    /// blocks.
    pub fn log_limited(&self, reason: &'static str, level: Level, text: impl FnOnce() -> String) {
        let now = Instant::now();
        let suppressed = {
            let key = (self.subject.clone(), reason);
            let mut recent = self.inner.recent.lock();
            match recent.get_mut(&key) {
                Some(recent) if now.duration_since(recent.at) < Self::QUIET => {
                    recent.suppressed += 1;
                    return;
                }
                Some(recent) => {
                    recent.at = now;
                    std::mem::take(&mut recent.suppressed)
                }
                None => {
                    recent.insert(
                        key,
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

    /// A panic hook that queues its line here. std's own hook writes to stderr on the thread that
    /// panicked, where a stderr that nobody reads would block that thread. The library does not
    /// install the hook; pass it to [`std::panic::set_hook`] if your process wants it.
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

    /// The number of lines that were dropped because the queue was full.
    pub(crate) fn lost(&self) -> u64 {
        self.inner.lost.load(Ordering::Relaxed)
    }

    /// Asks the thread to end once it has said what is queued.
    pub(crate) fn close(&self) {
        self.inner.closed.store(true, Ordering::Release);
        // A full queue needs no wake-up: the thread is awake, or stuck in the process's logger.
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

    /// Logs how many lines were suppressed for each reason that has been quiet since, and forgets
    /// the reasons that suppressed none. A reason that goes on is told with its next line, which
    /// may say something else by then. With `all`, does so for every reason.
    fn log_suppressed(&self, all: bool) {
        let now = Instant::now();
        let mut due = Vec::new();
        self.inner.recent.lock().retain(|key, recent| {
            if !all && now.duration_since(recent.at) < Self::QUIET * 2 {
                return true;
            }
            if recent.suppressed > 0 {
                due.push((key.clone(), recent.level, recent.suppressed));
                recent.suppressed = 0;
                recent.at = now;
                return true;
            }
            false
        });
        for ((subject, reason), level, suppressed) in due {
            let suppressed = counted(suppressed, "similar message");
            let of = subject.map_or_else(String::new, |subject| format!("{}: ", subject.name));
            log::log!(target: "drainline", level, "{of}suppressed {suppressed}: {reason}");
        }
    }
}
