//! Joins the threads of handlers that announced their end, and returns their permits. The reaper
//! does nothing else: a thread_local's destructor can delay a join, and then only permits wait.
//!
//! Threads that end together are joined together: the locks that all handlers need are taken once
//! for a batch, and a join of a thread that is gone already does not sleep.

use std::iter;
use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rustix::process::{Pid, test_kill_process};

use crate::server::deadline::Deadline;
use crate::server::state::{ReaperEvent, Shared};

/// The most threads that are joined before the first of their permits is returned.
const MAX_BATCH: usize = 64;
/// How often the reaper checks a joined thread, yielding in between, before it sleeps.
const LOOKS: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);
/// How long the reaper waits for the kernel: a debugger can keep a thread that ended for ever.
const MAX_RELEASE: Duration = Duration::from_secs(1);

/// A handler's thread that announced its end.
struct Ending {
    number: u64,
    thread: Pid,
}

/// The body of the reaper's thread.
pub(crate) fn run(shared: &Arc<Shared>, events: &Receiver<ReaperEvent>) {
    let mut is_over = false;
    let mut ending = Vec::with_capacity(MAX_BATCH);
    while !is_over && let Ok(first) = events.recv() {
        // Lets the threads end first that would only wake the reaper again.
        std::thread::yield_now();
        for event in iter::once(first).chain(events.try_iter()).take(MAX_BATCH) {
            match event {
                ReaperEvent::HandlerEnding { number, thread } => {
                    ending.push(Ending { number, thread });
                }
                ReaperEvent::ServerOver => is_over = true,
            }
        }
        let mut left = &ending[..];
        while !left.is_empty() {
            // A join of the first that is not gone blocks: it may not hold up the permits of those
            // before.
            let gone = left.iter().take_while(|ending| !is_there(ending.thread));
            let batch;
            (batch, left) = left.split_at(gone.count().max(1));
            reap(shared, batch);
        }
        ending.clear();
    }
}

/// Blocks until the threads are gone, and then returns their permits.
fn reap(shared: &Shared, batch: &[Ending]) {
    let numbers = || batch.iter().map(|ending| ending.number);
    for handle in shared.table.take_threads(numbers()) {
        // An error means a panic, which the thread itself has caught and counted.
        let _ = handle.join();
    }
    for ending in batch {
        wait_until_released(ending.thread);
    }
    shared.table.joined(numbers());
    if shared.table.lacks_thread() {
        // An acceptor tries at once whether the system gives a thread for these.
        shared.admission.wake();
    }
    shared.exits.joined(batch.len());
    shared.lifecycle.handler_joined();
}

/// Waits until the kernel has released a joined thread. pthread_join(3) returns when the kernel has
/// cleared the thread's id (set_tid_address(2)); until the thread is released, /proc and all limits
/// on threads still count it, and its permit must not be returned.
fn wait_until_released(thread: Pid) {
    for _ in 0..LOOKS {
        if !is_there(thread) {
            return;
        }
        std::thread::yield_now();
    }
    let until = Deadline::after(MAX_RELEASE);
    while is_there(thread) && until.remaining(MAX_RELEASE).is_some() {
        std::thread::sleep(BETWEEN_LOOKS);
    }
}

/// Whether the kernel still lists a thread.
fn is_there(thread: Pid) -> bool {
    test_kill_process(thread).is_ok()
}
