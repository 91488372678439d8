//! The receiving end of the buffer, which the consumer holds.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use crossbeam_channel::{TryRecvError, select};

use super::notifier::Notices;
use super::sender::Envelope;
use crate::policy::{Linger, Weight};
use crate::server::deadline::Deadline;
use crate::server::error::{BoxError, Fatal};
use crate::server::state::consumer_state::ConsumerState;
use crate::server::state::logger::Logger;
use crate::server::state::quota::Quota;

/// A blocked receive checks for a closed or timed-out quota at least this often.
const SLICE: Duration = Duration::from_millis(100);

/// What [`Receiver::recv`] returns.
///
/// A consumer has to do something in each of these cases, so the compiler is to check that a match
/// has them all: a new case would come with a new major version.
#[derive(Debug)]
pub enum Received<T> {
    /// A message. Call [`ack`](Delivery::ack) when it is delivered.
    Message(Delivery<T>),
    /// Nothing came in time.
    Timeout,
    /// A send waits for the buffer while deliveries that you have not acknowledged take its
    /// capacity: finish those first.
    RoomWanted,
    /// No message will come any more: finish what you hold and return.
    Closed,
}

/// What a wait for a message or a notice brought.
#[derive(Debug)]
pub(crate) enum Noticed<T> {
    Received(Received<T>),
    /// Another thread has given notice ([`Notices`]).
    Notice,
}

/// The receiving end of the buffer. There is one, and the consumer holds it.
///
/// A receiver can only receive, and cannot be cloned. This compiles:
///
/// ```
/// fn receive(receiver: &mut drainline::Receiver<String>) {
///     let _ = receiver.recv(std::time::Duration::ZERO);
/// }
/// ```
/// and neither of these does:
/// ```compile_fail
/// fn twice(receiver: &drainline::Receiver<String>) -> drainline::Receiver<String> {
///     receiver.clone() // a &Receiver: there is no other one to be had
/// }
/// ```
/// ```compile_fail
/// fn send(receiver: &drainline::Receiver<String>) {
///     let _ = receiver.send(String::new()); // no such method
/// }
/// ```
pub struct Receiver<T> {
    channel: channel::Receiver<Box<Envelope<T>>>,
    wakes: channel::Receiver<()>,
    pub(super) quota: Arc<Quota>,
    pub(super) state: Arc<ConsumerState>,
    logger: Logger,
    linger: Option<Linger>,
    started: Instant,
    /// When `RoomWanted` was last returned, and the number of messages finished by then.
    room_wanted: Option<(Instant, u64)>,
}

impl<T> Receiver<T> {
    pub(crate) fn new(
        channel: channel::Receiver<Box<Envelope<T>>>,
        wakes: channel::Receiver<()>,
        quota: Arc<Quota>,
        state: Arc<ConsumerState>,
        logger: Logger,
        linger: Option<Linger>,
    ) -> Self {
        Receiver {
            channel,
            wakes,
            quota,
            state,
            logger,
            linger,
            started: Instant::now(),
            room_wanted: None,
        }
    }

    /// Receives the next message. Blocks until one comes, at most `timeout`.
    ///
    /// Returns [`Received::RoomWanted`] before that, or at once, when a send waits for capacity
    /// that your deliveries take: finish them before you receive again. While none of them is
    /// finished, `RoomWanted` is returned at most ten times a second, so a consumer that leaves
    /// them to another thread may simply go on receiving.
    pub fn recv(&mut self, timeout: Duration) -> Received<T> {
        self.recv_by(Deadline::after(timeout))
    }

    /// As [`recv`](Receiver::recv), but blocks until an instant: for a consumer with its own timer.
    /// After that instant [`Received::Timeout`] comes first, though messages are in the buffer, so
    /// that a flood of them does not hold up the timer: set the next instant before you receive
    /// again.
    pub fn recv_until(&mut self, until: Instant) -> Received<T> {
        if Instant::now() >= until {
            return Received::Timeout;
        }
        self.recv_by(Deadline::at(until))
    }

    fn recv_by(&mut self, until: Deadline) -> Received<T> {
        match self.recv_waiting(until, &channel::never()) {
            Noticed::Received(received) => received,
            // Unreachable: nobody can give that notice.
            Noticed::Notice => Received::Timeout,
        }
    }

    /// As [`recv`](Receiver::recv), but a notice ends the wait, too. Once the receiver is closed it
    /// does not wait: whoever waits for answers goes on with
    /// [`wait_for_notice`](Receiver::wait_for_notice).
    pub(crate) fn recv_or_notice(&mut self, timeout: Duration, notices: &Notices) -> Noticed<T> {
        self.recv_waiting(Deadline::after(timeout), notices.receiver())
    }

    fn recv_waiting(&mut self, until: Deadline, notices: &channel::Receiver<()>) -> Noticed<T> {
        self.state.waits();
        let received = self.next(until, notices);
        self.state.works();
        received
    }

    /// Blocks until notice is given, at most `timeout`, and receives nothing meanwhile. Says
    /// whether it was given.
    pub(crate) fn wait_for_notice(&mut self, timeout: Duration, notices: &Notices) -> bool {
        self.state.waits();
        let is_given = notices.receiver().recv_timeout(timeout).is_ok();
        self.state.works();
        is_given
    }

    /// Receives several messages at once, for a consumer that works in batches, such as
    /// transactions. Blocks for the first as [`recv`](Receiver::recv) does, at most `timeout`, and
    /// takes what else is there, `max` messages at most and one at least.
    ///
    /// The vector is empty if nothing came in time, or if a send waits for capacity that deliveries
    /// you still hold take. `None`: no message will come any more, return. The vector's memory is
    /// yours, and not part of the limits.
    ///
    /// ```
    /// use std::time::Duration;
    /// use drainline::{BoxError, Receiver};
    ///
    /// fn consume(receiver: &mut Receiver<String>) -> Result<(), BoxError> {
    ///     while let Some(rows) = receiver.recv_many(1000, Duration::from_secs(1)) {
    ///         // Insert each `row.get()` in one transaction, and commit. Then:
    ///         rows.into_iter().for_each(|row| drop(row.ack()));
    ///     }
    ///     Ok(())
    /// }
    /// ```
    pub fn recv_many(&mut self, max: usize, timeout: Duration) -> Option<Vec<Delivery<T>>> {
        let mut deliveries = Vec::new();
        let mut received = self.recv(timeout);
        loop {
            match received {
                Received::Message(delivery) => deliveries.push(delivery),
                Received::Closed if deliveries.is_empty() => return None,
                Received::Closed | Received::Timeout | Received::RoomWanted => {
                    return Some(deliveries);
                }
            }
            if deliveries.len() >= max {
                return Some(deliveries);
            }
            received = self.try_recv();
        }
    }

    /// As [`recv`](Receiver::recv), but never blocks.
    pub fn try_recv(&mut self) -> Received<T> {
        self.take().unwrap_or(Received::Timeout)
    }

    /// Blocks for `duration`, before a retry. Returns early when the server begins to drain, and
    /// when it begins to close ([`is_closing`](Receiver::is_closing)), so that there is a retry
    /// while senders still wait for the buffer, and a last one behind them. Returns `false` if the
    /// server's last deadline has passed: what you hold is counted as dropped from now on.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.state.waits();
        let until = Deadline::after(duration);
        let phase = |receiver: &Self| (receiver.is_draining(), receiver.is_closing());
        let begun_in = phase(self);
        while let Some(left) = until.remaining(SLICE) {
            if self.is_timed_out() || phase(self) != begun_in {
                break;
            }
            // A wake-up means that a send waits or that the quota was closed. The first does not
            // end a back-off, the second is checked above.
            let _ = self.wakes.recv_timeout(left);
        }
        self.state.works();
        !self.is_timed_out()
    }

    /// Whether the buffer takes no more messages: the handlers' share of the drain is over, or all
    /// handlers have ended. Messages in the buffer are still received.
    pub fn is_closing(&self) -> bool {
        self.quota.is_closed()
    }

    /// Whether the drain has begun. Handlers may still send for a while.
    pub(crate) fn is_draining(&self) -> bool {
        self.quota.is_draining()
    }

    /// Whether a send waits for capacity while you hold deliveries that take some.
    pub(crate) fn is_room_wanted(&self) -> bool {
        self.quota.waits_for_consumer()
    }

    /// Whether the server's last deadline has passed. A consumer that waits by itself, such as in
    /// poll(2) on its output, should check this regularly and return.
    pub fn is_timed_out(&self) -> bool {
        self.quota.is_timed_out()
    }

    /// What is left until the server's last deadline, at most `cap`.
    pub(crate) fn time_left(&self, cap: Duration) -> Duration {
        self.quota.time_left(cap)
    }

    /// Waits for what its threads do. The watchdog does not take the consumer for stuck meanwhile:
    /// each of these threads is watched by its own name.
    pub(crate) fn wait_for<R>(&self, wait: impl FnOnce() -> R) -> R {
        self.state.waits();
        let outcome = wait();
        self.state.works();
        outcome
    }

    /// The server's log, for lines whose writer must not block.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Gives the consumer a name for the watchdog's warnings, such as that of its sink.
    pub fn set_name(&self, name: &str) {
        self.state.set_name(name);
    }

    fn next(&mut self, until: Deadline, notices: &channel::Receiver<()>) -> Noticed<T> {
        if let Some(received) = self.take() {
            return Noticed::Received(received);
        }
        let started = self.started;
        let linger = self
            .linger
            .as_mut()
            .and_then(|linger| linger.found_nothing(started.elapsed()));
        if let Some(sleep) = linger.and_then(|sleep| until.remaining(sleep))
            && !self.quota.waits_for_consumer()
        {
            // A small buffer fills up sooner: then a send that has to wait ends the sleep.
            select! {
                recv(self.wakes) -> _ => {}
                recv(notices) -> _ => return Noticed::Notice,
                default(sleep) => {}
            }
            if let Some(received) = self.take() {
                return Noticed::Received(received);
            }
        }
        loop {
            if self.quota.waits_for_consumer() && self.is_room_wanted_due() {
                return Noticed::Received(Received::RoomWanted);
            }
            let Some(left) = until.remaining(SLICE) else {
                return Noticed::Received(Received::Timeout);
            };
            select! {
                recv(self.channel) -> envelope => {
                    let received = match envelope {
                        Ok(envelope) => Received::Message(self.deliver(*envelope)),
                        Err(_) => Received::Closed,
                    };
                    return Noticed::Received(received);
                },
                recv(self.wakes) -> _ => {}
                recv(notices) -> _ => return Noticed::Notice,
                default(left) => {}
            }
            if let Some(received) = self.take() {
                return Noticed::Received(received);
            }
        }
    }

    /// Limits how often `RoomWanted` is returned to a consumer that goes on receiving without
    /// finishing anything, and would spin otherwise.
    fn is_room_wanted_due(&mut self) -> bool {
        let finished = self.quota.finished();
        let is_new = self
            .room_wanted
            .is_none_or(|(at, before)| before != finished || at.elapsed() >= SLICE);
        if is_new {
            self.room_wanted = Some((Instant::now(), finished));
        }
        is_new
    }

    /// What `recv` can return without waiting, if anything.
    fn take(&mut self) -> Option<Received<T>> {
        if self.is_timed_out() {
            return Some(Received::Closed);
        }
        match self.channel.try_recv() {
            Ok(envelope) => Some(Received::Message(self.deliver(*envelope))),
            Err(TryRecvError::Disconnected) => Some(Received::Closed),
            Err(TryRecvError::Empty) if self.quota.is_dry() => Some(Received::Closed),
            Err(TryRecvError::Empty) => None,
        }
    }

    fn deliver(&mut self, envelope: Envelope<T>) -> Delivery<T> {
        self.quota.picked_up();
        let (weight, listener) = (envelope.weight(), envelope.listener());
        if let Some(linger) = &mut self.linger {
            linger.took(weight.bytes);
        }
        let receipt = Receipt {
            rest: weight,
            listener,
            quota: Arc::clone(&self.quota),
            is_settled: false,
        };
        let item = envelope.item;
        Delivery { item, receipt }
    }
}

impl<T> fmt::Debug for Receiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver")
            .field("queued", &self.channel.len())
            .finish_non_exhaustive()
    }
}

/// A received item. Its capacity in the buffer becomes free when the item is acknowledged.
///
/// # Drop
/// Messages of an item that is dropped without an [`ack`](Delivery::ack) are counted as dropped
/// (`sink_failed`, or `shutdown` after the server's last deadline). Those that are held when the
/// server is over, by a thread that did not return, are counted so then, and a later ack counts for
/// nothing.
#[must_use = "a delivery that is dropped without an ack is counted as lost"]
pub struct Delivery<T> {
    pub(super) item: T,
    pub(super) receipt: Receipt,
}

/// Counts an item as delivered or refused when told so, and otherwise as lost on drop.
pub(super) struct Receipt {
    rest: Weight,
    /// The index of the listener whose connection sent the item.
    listener: usize,
    quota: Arc<Quota>,
    is_settled: bool,
}

impl<T> Delivery<T> {
    /// The item.
    pub fn get(&self) -> &T {
        &self.item
    }

    /// Messages of the item that are not delivered yet.
    pub fn remaining(&self) -> u64 {
        self.receipt.rest.messages
    }

    /// Acknowledges the whole item as delivered, and returns the item.
    pub fn ack(mut self) -> T {
        self.receipt.deliver();
        self.item
    }

    /// Counts what remains of the item, which can never be delivered, as dropped
    /// ([`Refused`](crate::DropReason::Refused)). The server goes on.
    pub fn refuse(mut self) {
        self.receipt.refuse();
    }

    /// Passes the item to `deliver`, and counts it as delivered, as refused for the error that is
    /// returned, or, after a [`Fatal`] error or a panic, as dropped without an ack.
    pub(crate) fn deliver_by(
        self,
        deliver: impl FnOnce(T) -> Result<(), BoxError>,
    ) -> Result<Option<BoxError>, BoxError> {
        let Delivery { item, mut receipt } = self;
        match deliver(item) {
            Ok(()) => {
                receipt.deliver();
                Ok(None)
            }
            Err(error) if error.is::<Fatal>() => Err(error),
            Err(error) => {
                receipt.refuse();
                Ok(Some(error))
            }
        }
    }

    /// Acknowledges the first `messages` of what remains, or all if fewer remain. Their capacity in
    /// messages becomes free now, that in bytes with the whole item.
    pub fn ack_first(&mut self, messages: u64) {
        self.receipt.deliver_some(messages);
    }

    /// Counts the first `messages` of what remains, or all if fewer remain, as dropped
    /// ([`Refused`](crate::DropReason::Refused)): they can never be delivered. Their capacity
    /// becomes free as that of [`ack_first`](Delivery::ack_first).
    pub fn refuse_first(&mut self, messages: u64) {
        self.receipt.refuse_some(messages);
    }
}

impl Receipt {
    fn deliver_some(&mut self, messages: u64) {
        let messages = messages.min(self.rest.messages);
        if messages > 0 {
            self.rest.messages -= messages;
            self.quota.delivered_some(self.listener, messages);
        }
    }

    fn refuse_some(&mut self, messages: u64) {
        let messages = messages.min(self.rest.messages);
        if messages > 0 {
            self.rest.messages -= messages;
            self.quota.refused_some(self.listener, messages);
        }
    }

    fn deliver(&mut self) {
        self.is_settled = true;
        self.quota.delivered(self.listener, self.rest);
    }

    fn refuse(&mut self) {
        self.is_settled = true;
        self.quota.refused(self.listener, self.rest);
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.quota.nack(self.listener, self.rest);
        }
    }
}

impl<T: fmt::Debug> fmt::Debug for Delivery<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery")
            .field("item", &self.item)
            .field("remaining", &self.remaining())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use crossbeam_channel::bounded;

    use super::*;

    /// A send that has to wait and the end of the server wake the consumer in the same way.
    #[test]
    fn a_wake_up_ends_a_sleep() {
        let limit = Weight {
            messages: 1,
            bytes: 1,
        };
        let (quota, wakes) = Quota::new(limit, 1);
        let (_sender, receiver) = bounded(1);
        let (quota, state) = (Arc::new(quota), Arc::new(ConsumerState::new()));
        let mut linger = Linger::new(0.0, Duration::from_secs(3600));
        (0..2).for_each(|_| linger.took(1));
        let mut receiver = Receiver::<()>::new(
            receiver,
            wakes,
            Arc::clone(&quota),
            Arc::clone(&state),
            Logger::new().0,
            Some(linger),
        );
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            // After this, the consumer counts as busy.
            thread::sleep(Duration::from_millis(200));
            let received = receiver.recv(Duration::from_secs(3600));
            let _ = tell.send(matches!(received, Received::Closed));
        });
        while state.sample().1 == 0 {
            thread::yield_now();
        }
        // By now the consumer sleeps, or is about to.
        thread::sleep(Duration::from_millis(50));
        quota.time_out();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
