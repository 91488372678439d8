//! The receiving end of the channel: what the consumer holds.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use crossbeam_channel::{TryRecvError, select};

use super::sender::Envelope;
use crate::policy::{Linger, Weight};
use crate::server::deadline::Deadline;
use crate::server::error::{BoxError, Fatal};
use crate::server::state::consumer_state::ConsumerState;
use crate::server::state::logger::Logger;
use crate::server::state::quota::Quota;

/// A blocked receive looks at its surroundings at least this often.
const SLICE: Duration = Duration::from_millis(100);

/// What [`Receiver::recv`] brought.
#[derive(Debug)]
pub enum Received<T> {
    /// A message. Say [`ack`](Delivery::ack) when it is delivered.
    Message(Delivery<T>),
    /// Nothing came in time.
    Timeout,
    /// A sender waits for room, and deliveries that are not acknowledged hold it: finish those first.
    RoomWanted,
    /// Nothing will come any more: finish what you hold and return.
    Closed,
}

/// The receiving end: the consumer's, and there is one.
///
/// It can only receive, and cannot be cloned. This compiles:
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
    nudged: channel::Receiver<()>,
    quota: Arc<Quota>,
    state: Arc<ConsumerState>,
    logger: Logger,
    linger: Option<Linger>,
    started: Instant,
    /// When it was last said that room is wanted, and what had left the consumer's hands by then.
    told: Option<(Instant, u64)>,
}

impl<T> Receiver<T> {
    pub(crate) fn new(
        channel: channel::Receiver<Box<Envelope<T>>>,
        nudged: channel::Receiver<()>,
        quota: Arc<Quota>,
        state: Arc<ConsumerState>,
        logger: Logger,
        linger: Option<Linger>,
    ) -> Self {
        Receiver {
            channel,
            nudged,
            quota,
            state,
            logger,
            linger,
            started: Instant::now(),
            told: None,
        }
    }

    /// Takes the next message. Blocks until one comes, at most `timeout`.
    ///
    /// [`Received::RoomWanted`] comes sooner, at once if need be, when a sender waits for room that your
    /// deliveries hold: finish them before you receive again. It is said once, and then again ten times a
    /// second while none of them is finished, so a consumer that leaves them to another thread may simply
    /// go on receiving.
    pub fn recv(&mut self, timeout: Duration) -> Received<T> {
        self.recv_by(Deadline::after(timeout))
    }

    /// As [`recv`](Receiver::recv), until a moment: for a consumer with a timer of its own. What is there already comes
    /// even when the moment has passed.
    pub fn recv_until(&mut self, until: Instant) -> Received<T> {
        self.recv_by(Deadline::at(until))
    }

    fn recv_by(&mut self, until: Deadline) -> Received<T> {
        self.state.waits();
        let received = self.next(until);
        self.state.works();
        received
    }

    /// As [`recv`](Receiver::recv), without waiting.
    pub fn try_recv(&mut self) -> Received<T> {
        self.take().unwrap_or(Received::Timeout)
    }

    /// Waits for `duration`, before trying again what failed. Ends early when the server begins to close
    /// ([`is_closing`](Receiver::is_closing)), so that a last try is made in time. `false`: the server's last
    /// deadline came meanwhile; what you hold will not be delivered any more.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.state.waits();
        let until = Deadline::after(duration);
        let was_closing = self.is_closing();
        while let Some(left) = until.remaining(SLICE) {
            if self.is_timed_out() || self.is_closing() != was_closing {
                break;
            }
            // A nudge says that somebody waits for room or that the quota was closed. The first is no
            // reason to end a back-off, the second is looked at above.
            let _ = self.nudged.recv_timeout(left);
        }
        self.state.works();
        !self.is_timed_out()
    }

    /// Whether nothing more is taken in: handlers had their share of the drain, or all are gone. What is in
    /// the buffer still comes.
    pub fn is_closing(&self) -> bool {
        self.quota.is_closed()
    }

    /// Whether the server's last deadline has passed: a consumer that waits in a way of its own, such as
    /// poll(2) on its output, looks at this between slices and returns.
    pub fn is_timed_out(&self) -> bool {
        self.quota.is_timed_out()
    }

    /// The server's log, for lines that must not block whoever says them.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    /// Gives the consumer a name for the watchdog's warnings: the sink's.
    pub fn set_name(&self, name: &str) {
        self.state.set_name(name);
    }

    fn next(&mut self, until: Deadline) -> Received<T> {
        if let Some(received) = self.take() {
            return received;
        }
        let started = self.started;
        let linger = self
            .linger
            .as_mut()
            .and_then(|linger| linger.found_nothing(started.elapsed()));
        if let Some(sleep) = linger.and_then(|sleep| until.remaining(sleep))
            && !self.quota.waits_for_consumer()
        {
            // A small buffer is full before that: whoever finds no room ends the sleep.
            let _ = self.nudged.recv_timeout(sleep);
            if let Some(received) = self.take() {
                return received;
            }
        }
        loop {
            if self.quota.waits_for_consumer() && self.is_to_be_told() {
                return Received::RoomWanted;
            }
            let Some(left) = until.remaining(SLICE) else {
                return Received::Timeout;
            };
            select! {
                recv(self.channel) -> envelope => match envelope {
                    Ok(envelope) => return Received::Message(self.deliver(*envelope)),
                    Err(_) => return Received::Closed,
                },
                recv(self.nudged) -> _ => {}
                default(left) => {}
            }
            if let Some(received) = self.take() {
                return received;
            }
        }
    }

    /// A consumer that goes on receiving with its hands full would else be told as fast as it can ask.
    fn is_to_be_told(&mut self) -> bool {
        let finished = self.quota.finished();
        let is_new = self
            .told
            .is_none_or(|(at, before)| before != finished || at.elapsed() >= SLICE);
        if is_new {
            self.told = Some((Instant::now(), finished));
        }
        is_new
    }

    /// What can be said at once.
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
        let Envelope { item, weight } = envelope;
        if let Some(linger) = &mut self.linger {
            linger.took(weight.bytes);
        }
        let receipt = Receipt {
            rest: weight,
            quota: Arc::clone(&self.quota),
            is_settled: false,
        };
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

/// An item in the consumer's hands. Its room in the buffer comes back when it is done.
///
/// # Drop
/// Dropped before it is [`ack`](Delivery::ack), what is left of it is booked as dropped because the
/// sink failed (or as shut down, after the server's last deadline).
#[must_use = "a delivery that is dropped without an ack is booked as lost"]
pub struct Delivery<T> {
    item: T,
    receipt: Receipt,
}

/// Books what becomes of an item: delivered when told so, else lost when it is dropped.
struct Receipt {
    rest: Weight,
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

    /// Says that all of it is delivered, and gives the item back.
    pub fn ack(mut self) -> T {
        self.receipt.is_settled = true;
        self.receipt.quota.delivered(self.receipt.rest);
        self.item
    }

    /// Says that what is left of the message can never be delivered: it is booked as dropped for
    /// [`Refused`](crate::DropReason::Refused), and the server goes on.
    pub fn refuse(mut self) {
        self.receipt.is_settled = true;
        self.receipt.quota.refused(self.receipt.rest);
    }

    /// Hands the message to `deliver`, and books what becomes of it: delivered, refused for the error that
    /// is returned, or, by a [`Fatal`] error, nothing that is known.
    pub(crate) fn deliver_by(
        self,
        deliver: impl FnOnce(T) -> Result<(), BoxError>,
    ) -> Result<Option<BoxError>, BoxError> {
        let Delivery { item, mut receipt } = self;
        match deliver(item) {
            Ok(()) => {
                receipt.is_settled = true;
                receipt.quota.delivered(receipt.rest);
                Ok(None)
            }
            Err(error) if error.is::<Fatal>() => Err(error),
            Err(error) => {
                receipt.is_settled = true;
                receipt.quota.refused(receipt.rest);
                Ok(Some(error))
            }
        }
    }

    /// Says that the first `messages` of what remains are delivered: at most that many count. Their share
    /// of the bound in messages comes back now, the bytes when all is done.
    pub fn ack_first(&mut self, messages: u64) {
        let messages = messages.min(self.receipt.rest.messages);
        if messages > 0 {
            self.receipt.rest.messages -= messages;
            self.receipt.quota.delivered_some(messages);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.quota.nack(self.rest);
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

    /// As a sender that finds no room does, and the end.
    #[test]
    fn a_nudge_ends_a_sleep() {
        let limit = Weight {
            messages: 1,
            bytes: 1,
        };
        let (quota, nudged) = Quota::new(limit);
        let (_sender, receiver) = bounded(1);
        let (quota, state) = (Arc::new(quota), Arc::new(ConsumerState::new()));
        let mut linger = Linger::new(0.0, Duration::from_secs(3600));
        (0..2).for_each(|_| linger.took(1));
        let mut receiver = Receiver::<()>::new(
            receiver,
            nudged,
            Arc::clone(&quota),
            Arc::clone(&state),
            Logger::new().0,
            Some(linger),
        );
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            // From then on it counts as busy.
            thread::sleep(Duration::from_millis(200));
            let received = receiver.recv(Duration::from_secs(3600));
            let _ = tell.send(matches!(received, Received::Closed));
        });
        while state.sample().1 == 0 {
            thread::yield_now();
        }
        // By now it sleeps, or is about to.
        thread::sleep(Duration::from_millis(50));
        quota.time_out();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
