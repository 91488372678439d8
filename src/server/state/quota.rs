//! Who may put how much into the buffer: the lock and the waiting around
//! [`policy::WeightedSemaphore`](crate::policy::WeightedSemaphore).
//!
//! The ledger's message counts are under the same lock, so
//! `received = delivered + dropped + in flight` holds in every reading. A batch takes the lock once
//! on its way in and once on its way out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::connection_state::{ConnectionState, WaitState};
use super::running_clock::RunningClock;
use crate::policy::{Acquire, Activity, Breach, Cancel, Sample, Weight, WeightedSemaphore};
use crate::server::deadline::{Deadline, MAX_PARK};
use crate::server::ledger::{Counters, DropReason, EndReason};

/// The message side of the ledger, of one listener's connections.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct MessageCounts {
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: Counters<DropReason>,
    /// Granted or waiting, by this row's own count, which wraps below 0 where a booking was left
    /// out. All rows together are the semaphore's.
    pub(crate) in_flight: u64,
}

/// The message side of the ledger, as one consistent reading.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) delivered: u64,
    pub(crate) dropped: Counters<DropReason>,
    pub(crate) in_flight: u64,
    pub(crate) used: Weight,
    pub(crate) waiting: usize,
    /// Messages lost because the buffer was full, which make the overload level shedding.
    pub(crate) lost_to_full: u64,
    /// Messages that the drain cut: all that are dropped by the shutdown, but for those of which a
    /// handler says so itself.
    pub(crate) cut: u64,
}

/// The outcome of a request for capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acquired {
    /// The capacity is taken, and the item must be put into the channel.
    Granted,
    /// No capacity was given, and the messages are counted as dropped for this reason.
    Refused(DropReason),
}

/// Why a sender that does not wait gets no capacity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unavailable {
    Busy,
    TooHeavy,
    Ended,
}

/// What a sender does while the buffer is full.
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
    /// By the index of the listener.
    rows: Vec<MessageCounts>,
    lost_to_full: u64,
    /// The drop reason of messages that waited at the close or come after it.
    closed_for: DropReason,
    /// The drop reason of messages that the consumer drops without an ack.
    nacked_as: DropReason,
    /// Messages that handlers have dropped by the shutdown, by their own word.
    given_up: u64,
    /// Messages that the books have left in flight, once they are closed: none, unless a booking
    /// was left out.
    closed_with: Option<u64>,
}

#[derive(Debug)]
pub(crate) struct Quota {
    inner: Mutex<Inner>,
    /// Items that the consumer has received and neither acknowledged nor dropped.
    held: AtomicU64,
    /// The drain has begun.
    draining: AtomicBool,
    /// The drain's deadline has passed: the receiver is closed even if the buffer is not empty.
    timed_out: AtomicBool,
    /// When that will be.
    last_deadline: Mutex<Deadline>,
    /// The first delivery that was dropped without an ack has been logged.
    nacked: AtomicBool,
    wake_consumer: Sender<()>,
    /// What the timeouts of sends and of writers are measured by.
    clock: RunningClock,
}

impl Quota {
    /// The quota, and a channel that wakes the consumer when a sender begins to wait or the quota
    /// is closed.
    pub(crate) fn new(limit: Weight, listeners: usize) -> (Quota, Receiver<()>) {
        let (wake_consumer, wakes) = bounded(1);
        let inner = Inner {
            semaphore: WeightedSemaphore::new(limit),
            rows: vec![MessageCounts::default(); listeners],
            lost_to_full: 0,
            closed_for: DropReason::Shutdown,
            nacked_as: DropReason::SinkFailed,
            given_up: 0,
            closed_with: None,
        };
        let quota = Quota {
            inner: Mutex::new(inner),
            held: AtomicU64::new(0),
            draining: AtomicBool::new(false),
            timed_out: AtomicBool::new(false),
            last_deadline: Mutex::new(Deadline::NEVER),
            nacked: AtomicBool::new(false),
            wake_consumer,
            clock: RunningClock::new(),
        };
        (quota, wakes)
    }

    // ---- into the buffer

    /// Counts `weight` as received, and takes capacity for it or counts it as dropped. While the
    /// buffer is full, blocks as `send_wait` says; a grant, an abort and a close end the wait. The
    /// clock is read only when a wait begins, and stands still while the process is stopped.
    pub(crate) fn acquire(
        &self,
        state: &Arc<ConnectionState>,
        weight: Weight,
        send_wait: SendWait,
    ) -> Acquired {
        let listener = state.listener.index();
        {
            let mut inner = self.inner.lock();
            inner.rows[listener].received += weight.messages;
            if let Some(end) = state.ended().filter(|&end| refuses_sends(end)) {
                // These messages were read along with the one whose wait was too long.
                if end == EndReason::SendTimeout {
                    inner.lost_to_full += weight.messages;
                }
                return inner.refuse(listener, drop_reason(end), weight.messages);
            }
            let answer = match send_wait {
                SendWait::Never => inner.semaphore.try_acquire(weight),
                _ => inner.semaphore.acquire(weight, || Arc::clone(state)),
            };
            match answer {
                Acquire::Granted => {
                    inner.rows[listener].in_flight += weight.messages;
                    return Acquired::Granted;
                }
                Acquire::Queued(ticket) => {
                    inner.rows[listener].in_flight += weight.messages;
                    *state.wait.lock() = WaitState::Queued(ticket);
                }
                Acquire::Busy => {
                    inner.lost_to_full += weight.messages;
                    return inner.refuse(listener, DropReason::Full, weight.messages);
                }
                Acquire::TooHeavy => {
                    return inner.refuse(listener, DropReason::Oversize, weight.messages);
                }
                Acquire::Closed => {
                    let reason = inner.closed_for;
                    return inner.refuse(listener, reason, weight.messages);
                }
            }
        }
        let _ = self.wake_consumer.try_send(());
        // A consumer that only lacked a processor has freed capacity by the time this thread runs
        // again. A park and its wake-up cost several times as much as a yield.
        std::thread::yield_now();
        self.wait_in_line(state, send_wait)
    }

    /// Takes capacity for `weight` and counts it as received, if the buffer has enough. Counts
    /// nothing otherwise. Never waits for capacity.
    pub(crate) fn try_acquire(
        &self,
        state: &Arc<ConnectionState>,
        weight: Weight,
    ) -> Result<(), Unavailable> {
        let mut inner = self.inner.lock();
        if state.ended().is_some_and(refuses_sends) {
            return Err(Unavailable::Ended);
        }
        match inner.semaphore.try_acquire(weight) {
            Acquire::Granted => {
                let row = &mut inner.rows[state.listener.index()];
                row.received += weight.messages;
                row.in_flight += weight.messages;
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
                // Unreachable: whoever ends a wait stores the outcome.
                WaitState::None => break Acquired::Refused(DropReason::ConnectionClosed),
            }
            // The kernel times the park, and its clock runs on while the process is stopped. So the
            // time left is computed again after each park.
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

    /// Ends a wait whose time is over, unless a grant came first.
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

    /// Sets why a connection ended, ends its wait and counts what waited as dropped. Returns
    /// whether this was the first end. The caller shuts the socket down.
    pub(crate) fn abort(&self, state: &ConnectionState, reason: EndReason) -> bool {
        let (first, wake) = {
            let mut inner = self.inner.lock();
            // Set under the lock under which a send checks for it and queues, so that no send
            // queues afterwards.
            let first = state.end(reason);
            (first, inner.leave(state, drop_reason(reason), false))
        };
        wake_all(wake.unwrap_or_default());
        first
    }

    /// As [`abort`](Quota::abort), for many connections. Locks once, because every lock has to wait
    /// behind thousands of senders.
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

    /// Ends a connection that missed a deadline, unless it has made progress since it was `seen`.
    /// Returns whether it was ended. The caller shuts the socket down.
    ///
    /// Decided under the lock under which sends are queued: a connection that waits for the buffer
    /// has read since, and is not judged by what it showed before.
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

    /// The watchdog's tick, which moves the clock of send timeouts.
    pub(crate) fn tick(&self) {
        self.clock.tick();
    }

    /// The time by which deadlines of sends and of writers are measured, which stands still while
    /// the process is stopped.
    pub(crate) fn running_time(&self) -> Duration {
        self.clock.now()
    }

    /// Counts messages that are dropped before they are sent, as received and as dropped.
    pub(crate) fn dropped(&self, state: &ConnectionState, reason: DropReason, messages: u64) {
        let mut inner = self.inner.lock();
        if reason == DropReason::Shutdown {
            inner.given_up += messages;
        }
        let row = &mut inner.rows[state.listener.index()];
        row.received += messages;
        row.dropped.add(reason, messages);
    }

    /// Counts messages that are not sent because an earlier send was refused: as received, and as
    /// dropped for the same reason.
    pub(crate) fn dropped_after(&self, state: &ConnectionState, messages: u64) {
        let mut inner = self.inner.lock();
        let reason = match state.ended().filter(|&end| refuses_sends(end)) {
            Some(end) => drop_reason(end),
            None => inner.closed_for,
        };
        let row = &mut inner.rows[state.listener.index()];
        row.received += messages;
        row.dropped.add(reason, messages);
    }

    /// Returns the capacity of an item that could not be put into the channel, and counts it as
    /// dropped.
    pub(crate) fn undo(&self, listener: usize, weight: Weight, reason: DropReason) {
        self.settle(listener, weight, |row, _| {
            row.dropped.add(reason, weight.messages);
        });
    }

    // ---- out of the buffer

    /// The consumer has received an item.
    pub(crate) fn picked_up(&self) {
        self.held.fetch_add(1, Ordering::Relaxed);
    }

    /// The consumer acknowledged some messages of an item.
    pub(crate) fn delivered_some(&self, listener: usize, messages: u64) {
        self.settle_some(listener, messages, |row| row.delivered += messages);
    }

    /// The consumer refused some messages of an item, which can never be delivered.
    pub(crate) fn refused_some(&self, listener: usize, messages: u64) {
        self.settle_some(listener, messages, |row| {
            row.dropped.add(DropReason::Refused, messages);
        });
    }

    /// Returns the capacity in messages of a part of an item; that in bytes comes back with its
    /// rest.
    fn settle_some(&self, listener: usize, messages: u64, book: impl FnOnce(&mut MessageCounts)) {
        let wake = {
            let mut inner = self.inner.lock();
            if inner.closed_with.is_none() {
                let row = &mut inner.rows[listener];
                book(row);
                row.in_flight = row.in_flight.wrapping_sub(messages);
            }
            let woken = inner.semaphore.give_back(Weight { messages, bytes: 0 });
            Inner::granted(woken)
        };
        wake_all(wake);
    }

    /// The consumer acknowledged the rest of an item.
    pub(crate) fn delivered(&self, listener: usize, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(listener, rest, |row, _| row.delivered += rest.messages);
    }

    /// The consumer dropped the rest of an item without an ack.
    pub(crate) fn nack(&self, listener: usize, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(listener, rest, |row, nacked_as| {
            row.dropped.add(nacked_as, rest.messages);
        });
    }

    /// The consumer refused the rest of an item, which can never be delivered.
    pub(crate) fn refused(&self, listener: usize, rest: Weight) {
        self.held.fetch_sub(1, Ordering::Relaxed);
        self.settle(listener, rest, |row, _| {
            row.dropped.add(DropReason::Refused, rest.messages);
        });
    }

    /// Whether the consumer has dropped an item without an ack; `true` only once.
    pub(crate) fn is_first_nack(&self) -> bool {
        let has_nacked = |row: &MessageCounts| row.dropped.get(DropReason::SinkFailed) > 0;
        let has_nacked = self.inner.lock().rows.iter().any(has_nacked);
        has_nacked && !self.nacked.swap(true, Ordering::Relaxed)
    }

    /// Returns the capacity of what is left of an item. `book` is given the row of its listener and
    /// the drop reason of items without an ack.
    fn settle(
        &self,
        listener: usize,
        rest: Weight,
        book: impl FnOnce(&mut MessageCounts, DropReason),
    ) {
        let wake = {
            let inner = &mut *self.inner.lock();
            if inner.closed_with.is_none() {
                let row = &mut inner.rows[listener];
                row.in_flight = row.in_flight.wrapping_sub(rest.messages);
                book(row, inner.nacked_as);
            }
            let woken = inner.semaphore.finish(rest);
            Inner::granted(woken)
        };
        wake_all(wake);
    }

    // ---- closing

    /// Whoever waits before a next try is to try now: senders that wait have little time left.
    pub(crate) fn begin_drain(&self) {
        self.draining.store(true, Ordering::Release);
        let _ = self.wake_consumer.try_send(());
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses every later send and ends every wait. Messages in the buffer stay there.
    pub(crate) fn close(&self, reason: DropReason) {
        let wake = {
            let mut inner = self.inner.lock();
            if inner.semaphore.is_closed() {
                return;
            }
            inner.closed_for = reason;
            let line = inner.semaphore.close();
            for (weight, state) in &line {
                inner.rows[state.listener.index()].drop_waiting(reason, weight.messages);
            }
            let woken = line.into_iter().map(|(_, state)| state).collect();
            Inner::out_of_line(woken, WaitState::Refused(reason))
        };
        wake_all(wake);
        let _ = self.wake_consumer.try_send(());
    }

    /// From now on the receiver is closed even if the buffer is not empty, and items without an ack
    /// are counted as dropped by the shutdown.
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

    /// The server is over. What is in flight is in the hands of threads that were left behind: it
    /// is counted as items without an ack are, and what these threads still say of it counts for
    /// nothing.
    pub(crate) fn close_books(&self) {
        let inner = &mut *self.inner.lock();
        let mut left = inner.semaphore.in_flight();
        for row in &mut inner.rows {
            // A row that lacks a booking may have wrapped below 0, and has to show.
            if row.in_flight <= left {
                left -= row.in_flight;
                row.dropped.add(inner.nacked_as, row.in_flight);
                row.in_flight = 0;
            }
        }
        inner.closed_with.get_or_insert(left);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.inner.lock().semaphore.is_closed()
    }

    pub(crate) fn is_timed_out(&self) -> bool {
        self.timed_out.load(Ordering::Acquire)
    }

    /// When the drain's last deadline will be.
    pub(in crate::server) fn set_last_deadline(&self, deadline: Deadline) {
        *self.last_deadline.lock() = deadline;
    }

    /// What is left until the drain's last deadline, at most `cap`.
    pub(crate) fn time_left(&self, cap: Duration) -> Duration {
        let deadline = *self.last_deadline.lock();
        deadline.remaining(cap).unwrap_or_default()
    }

    /// Whether the consumer will never receive anything again: the quota is closed, and the
    /// consumer has received every item that was granted.
    pub(crate) fn is_dry(&self) -> bool {
        let inner = self.inner.lock();
        inner.semaphore.is_closed() && inner.semaphore.items() <= self.held.load(Ordering::Relaxed)
    }

    /// The number of messages that were delivered or dropped.
    pub(crate) fn finished(&self) -> u64 {
        let inner = self.inner.lock();
        let finished = |row: &MessageCounts| row.delivered + row.dropped.total();
        inner.rows.iter().map(finished).sum()
    }

    /// Whether a sender waits while the consumer holds items that would free capacity.
    pub(crate) fn waits_for_consumer(&self) -> bool {
        self.held.load(Ordering::Relaxed) > 0 && self.inner.lock().semaphore.waiting() > 0
    }

    pub(crate) fn counts(&self) -> Counts {
        self.inner.lock().counts()
    }

    /// All counts, and those of each listener by its index.
    pub(crate) fn read(&self) -> (Counts, Vec<MessageCounts>) {
        let inner = self.inner.lock();
        (inner.counts(), inner.rows.clone())
    }
}

impl MessageCounts {
    /// A send's wait was ended.
    fn drop_waiting(&mut self, reason: DropReason, messages: u64) {
        self.in_flight = self.in_flight.wrapping_sub(messages);
        self.dropped.add(reason, messages);
    }
}

impl Inner {
    fn counts(&self) -> Counts {
        let mut counts = Counts {
            in_flight: (self.closed_with).unwrap_or_else(|| self.semaphore.in_flight()),
            used: self.semaphore.used(),
            waiting: self.semaphore.waiting(),
            lost_to_full: self.lost_to_full,
            ..Counts::default()
        };
        for row in &self.rows {
            counts.received += row.received;
            counts.delivered += row.delivered;
            counts.dropped.add_all(&row.dropped);
        }
        counts.cut = counts.dropped.get(DropReason::Shutdown) - self.given_up;
        counts
    }

    fn refuse(&mut self, listener: usize, reason: DropReason, messages: u64) -> Acquired {
        self.rows[listener].dropped.add(reason, messages);
        Acquired::Refused(reason)
    }

    /// Ends a connection's wait, counts what waited as dropped, and serves the next ones in line.
    /// Returns the connections to wake. `None` if the connection did not wait any more, because a
    /// grant or another end came first.
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
        self.rows[state.listener.index()].drop_waiting(reason, weight.messages);
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

/// Whether a connection with this end must not send. The peer's own deadlines only end reading and
/// replying: a read may have returned while the watchdog decided, and what it brought is still
/// sent.
fn refuses_sends(end: EndReason) -> bool {
    !matches!(
        end,
        EndReason::FrameTimeout
            | EndReason::IdleTimeout
            | EndReason::FirstByteTimeout
            | EndReason::WriteTimeout
    )
}

/// The drop reason of messages whose connection ended for this reason.
fn drop_reason(end: EndReason) -> DropReason {
    if end == EndReason::Shutdown {
        DropReason::Shutdown
    } else {
        DropReason::ConnectionClosed
    }
}

/// Must be called without the quota's lock, which a woken thread asks for next.
fn wake_all(states: Vec<Arc<ConnectionState>>) {
    for state in states {
        state.unpark();
    }
}

#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
