//! A load from begin to end, for whoever wants one: the command, and the lab.

use std::fmt;
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::counts::{Counts, Summary};
use super::plan::Plan;
use super::shared::{Progress, Shared};
use super::worker::Worker;

const WATCH: Duration = Duration::from_millis(100);

/// Why nothing was sent.
#[derive(Debug)]
pub(crate) enum LoadError {
    /// No connection could be made; why the first failed.
    Unreachable(String),
    /// No thread, or no descriptor to wait with.
    System(io::Error),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Unreachable(why) => f.write_str(why),
            LoadError::System(error) => write!(f, "cannot start a sending thread: {error}"),
        }
    }
}

impl std::error::Error for LoadError {}

/// Sends what `plan` says, on `plan.threads` threads that end before this returns. Blocks as long
/// as that takes; `stop` ends it early, within 100 ms where the server takes what has begun.
/// Meanwhile `watch` is called about every 100 ms.
///
/// # Errors
/// Nothing was sent.
pub(crate) fn run(
    plan: &Plan,
    stop: &AtomicBool,
    mut watch: impl FnMut(Progress),
) -> Result<Summary, LoadError> {
    let called = Instant::now();
    let failed = AtomicBool::new(false);
    let shared = Shared::new(plan, [stop, &failed]);
    let workers = (0..plan.threads)
        .map(|place| Worker::new(&shared, place))
        .collect::<Result<Vec<_>, _>>()
        .map_err(LoadError::System)?;
    let (ended, ends) = mpsc::channel();
    let counted = thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .enumerate()
            .map(|(place, worker)| {
                let ended = ended.clone();
                let name = format!("load-{place}");
                let thread = thread::Builder::new()
                    .name(name)
                    .spawn_scoped(scope, move || {
                        let counts = worker.run();
                        // Whoever waits learns it at once.
                        drop(ended);
                        counts
                    });
                // The others are not to wait for it, nor to go on without it.
                thread.inspect_err(|_| {
                    failed.store(true, Relaxed);
                    shared.absent();
                })
            })
            .collect();
        drop(ended);
        let (mut moves, mut moved_at) = (shared.moves(), called);
        while ends.recv_timeout(WATCH) == Err::<(), _>(RecvTimeoutError::Timeout) {
            let (progress, now) = (shared.progress(), Instant::now());
            if shared.moves() != moves || progress.holds {
                (moves, moved_at) = (shared.moves(), now);
            }
            let still = now.saturating_duration_since(moved_at);
            if plan.timeout.is_some_and(|timeout| still >= timeout) {
                shared.time_out();
            }
            watch(Progress { still, ..progress });
        }
        threads
            .into_iter()
            .map(|thread| thread.map(|thread| thread.join().expect("a worker panicked")))
            .collect::<Result<Vec<_>, _>>()
    });
    let progress = shared.progress();
    let start = progress.start.unwrap_or(called);
    let mut counts = Counts::default();
    for of_worker in counted.map_err(LoadError::System)? {
        counts.add(of_worker);
    }
    let was_stopped = stop.load(Relaxed);
    if progress.start.is_none() && !was_stopped {
        let nobody = || "nobody answered within --timeout".to_owned();
        let why = counts.first_error.unwrap_or_else(nobody);
        return Err(LoadError::Unreachable(why));
    }
    let over = counts.over.unwrap_or(start);
    Ok(Summary {
        counts,
        time: over.saturating_duration_since(start),
        connecting: start - called,
        was_stopped,
        was_timed_out: shared.is_timed_out(),
    })
}
