//! The consumer: takes all there is, offers it to the sink, tries again what failed.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use log::Level;

use super::{Backoff, Batches, Sink, SinkError};
use crate::ingest::batch::Batch;
use crate::ingest::shared::Shared;
use crate::server::{BoxError, Delivery, Received, Receiver};

/// How soon a request to reopen is seen while nothing flows.
const TICK: Duration = Duration::from_millis(100);
/// How often the sink looks after what it writes to.
const LOOK: Duration = Duration::from_secs(1);
/// Batches taken in one go: as many as go into one gathered write.
const MAX_HELD: usize = 64;
/// Turns between two looks at the buffers that are not needed any more.
const TURNS_PER_TRIM: u32 = 4096;

pub(in crate::ingest) fn drive(
    receiver: &mut Receiver<Batch>,
    sink: &mut dyn Sink,
    shared: &Shared,
) -> Result<(), BoxError> {
    receiver.set_name(&sink.name());
    let mut drive = Drive {
        sink,
        hands: Hands {
            receiver,
            shared,
            held: VecDeque::with_capacity(MAX_HELD),
        },
        backoff: Backoff::new(),
        next_look: Instant::now() + LOOK,
    };
    let outcome = drive.run();
    if outcome.is_ok() {
        // What the last second has brought is told. Nothing is left that a failure could cost.
        let _ = drive.sink.maintain(&mut drive.hands.batches());
    }
    outcome
}

struct Drive<'a> {
    sink: &'a mut dyn Sink,
    hands: Hands<'a>,
    backoff: Backoff,
    next_look: Instant,
}

/// All but the sink, which is offered what they hold.
struct Hands<'a> {
    receiver: &'a mut Receiver<Batch>,
    shared: &'a Shared,
    held: VecDeque<Delivery<Batch>>,
}

impl Hands<'_> {
    fn batches(&mut self) -> Batches<'_> {
        Batches {
            held: &mut self.held,
            receiver: self.receiver,
            shared: self.shared,
        }
    }
}

impl Drive<'_> {
    fn run(&mut self) -> Result<(), BoxError> {
        let mut turns = 0;
        loop {
            let is_closed = self.take_all();
            turns += 1;
            if self.hands.held.is_empty() || turns == TURNS_PER_TRIM {
                self.hands.shared.pool.trim();
                turns = 0;
            }
            self.reopen_if_asked();
            self.maintain_if_due()?;
            while !self.hands.held.is_empty() && !self.hands.receiver.is_timed_out() {
                self.offer()?;
            }
            if !self.hands.held.is_empty() {
                self.tell_half_message();
                return Ok(());
            }
            if is_closed {
                return Ok(());
            }
        }
    }

    /// Waits for one item and takes what else is there. Says whether the receiver is closed.
    fn take_all(&mut self) -> bool {
        let mut received = self.hands.receiver.recv(TICK);
        loop {
            match received {
                Received::Message(delivery) => self.hands.held.push_back(delivery),
                Received::Timeout | Received::RoomWanted => return false,
                Received::Closed => return true,
            }
            if self.hands.held.len() == MAX_HELD {
                return false;
            }
            received = self.hands.receiver.try_recv();
        }
    }

    /// Once; and waits where that failed.
    fn offer(&mut self) -> Result<(), BoxError> {
        let before = self.messages();
        let outcome = self.sink.write(&mut self.hands.batches());
        let took_some = self.messages() < before;
        let error = match outcome {
            Ok(()) if took_some || self.hands.receiver.is_timed_out() => {
                if took_some && self.backoff.is_running() {
                    self.backoff.reset();
                    let name = self.sink.name();
                    let text = || format!("the sink {name} takes messages again");
                    let logger = self.hands.receiver.logger();
                    logger.log_limited("sink recovered", Level::Info, text);
                }
                return Ok(());
            }
            // Offering the same at once again would only burn the processor.
            Ok(()) => io::Error::other("it took nothing and did not say why"),
            Err(SinkError::Retry(error)) => error,
            Err(SinkError::Fatal(error)) => return Err(self.failed_for_good(&error)),
        };
        let wait = if took_some {
            self.backoff.eased_wait()
        } else {
            self.backoff.next_wait()
        };
        self.count_failure(&format!("{error}; trying again in {wait:.1?}"));
        self.wait_to_retry(wait)
    }

    /// Ends early for what may have mended the sink or leaves no more time: a reopen, the server's closing, its
    /// last deadline.
    fn wait_to_retry(&mut self, wait: Duration) -> Result<(), BoxError> {
        let until = Instant::now() + wait;
        let was_closing = self.hands.receiver.is_closing();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_over = left.is_zero() || !self.hands.receiver.wait(left.min(TICK));
            let is_reopened = self.reopen_if_asked();
            self.maintain_if_due()?;
            if is_over || is_reopened || self.hands.receiver.is_closing() != was_closing {
                return Ok(());
            }
        }
    }

    fn reopen_if_asked(&mut self) -> bool {
        self.hands
            .shared
            .reopen_if_asked(self.sink, self.hands.receiver.logger())
    }

    fn maintain_if_due(&mut self) -> Result<(), BoxError> {
        let now = Instant::now();
        if now < self.next_look {
            return Ok(());
        }
        self.next_look = now + LOOK;
        match self.sink.maintain(&mut self.hands.batches()) {
            Ok(()) => {}
            Err(SinkError::Retry(error)) => self.count_failure(&error.to_string()),
            Err(SinkError::Fatal(error)) => return Err(self.failed_for_good(&error)),
        }
        Ok(())
    }

    fn count_failure(&self, what: &str) {
        self.hands
            .shared
            .sink_failures
            .fetch_add(1, Ordering::Relaxed);
        let name = self.sink.name();
        let text = || format!("the sink {name} failed: {what}");
        self.hands
            .receiver
            .logger()
            .log_limited("sink failed", Level::Warn, text);
    }

    fn failed_for_good(&self, error: &io::Error) -> BoxError {
        format!("the sink {} failed for good: {error}", self.sink.name()).into()
    }

    /// The last deadline has cut it off.
    fn tell_half_message(&mut self) {
        let batches = self.hands.batches();
        if self.sink.is_inside_message(&batches) {
            let name = self.sink.name();
            let text =
                format!("the sink {name} ends in half a message: the drain had no more time");
            self.hands.receiver.logger().log(Level::Warn, text);
        }
    }

    fn messages(&self) -> u64 {
        self.hands.held.iter().map(Delivery::remaining).sum()
    }
}
