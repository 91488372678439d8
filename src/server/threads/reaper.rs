//! Joins the threads of handlers that announced their end, and returns their permits. The reaper
//! does nothing else: a thread_local's destructor can delay a join, and then only permits wait.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rustix::process::{Pid, test_kill_process};

use crate::server::deadline::Deadline;
use crate::server::state::{ReaperEvent, Shared};

/// How often the reaper checks a joined thread, yielding in between, before it sleeps.
const LOOKS: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);
/// How long the reaper waits for the kernel: a debugger can keep a thread that ended for ever.
const MAX_RELEASE: Duration = Duration::from_secs(1);

/// The body of the reaper's thread.
pub(crate) fn run(shared: &Arc<Shared>, events: &Receiver<ReaperEvent>) {
    while let Ok(ReaperEvent::HandlerEnding { number, thread }) = events.recv() {
        if let Some(handle) = shared.table.take_thread(number) {
            // An error means a panic, which the thread itself has caught and counted.
            let _ = handle.join();
            wait_until_released(thread);
        }
        shared.table.joined(number);
        shared.exits.joined();
        shared.lifecycle.handler_joined();
    }
}

/// Waits until the kernel has released a joined thread. pthread_join(3) returns when the kernel has
/// cleared the thread's id (set_tid_address(2)); until the thread is released, /proc and all limits
/// on threads still count it, and its permit must not be returned.
fn wait_until_released(thread: Pid) {
    let is_there = || test_kill_process(thread).is_ok();
    for _ in 0..LOOKS {
        if !is_there() {
            return;
        }
        std::thread::yield_now();
    }
    let until = Deadline::after(MAX_RELEASE);
    while is_there() && until.remaining(MAX_RELEASE).is_some() {
        std::thread::sleep(BETWEEN_LOOKS);
    }
}
