//! The consumer: takes all there is, offers it to the sink, tries again what failed.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::time::Duration;

use log::Level;

use super::{Backoff, Sink, SinkError, Work};
use crate::ingest::batch::Batch;
use crate::ingest::shared::Shared;
use crate::server::{BoxError, Delivery, Inbox, Received};

/// How soon a request to reopen is seen while nothing flows.
const TICK: Duration = Duration::from_millis(100);
/// Batches taken in one go: as many as go into one gathered write.
const MOST_HELD: usize = 64;

pub(in crate::ingest) fn drive(
    inbox: &mut Inbox<Batch>,
    sink: &mut dyn Sink,
    shared: &Shared,
) -> Result<(), BoxError> {
    inbox.set_name(&sink.name());
    let mut held = VecDeque::with_capacity(MOST_HELD);
    let mut backoff = Backoff::new();
    loop {
        let is_closed = take_all(inbox, &mut held);
        shared.reopen_if_asked(sink);
        while !held.is_empty() && !inbox.is_cut() {
            let mut work = Work {
                held: &mut held,
                inbox,
                pool: &shared.pool,
            };
            match sink.write(&mut work) {
                Ok(()) => {
                    if backoff.is_running() {
                        shared.say(
                            Level::Info,
                            format!("the sink {} takes messages again", sink.name()),
                        );
                        backoff.reset();
                    }
                }
                Err(SinkError::Fatal(error)) => {
                    return Err(format!("the sink {} failed for good: {error}", sink.name()).into());
                }
                Err(SinkError::Retry(error)) => {
                    let wait = backoff.next_wait();
                    shared.sink_failures.fetch_add(1, Ordering::Relaxed);
                    shared.say_once("sink failed", Level::Warn, || {
                        format!(
                            "the sink {} failed: {error}; trying again in {wait:.1?}",
                            sink.name()
                        )
                    });
                    inbox.wait(wait);
                }
            }
            shared.reopen_if_asked(sink);
        }
        if is_closed {
            return Ok(());
        }
    }
}

/// Waits for one item and takes what else is there. Says whether the inbox is closed.
fn take_all(inbox: &mut Inbox<Batch>, held: &mut VecDeque<Delivery<Batch>>) -> bool {
    let mut received = inbox.recv(TICK);
    loop {
        match received {
            Received::Item(delivery) => held.push_back(delivery),
            Received::Tick => return false,
            Received::Closed => return true,
        }
        if held.len() == MOST_HELD {
            return false;
        }
        received = inbox.try_recv();
    }
}
