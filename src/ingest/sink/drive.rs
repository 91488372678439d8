//! The consumer: takes what is there, offers it to the sink, tries again what failed.

use std::io;
use std::time::{Duration, Instant};

use log::Level;

use super::batches::{Batches, MAX_AT_ONCE};
use super::contract::{Sink, SinkError};
use super::feed::{Feed, Taken};
use super::render::Form;
use super::retry::Backoff;
use super::state::{SinkState, in_a_line};
use crate::ingest::batch::pool::Pool;
use crate::server::ranges::TICK;
use crate::server::{BoxError, Notices};

/// Turns between two looks at the buffers that are not needed any more.
const TURNS_PER_TRIM: u32 = 4096;
/// The longest wait before a next try once the drain has begun. A short drain is no longer than the
/// longest wait of a back-off.
const MAX_WAIT_IN_DRAIN: Duration = Duration::from_secs(1);

/// Runs until the receiver is closed, the last deadline passes, or the sink fails for good. `form`:
/// that of the output, where it is not that of the batches.
pub(in crate::ingest) fn drive(
    feed: Feed<'_>,
    sink: &mut dyn Sink,
    pool: &Pool,
    state: &SinkState,
    form: Option<Form>,
    notices: Notices,
) -> Result<(), BoxError> {
    let mut drive = Drive {
        batches: Batches::new(feed, pool, state, form, notices, &sink.name()),
        sink,
        backoff: Backoff::new(),
        turns: 0,
        has_accepted: false,
    };
    let outcome = drive.run();
    if outcome.is_ok() {
        // The sink tells what the last second has brought. No message is left that a failure could
        // cost.
        let _ = drive.sink.maintain(&mut drive.batches);
        if !drive.batches.is_timed_out() {
            drive.sink.finish(&mut drive.batches);
        }
    }
    outcome
}

struct Drive<'a> {
    sink: &'a mut dyn Sink,
    batches: Batches<'a>,
    backoff: Backoff,
    /// Since the last look at the pool.
    turns: u32,
    /// The sink has accepted something since it failed last, and is on trial.
    has_accepted: bool,
}

impl Drive<'_> {
    fn run(&mut self) -> Result<(), BoxError> {
        loop {
            let is_closed = self.take_all();
            self.trim_pool_if_due();
            self.reopen_if_asked();
            self.maintain_if_due()?;
            self.offer_all()?;
            let is_timed_out = self.batches.first().is_some();
            if is_timed_out {
                self.log_half_message();
            }
            if is_timed_out || is_closed {
                return Ok(());
            }
        }
    }

    /// Waits for a batch, for a tick at most, and takes what else is there. Says whether the
    /// receiver is closed.
    fn take_all(&mut self) -> bool {
        if self.batches.is_cutting() && !self.batches.is_timed_out() {
            let (_, is_closed) = self.batches.take_up_to(MAX_AT_ONCE);
            return is_closed;
        }
        let taken = match &mut self.batches.feed {
            Feed::Receiver(receiver) => receiver.recv(TICK).into(),
            Feed::Lane(lane) => lane.recv(TICK),
        };
        match taken {
            Taken::Item(item) => self.batches.take_in(item),
            Taken::Nothing | Taken::RoomWanted | Taken::Notice => return false,
            Taken::Closed => return true,
        }
        let (_, is_closed) = self.batches.take_up_to(MAX_AT_ONCE);
        is_closed
    }

    /// Frees unused buffers when nothing flows, and now and then while something does.
    fn trim_pool_if_due(&mut self) {
        self.turns += 1;
        if self.batches.first().is_none() || self.turns == TURNS_PER_TRIM {
            self.trim_pool();
        }
    }

    fn trim_pool(&mut self) {
        // Of several, who hands out to them does so.
        if matches!(self.batches.feed, Feed::Receiver(_)) {
            self.batches.pool().trim();
        }
        self.turns = 0;
    }

    /// Offers the batches until the sink has accepted all, or the last deadline passes. A sink that
    /// goes on taking more comes out now and then to be looked after.
    fn offer_all(&mut self) -> Result<(), BoxError> {
        while self.batches.first().is_some() && !self.batches.is_timed_out() {
            self.offer()?;
            if self.batches.take_return_asked() {
                self.trim_pool();
                self.reopen_if_asked();
                self.maintain_if_due()?;
            }
        }
        Ok(())
    }

    /// Offers the batches once, and waits if that failed.
    fn offer(&mut self) -> Result<(), BoxError> {
        let before = self.batches.answered();
        let outcome = self.sink.write(&mut self.batches);
        let took_some = self.batches.answered() > before;
        let error = match outcome {
            Ok(()) if took_some => {
                self.has_accepted = true;
                self.log_recovery();
                return Ok(());
            }
            Ok(()) if self.batches.is_return_asked() || self.batches.is_timed_out() => {
                return Ok(());
            }
            // To offer the same batches again at once would only burn the processor.
            Ok(()) => io::Error::other("it took nothing and did not say why"),
            Err(SinkError::Retry(error)) => error,
            Err(SinkError::Fatal(error)) => return Err(self.failed_for_good(&error)),
        };
        let wait = if took_some {
            self.backoff.eased_wait()
        } else {
            self.backoff.next_wait()
        };
        let wait = match self.batches.is_draining() {
            true => wait.min(MAX_WAIT_IN_DRAIN),
            false => wait,
        };
        self.batches.state().retries();
        // The sink itself may have been told to wait for longer.
        let asked = self.batches.next_try_at.take();
        let asked = asked.map(|at| at.saturating_duration_since(Instant::now()));
        let told = wait.max(asked.unwrap_or_default());
        let mend = match self.batches.is_lasting {
            true => "; somebody has to mend that",
            false => "",
        };
        self.count_failure(&error, &format!("{mend}; trying again in {told:.1?}"));
        self.wait_to_retry(wait)
    }

    /// Ends early for what may have mended the sink or leaves no more time: a reopen, the beginning
    /// of the drain, the server's closing, its last deadline.
    fn wait_to_retry(&mut self, wait: Duration) -> Result<(), BoxError> {
        let until = Instant::now() + wait;
        let phase = |batches: &Batches<'_>| (batches.is_draining(), batches.is_closing());
        let begun_in = phase(&self.batches);
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let is_over = left.is_zero() || !self.batches.wait(left.min(TICK));
            let is_reopened = self.reopen_if_asked();
            self.maintain_if_due()?;
            if is_over || is_reopened || phase(&self.batches) != begun_in {
                return Ok(());
            }
        }
    }

    /// A failed reopen keeps what the sink had, and is counted. Says whether the sink was reopened.
    fn reopen_if_asked(&mut self) -> bool {
        if !self.batches.state().take_reopen() {
            return false;
        }
        let name = self.sink.name();
        let logger = self.batches.logger();
        match self.sink.reopen() {
            Ok(true) => {
                logger.log_limited("reopened", Level::Info, || {
                    format!("the sink {name} was reopened")
                });
                true
            }
            Ok(false) => false,
            Err(error) => {
                let error = in_a_line(&error.to_string());
                self.batches.state().count_failed_reopen();
                logger.log_limited("not reopened", Level::Error, || {
                    format!("the sink {name} goes on as it was: reopening failed: {error}")
                });
                false
            }
        }
    }

    fn maintain_if_due(&mut self) -> Result<(), BoxError> {
        if !self.batches.take_return_due() {
            return Ok(());
        }
        match self.sink.maintain(&mut self.batches) {
            Ok(()) => {
                self.log_recovery();
                Ok(())
            }
            Err(SinkError::Retry(error)) => {
                self.count_failure(&error, "");
                Ok(())
            }
            Err(SinkError::Fatal(error)) => Err(self.failed_for_good(&error)),
        }
    }

    fn count_failure(&mut self, error: &io::Error, then: &str) {
        self.has_accepted = false;
        let (name, error) = (self.sink.name(), in_a_line(&error.to_string()));
        self.batches.state().count_failure(&error);
        let text = || format!("the sink {name} failed: {error}{then}");
        let (reason, level) = match std::mem::take(&mut self.batches.is_lasting) {
            true => ("sink to be mended", Level::Error),
            false => ("sink failed", Level::Warn),
        };
        self.batches.logger().log_limited(reason, level, text);
    }

    fn log_recovery(&mut self) {
        if !self.backoff.is_running() || !self.has_accepted || self.batches.is_on_trial() {
            return;
        }
        self.backoff.reset();
        self.batches.state().recovers();
        let name = self.sink.name();
        let text = || format!("the sink {name} takes messages again");
        let logger = self.batches.logger();
        logger.log_limited("sink recovered", Level::Info, text);
    }

    fn failed_for_good(&self, error: &io::Error) -> BoxError {
        let error = in_a_line(&error.to_string());
        self.batches.state().fails_for_good(&error);
        format!("the sink {} failed for good: {error}", self.sink.name()).into()
    }

    /// The last deadline has passed: what is written may end in the middle of a message.
    fn log_half_message(&self) {
        if self.sink.is_inside_message(&self.batches) {
            let name = self.sink.name();
            let text = format!(
                "the sink {name} ends with an incomplete message: the drain had no more time"
            );
            self.batches.logger().log(Level::Warn, text);
        }
    }
}
