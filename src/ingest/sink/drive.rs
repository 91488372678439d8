//! The consumer: takes all there is, offers it to the sink, tries again what failed.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::Level;

use super::{Backoff, Sink, SinkError, Work};
use crate::ingest::batch::Batch;
use crate::ingest::shared::Shared;
use crate::server::{BoxError, Delivery, Inbox, Received};

/// How soon a request to reopen is seen while nothing flows.
const TICK: Duration = Duration::from_millis(100);
/// Batches taken in one go: as many as go into one gathered write.
const MOST_HELD: usize = 64;
/// Turns between two looks at the buffers that are not needed any more.
const TURNS_PER_TRIM: u32 = 4096;

pub(in crate::ingest) fn drive(
    inbox: &mut Inbox<Batch>,
    sink: &mut dyn Sink,
    shared: &Shared,
) -> Result<(), BoxError> {
    inbox.set_name(&sink.name());
    let mut held = VecDeque::with_capacity(MOST_HELD);
    let mut backoff = Backoff::new();
    let mut turns = 0;
    loop {
        let is_closed = take_all(inbox, &mut held);
        turns += 1;
        if held.is_empty() || turns == TURNS_PER_TRIM {
            shared.pool.trim();
            turns = 0;
        }
        shared.reopen_if_asked(sink, inbox.journal());
        while !held.is_empty() && !inbox.is_cut() {
            let before = messages(&held);
            let outcome = sink.write(&mut Work {
                held: &mut held,
                inbox,
                pool: &shared.pool,
            });
            let took_some = messages(&held) < before;
            let error = match outcome {
                Ok(()) if took_some || inbox.is_cut() => {
                    if took_some && backoff.is_running() {
                        backoff.reset();
                        inbox.journal().say_once("sink recovered", Level::Info, || {
                            format!("the sink {} takes messages again", sink.name())
                        });
                    }
                    continue;
                }
                // Offering the same at once again would only burn the processor.
                Ok(()) => io::Error::other("it took nothing and did not say why"),
                Err(SinkError::Retry(error)) => error,
                Err(SinkError::Fatal(error)) => {
                    return Err(format!("the sink {} failed for good: {error}", sink.name()).into());
                }
            };
            shared.sink_failures.fetch_add(1, Ordering::Relaxed);
            let wait = if took_some {
                backoff.eased_wait()
            } else {
                backoff.next_wait()
            };
            inbox.journal().say_once("sink failed", Level::Warn, || {
                format!(
                    "the sink {} failed: {error}; trying again in {wait:.1?}",
                    sink.name()
                )
            });
            wait_to_retry(inbox, sink, shared, wait);
        }
        if !held.is_empty() {
            // The last deadline.
            let work = Work {
                held: &mut held,
                inbox,
                pool: &shared.pool,
            };
            if sink.is_inside_message(&work) {
                let text = format!(
                    "the sink {} ends in half a message: the drain had no more time",
                    sink.name()
                );
                inbox.journal().say(Level::Warn, text);
            }
            return Ok(());
        }
        if is_closed {
            return Ok(());
        }
    }
}

/// Ends early for what may have mended the sink or leaves no more time: a reopen, the server's closing, its
/// last deadline.
fn wait_to_retry(inbox: &mut Inbox<Batch>, sink: &mut dyn Sink, shared: &Shared, wait: Duration) {
    let until = Instant::now() + wait;
    let was_closing = inbox.is_closing();
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let is_over = left.is_zero() || !inbox.wait(left.min(TICK));
        let is_reopened = shared.reopen_if_asked(sink, inbox.journal());
        if is_over || is_reopened || inbox.is_closing() != was_closing {
            return;
        }
    }
}

fn messages(held: &VecDeque<Delivery<Batch>>) -> u64 {
    held.iter().map(Delivery::remaining).sum()
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
