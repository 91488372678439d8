//! The shell around [`policy::WeightedSemaphore`](crate::policy::WeightedSemaphore): one lock, park and unpark.
//!
//! The ledger's message counts live under the same lock, so `received = delivered + dropped + in flight`
//! holds whenever anybody looks. One lock for a batch on its way in, one on its way out, none for a
//! message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::connection_state::{ConnectionState, WaitState};
use super::running_clock::RunningClock;
use crate::policy::{Acquire, Activity, Breach, Cancel, Sample, Weight, WeightedSemaphore};
use crate::server::ledger::{Counters, DropReason, EndReason};

/// A park is checked again at least this often; it is woken by unpark long before.
const MAX_PARK: Duration = Duration::from_secs(3600);

/// The message side of the ledger, as one consistent reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: Counters<DropReason>,
    pub(crate) in_flight: u64,
    pub(crate) used: Weight,
    pub(crate) waiting: usize,
    /// Handlers and messages lost because the buffer was full: what the overload sheds by.
    pub(crate) lost_to_full: u64,
}

/// What became of a request for room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// Taken. The item must be put into the channel.
    Granted,
    /// None: the message is booked as dropped, for this reason.
    Refused(DropReason),
}

/// Why a sender that does not wait has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    Busy,
    TooHeavy,
    Ended,
}

/// What happens to a sender that finds no room.
#[derive(Clone, Copy, Debug)]
pub(crate) enum SendWait {
    /// Wait this long, then end the connection.
    AbortAfter(Duration),
    /// Wait this long, then drop the message.
    DropAfter(Duration),
    /// Do not wait; drop the message.
    Never,
    /// Wait as long as it takes.
    Forever,
}

#[derive(Debug)]
struct Inner {
    semaphore: WeightedSemaphore<Arc<ConnectionState>>,
    received: u64,
    delivered: u64,
    dropped: Counters<DropReason>,
    lost_to_full: u64,
    /// What a message is booked as that comes after the close, or was in line at it.
    closed_for: DropReason,
    /// What a message is booked as that the consumer lets go of undone.
    nacked_as: DropReason,
}

#[derive(Debug)]
pub(crate) struct Quota {
    inner: Mutex<Inner>,
    /// Items in the consumer's hands.
    held: AtomicU64,
    /// The drain's deadline has passed: the receiver is closed, whatever is still in it.
    timed_out: AtomicBool,
    /// The log was told of the first item that was let go of without a word.
    nacked: AtomicBool,
    wake_consumer: Sender<()>,
    /// What senders' patience is held against.
    clock: RunningClock,
}

impl Quota {
    /// The quota, and what wakes its consumer when somebody begins to wait or the quota is closed.
    pub(crate) fn new(limit: Weight) -> (Quota, Receiver<()>) {
        let (wake_consumer, wakes) = bounded(1);
        let inner = Inner {
            semaphore: WeightedSemaphore::new(limit),
            received: 0,
            delivered: 0,
            dropped: Counters::default(),
            lost_to_full: 0,
            closed_for: DropReason::Shutdown,
            nacked_as: DropReason::SinkFailed,
        };
        let quota = Quota {
            inner: Mutex::new(inner),
            held: AtomicU64::new(0),
            timed_out: AtomicBool::new(false),
            nacked: AtomicBool::new(false),
            wake_consumer,
            clock: RunningClock::new(),
        };
        (quota, wakes)
    }

    // ---- the way in

    /// Books `weight` as received and gets room for it, or books it as dropped. Blocks as `patience` says,
    /// parked; a grant, an abort and a close each wake it. The clock is read only when a wait begins, and stands
    /// still while the process does.
    pub(crate) fn acquire(
        &self,
        state: &Arc<ConnectionState>,
        weight: Weight,
        send_wait: SendWait,
    ) -> Acquired {
        {
            let mut inner = self.inner.lock();
            inner.received += weight.messages;
            if let Some(end) = state.ended().filter(|&end| refuses_sends(end)) {
                // What it had read behind the message that was in line.
                if end == EndReason::SendTimeout {
                    inner.lost_to_full += weight.messages;
                }
                return inner.refuse(drop_reason(end), weight.messages);
            }
            let waits = !matches!(send_wait, SendWait::Never);
            match inner.semaphore.acquire(weight, waits, || Arc::clone(state)) {
                Acquire::Granted => return Acquired::Granted,
                Acquire::Queued(ticket) => *state.wait.lock() = WaitState::Queued(ticket),
                Acquire::Busy => {
                    inner.lost_to_full += weight.messages;
                    return inner.refuse(DropReason::Full, weight.messages);
                }
                Acquire::TooHeavy => return inner.refuse(DropReason::Oversize, weight.messages),
                Acquire::Closed => {
                    let reason = inner.closed_for;
                    return inner.refuse(reason, weight.messages);
                }
            }
        }
        let _ = self.wake_consumer.try_send(());
        // A consumer that only wants for a processor has room for us when we are back, and need not wake us: a
        // park and its wake-up cost several times what this does.
        std::thread::yield_now();
        self.wait_in_line(state, send_wait)
    }

    /// Gets room for `weight` if there is some at once, and books it as received then. Books nothing
    /// otherwise.
    pub(crate) fn try_acquire(
        &self,
        state: &Arc<ConnectionState>,
        weight: Weight,
    ) -> Result<(), Unavailable> {
        let mut inner = self.inner.lock();
        if state.ended().is_some_and(refuses_sends) {
            return Err(Unavailable::Ended);
        }
        match inner.semaphore.acquire(weight, false, || Arc::clone(state)) {
            Acquire::Granted => {
                inner.received += weight.messages;
                Ok(())
            }
            Acquire::Busy | Acquire::Queued(_) => Err(Unavailable::Busy),
            Acquire::TooHeavy => Err(Unavailable::TooHeavy),
            Acquire::Closed => Err(Unavailable::Ended),
        }
    }

    fn wait_in_line(&self, state: &Arc<ConnectionState>, send_wait: SendWait) -> Acquired {
        let until = match send_wait {
            SendWait::AbortAfter(wait) | SendWait::DropAfter(wait) => {
                self.clock.now().checked_add(wait)
            }
            SendWait::Forever | SendWait::Never => None,
        };
        state.enter(Activity::Sending);
        let acquired = loop {
            let wait = *state.wait.lock();
            match wait {
                WaitState::Queued(_) => {}
                WaitState::Granted => break Acquired::Granted,
                WaitState::Refused(reason) => break Acquired::Refused(reason),
                // Nobody takes a state out of line without saying why, so this cannot be.
                WaitState::None => break Acquired::Refused(DropReason::ConnectionClosed),
            }
            // A park is timed by the kernel, whose clock runs on while the process is stopped: what is left is looked
            // at again after it.
            let left = until.map_or(MAX_PARK, |until| until.saturating_sub(self.clock.now()));
            if left.is_zero() {
                self.give_up(state, send_wait);
            } else {
                std::thread::park_timeout(left.min(MAX_PARK));
            }
        };
        *state.wait.lock() = WaitState::None;
        state.enter(Activity::Working);
        acquired
    }

    /// The wait is over: leave the line, unless a grant came first.
    fn give_up(&self, state: &ConnectionState, send_wait: SendWait) {
        let (reason, ends) = match send_wait {
            SendWait::AbortAfter(_) => (DropReason::ConnectionClosed, Some(EndReason::SendTimeout)),
            _ => (DropReason::Full, None),
        };
        let wake = self.inner.lock().leave(state, reason, true);
        if let (Some(_), Some(end)) = (&wake, ends) {
            state.end(end);
        }
        wake_all(wake.unwrap_or_default());
    }

    /// Sets why a connection ended, takes it out of line and books what it had there. Says whether this
    /// was its first end; waking its socket is the caller's.
    pub(crate) fn abort(&self, state: &ConnectionState, reason: EndReason) -> bool {
        let (first, wake) = {
            let mut inner = self.inner.lock();
            // Under the lock: a send looks at it there before it queues, so none slips in between.
            let first = state.end(reason);
            (first, inner.leave(state, drop_reason(reason), false))
        };
        wake_all(wake.unwrap_or_default());
        first
    }

    /// [`abort`](Quota::abort) for all of them, under one lock: while thousands send, each lock has a line before it.
    pub(crate) fn abort_all(&self, states: &[Arc<ConnectionState>], reason: EndReason) {
        let mut woken = Vec::new();
        let mut inner = self.inner.lock();
        for state in states {
            state.end(reason);
            woken.extend(
                inner
                    .leave(state, drop_reason(reason), false)
                    .unwrap_or_default(),
            );
        }
        drop(inner);
        wake_all(woken);
    }

    /// Ends a connection that is past a deadline, unless it has come on since it was `seen` so. Decided under the
    /// lock under which sends semaphore: whoever is in line has read since, and is not judged by what it showed before.
    /// Says whether it was ended; waking its socket is the caller's.
    pub(crate) fn expire(
        &self,
        state: &ConnectionState,
        reason: EndReason,
        breach: Breach,
        seen: &Sample,
    ) -> bool {
        let _inner = self.inner.lock();
        let is_in_line = *state.wait.lock() != WaitState::None;
        !is_in_line && breach.still_holds(seen, &state.sample()) && state.end(reason)
    }

    /// The watchdog's tick: what moves the clock of those who wait.
    pub(crate) fn tick(&self) {
        self.clock.tick();
    }

    /// Books messages that never reach a send: received, and dropped.
    pub(crate) fn dropped(&self, reason: DropReason, messages: u64) {
        let mut inner = self.inner.lock();
        inner.received += messages;
        inner.dropped.add(reason, messages);
    }

    /// Books messages that are not sent any more after a send that was refused: received, and dropped for the same
    /// reason.
    pub(crate) fn dropped_after(&self, state: &ConnectionState, messages: u64) {
        let mut inner = self.inner.lock();
        let reason = match state.ended().filter(|&end| refuses_sends(end)) {
            Some(end) => drop_reason(end),
            None => inner.closed_for,
        };
        inner.received += messages;
        inner.dropped.add(reason, messages);
    }

    /// Takes back a grant whose item could not be put into the channel.
    pub(crate) fn undo(&self, weight: Weight, reason: DropReason) {
        self.settle(weight, |inner| inner.dropped.add(reason, weight.messages));
    }

    // ---- the way out

    /// The consumer took an item into its hands.
    pub(crate) fn picked_up(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// The consumer said that part of an item is delivered.
    pub(crate) fn delivered_some(&self, messages: u64) {
        let wake = {
            let mut inner = self.inner.lock();
            inner.delivered += messages;
            let woken = inner.semaphore.give_back(Weight { messages, bytes: 0 });
            Inner::granted(woken)
        };
        wake_all(wake);
    }

    /// The consumer said that the rest of an item is delivered.
    pub(crate) fn delivered(&self, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(rest, |inner| inner.delivered += rest.messages);
    }

    /// The consumer let go of the rest of an item without saying so.
    pub(crate) fn nack(&self, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(rest, |inner| {
            inner.dropped.add(inner.nacked_as, rest.messages)
        });
    }

    /// The consumer said that the rest of an item can never be delivered.
    pub(crate) fn refused(&self, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(rest, |inner| {
            inner.dropped.add(DropReason::Refused, rest.messages);
        });
    }

    /// Whether a consumer has let go of an item without a word for the first time.
    pub(crate) fn is_first_nack(&self) -> bool {
        let inner = self.inner.lock();
        inner.dropped.get(DropReason::SinkFailed) > 0 && !self.nacked.swap(true, Ordering::Relaxed)
    }

    fn settle(&self, rest: Weight, book: impl FnOnce(&mut Inner)) {
        let wake = {
            let mut inner = self.inner.lock();
            book(&mut inner);
            let woken = inner.semaphore.finish(rest);
            Inner::granted(woken)
        };
        wake_all(wake);
    }

    // ---- ends

    /// Refuses every later send and ends every waiting one. What is in the buffer stays.
    pub(crate) fn close(&self, reason: DropReason) {
        let wake = {
            let mut inner = self.inner.lock();
            if inner.semaphore.is_closed() {
                return;
            }
            inner.closed_for = reason;
            let (messages, woken) = inner.semaphore.close();
            inner.dropped.add(reason, messages);
            Inner::out_of_line(woken, WaitState::Refused(reason))
        };
        wake_all(wake);
        let _ = self.wake_consumer.try_send(());
    }

    /// From now on the receiver is closed even with something in it, and what is let go of is booked as
    /// shut down.
    pub(crate) fn time_out(&self) {
        self.close(DropReason::Shutdown);
        let mut inner = self.inner.lock();
        if inner.closed_for == DropReason::Shutdown {
            inner.nacked_as = DropReason::Shutdown;
        }
        drop(inner);
        self.timed_out.store(true, Ordering::Release);
        let _ = self.wake_consumer.try_send(());
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().semaphore.is_closed()
    }

    pub(crate) fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    /// Closed, and everything that was granted is in the consumer's hands: nothing more can come.
    pub(crate) fn is_dry(&self) -> bool {
        let inner = self.inner.lock();
        inner.semaphore.is_closed() && inner.semaphore.items() <= self.held.load(Ordering::Relaxed)
    }

    /// Messages that are through, delivered or not.
    pub(crate) fn finished(&self) -> u64 {
        let inner = self.inner.lock();
        inner.delivered + inner.dropped.total()
    }

    /// Somebody waits for room that is in the consumer's hands.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0 && self.inner.lock().semaphore.waiting() > 0
    }

    pub(crate) fn counts(&self) -> Counts {
        let inner = self.inner.lock();
        Counts {
            received: inner.received,
            delivered: inner.delivered,
            dropped: inner.dropped,
            in_flight: inner.semaphore.in_flight(),
            used: inner.semaphore.used(),
            waiting: inner.semaphore.waiting(),
            lost_to_full: inner.lost_to_full,
        }
    }
}

impl Inner {
    fn refuse(&mut self, reason: DropReason, messages: u64) -> Acquired {
        self.dropped.add(reason, messages);
        Acquired::Refused(reason)
    }

    /// Takes a state out of line, books what it had there, and serves the new head. `None`: it was not in
    /// line any more, and whatever took it out has won.
    fn leave(
        &mut self,
        state: &ConnectionState,
        reason: DropReason,
        full: bool,
    ) -> Option<Vec<Arc<ConnectionState>>> {
        let mut wait = state.wait.lock();
        let WaitState::Queued(ticket) = *wait else {
            return None;
        };
        let Cancel::Left(weight, woken) = self.semaphore.cancel(ticket) else {
            return None;
        };
        *wait = WaitState::Refused(reason);
        drop(wait);
        self.dropped.add(reason, weight.messages);
        if full {
            self.lost_to_full += weight.messages;
        }
        Some(Self::granted(woken))
    }

    fn granted(woken: Vec<Arc<ConnectionState>>) -> Vec<Arc<ConnectionState>> {
        Self::out_of_line(woken, WaitState::Granted)
    }

    fn out_of_line(woken: Vec<Arc<ConnectionState>>, wait: WaitState) -> Vec<Arc<ConnectionState>> {
        for state in &woken {
            *state.wait.lock() = wait;
        }
        woken
    }
}

/// A deadline that was the peer's ends reading and replying. What had been read by then is still sent: the read
/// may have come back while the verdict was on its way.
fn refuses_sends(end: EndReason) -> bool {
    !matches!(
        end,
        EndReason::FrameTimeout
            | EndReason::IdleTimeout
            | EndReason::FirstByteTimeout
            | EndReason::WriteTimeout
    )
}

/// What the messages of a connection are booked as that ended for this reason.
fn drop_reason(end: EndReason) -> DropReason {
    if end == EndReason::Shutdown {
        DropReason::Shutdown
    } else {
        DropReason::ConnectionClosed
    }
}

/// After the lock is released: a woken thread would only run into it.
fn wake_all(states: Vec<Arc<ConnectionState>>) {
    for state in states {
        state.unpark();
    }
}

#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
