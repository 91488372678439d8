//! Joins the threads of handlers that announced their end, and returns their permits. Nothing else: a
//! join can take long (a thread_local's destructor), and then only permits wait.

use std::sync::Arc;

use crossbeam_channel::Receiver;

use super::shared::{Ending, Shared};

/// The body of the reaper's thread.
pub(super) fn run(shared: &Arc<Shared>, endings: &Receiver<Ending>) {
    while let Ok(Ending::Handler(number)) = endings.recv() {
        if let Some(thread) = shared.table.take_thread(number) {
            // Its panic was caught and counted by the thread itself.
            let _ = thread.join();
        }
        shared.table.joined(number);
        shared.exits.joined();
        shared.lifecycle.handler_joined();
    }
}
