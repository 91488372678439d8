//! Joins the threads of handlers that announced their end, and returns their permits. Nothing else: a
//! join can take long (a thread_local's destructor), and then only permits wait.

use std::sync::Arc;
use std::time::Duration;

use crossbeam_channel::Receiver;
use rustix::process::{Pid, test_kill_process};

use crate::server::deadline::Deadline;
use crate::server::state::{ReaperEvent, Shared};

/// Looks at a thread that was joined, with a processor offered to it in between, before the reaper sleeps.
const LOOKS: usize = 50;
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);
/// A debugger that has stopped keeps a thread that ended on the list for as long as it likes.
const MAX_RELEASE: Duration = Duration::from_secs(1);

/// The body of the reaper's thread.
pub(crate) fn run(shared: &Arc<Shared>, events: &Receiver<ReaperEvent>) {
    while let Ok(ReaperEvent::HandlerEnding { number, thread }) = events.recv() {
        if let Some(handle) = shared.table.take_thread(number) {
            // Its panic was caught and counted by the thread itself.
            let _ = handle.join();
            wait_until_released(thread);
        }
        shared.table.joined(number);
        shared.exits.joined();
        shared.lifecycle.handler_joined();
    }
}

/// pthread_join(3) returns when the kernel has cleared the thread's number (set_tid_address(2)). Until the thread has ended
/// there, too, /proc and all limits on threads count it, and its permit is not free.
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
