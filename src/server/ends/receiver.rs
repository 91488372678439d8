//! The receiving end of the channel: what the consumer holds.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError, select};

use super::sender::Parcel;
use crate::policy::{Linger, Weight};
use crate::server::deadline::Deadline;
use crate::server::state::consumer_state::ConsumerPulse;
use crate::server::state::logger::Journal;
use crate::server::state::quota::Budget;

/// A blocked receive looks at its surroundings at least this often.
const SLICE: Duration = Duration::from_millis(100);

/// What [`Inbox::recv`] found.
#[derive(Debug)]
pub enum Received<T> {
    /// An item. Say [`done`](Delivery::done) when it is delivered.
    Item(Delivery<T>),
    /// Nothing came within the tick, or somebody waits for room that you hold: finish what you hold.
    Tick,
    /// Nothing will come any more: finish what you hold and return.
    Closed,
}

/// The receiving end: the consumer's, and there is one.
///
/// It can only receive, and cannot be cloned. This compiles:
///
/// ```
/// fn receive(inbox: &mut drainline::Inbox<String>) {
///     let _ = inbox.recv(std::time::Duration::ZERO);
/// }
/// ```
/// and neither of these does:
/// ```compile_fail
/// fn twice(inbox: &drainline::Inbox<String>) -> drainline::Inbox<String> {
///     inbox.clone() // a &Inbox: there is no other one to be had
/// }
/// ```
/// ```compile_fail
/// fn send(inbox: &drainline::Inbox<String>) {
///     let _ = inbox.send(String::new()); // no such method
/// }
/// ```
pub struct Inbox<T> {
    receiver: Receiver<Box<Parcel<T>>>,
    nudged: Receiver<()>,
    budget: Arc<Budget>,
    pulse: Arc<ConsumerPulse>,
    journal: Journal,
    linger: Option<Linger>,
    started: Instant,
}

impl<T> Inbox<T> {
    pub(crate) fn new(
        receiver: Receiver<Box<Parcel<T>>>,
        nudged: Receiver<()>,
        budget: Arc<Budget>,
        pulse: Arc<ConsumerPulse>,
        journal: Journal,
        linger: Option<Linger>,
    ) -> Self {
        Inbox {
            receiver,
            nudged,
            budget,
            pulse,
            journal,
            linger,
            started: Instant::now(),
        }
    }

    /// Takes the next item. Blocks until one comes, at most `tick`.
    ///
    /// [`Received::Tick`] comes sooner, at once if need be, when a sender waits for room and you hold
    /// deliveries that are not done: it may be waiting for those, so finish them before you receive again. A
    /// consumer that lets others finish them waits for them by a means of its own.
    pub fn recv(&mut self, tick: Duration) -> Received<T> {
        self.pulse.waits();
        let received = self.next(tick);
        self.pulse.works();
        received
    }

    /// As [`recv`](Inbox::recv), without waiting.
    pub fn try_recv(&mut self) -> Received<T> {
        self.take().unwrap_or(Received::Tick)
    }

    /// Waits for `duration`, before trying again what failed. Ends early when the server begins to close
    /// ([`is_closing`](Inbox::is_closing)), so that a last try is made in time. `false`: the server's last
    /// deadline came meanwhile; what you hold will not be delivered any more.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.pulse.waits();
        let until = Deadline::after(duration);
        let was_closing = self.is_closing();
        while let Some(left) = until.remaining(SLICE) {
            if self.is_cut() || self.is_closing() != was_closing {
                break;
            }
            // A nudge says that somebody waits for room or that the budget was closed. The first is no
            // reason to end a back-off, the second is looked at above.
            let _ = self.nudged.recv_timeout(left);
        }
        self.pulse.works();
        !self.is_cut()
    }

    /// Whether nothing more is taken in: handlers had their share of the drain, or all are gone. What is in
    /// the buffer still comes.
    pub fn is_closing(&self) -> bool {
        self.budget.is_closed()
    }

    /// Whether the server's last deadline has passed: a consumer that waits in a way of its own, such as
    /// poll(2) on its output, looks at this between slices and returns.
    pub fn is_cut(&self) -> bool {
        self.budget.is_cut()
    }

    /// The server's log, for lines that must not block whoever says them.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Gives the consumer a name for the watchdog's warnings: the sink's.
    pub fn set_name(&self, name: &str) {
        self.pulse.set_name(name);
    }

    fn next(&mut self, tick: Duration) -> Received<T> {
        if let Some(received) = self.take() {
            return received;
        }
        let until = Deadline::after(tick);
        let started = self.started;
        let linger = self
            .linger
            .as_mut()
            .and_then(|linger| linger.found_nothing(started.elapsed()));
        if let Some(sleep) = linger
            && !self.budget.waits_for_consumer()
        {
            // A small buffer is full before that: whoever finds no room ends the sleep.
            let _ = self.nudged.recv_timeout(sleep);
            if let Some(received) = self.take() {
                return received;
            }
        }
        loop {
            if self.budget.waits_for_consumer() {
                return Received::Tick;
            }
            let Some(left) = until.remaining(SLICE) else {
                return Received::Tick;
            };
            select! {
                recv(self.receiver) -> parcel => match parcel {
                    Ok(parcel) => return Received::Item(self.deliver(*parcel)),
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

    /// What can be said at once.
    fn take(&mut self) -> Option<Received<T>> {
        if self.is_cut() {
            return Some(Received::Closed);
        }
        match self.receiver.try_recv() {
            Ok(parcel) => Some(Received::Item(self.deliver(*parcel))),
            Err(TryRecvError::Disconnected) => Some(Received::Closed),
            Err(TryRecvError::Empty) if self.budget.is_dry() => Some(Received::Closed),
            Err(TryRecvError::Empty) => None,
        }
    }

    fn deliver(&mut self, parcel: Parcel<T>) -> Delivery<T> {
        self.budget.picked_up();
        let Parcel { item, weight } = parcel;
        if let Some(linger) = &mut self.linger {
            linger.took(weight.bytes);
        }
        let receipt = Receipt {
            rest: weight,
            budget: Arc::clone(&self.budget),
            is_settled: false,
        };
        Delivery { item, receipt }
    }
}

impl<T> fmt::Debug for Inbox<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inbox")
            .field("queued", &self.receiver.len())
            .finish_non_exhaustive()
    }
}

/// An item in the consumer's hands. Its room in the buffer comes back when it is done.
///
/// # Drop
/// Dropped before it is [`done`](Delivery::done), what is left of it is booked as dropped because the
/// sink failed (or as shut down, after the server's last deadline).
#[must_use = "a delivery that is dropped undone is booked as lost"]
pub struct Delivery<T> {
    item: T,
    receipt: Receipt,
}

/// Books what becomes of an item: delivered when told so, else lost when it is dropped.
struct Receipt {
    rest: Weight,
    budget: Arc<Budget>,
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
    pub fn done(mut self) -> T {
        self.receipt.is_settled = true;
        self.receipt.budget.delivered(self.receipt.rest);
        self.item
    }

    /// Says that the first `messages` of what remains are delivered: at most that many count. Their share
    /// of the bound in messages comes back now, the bytes when all is done.
    pub fn done_first(&mut self, messages: u64) {
        let messages = messages.min(self.receipt.rest.messages);
        if messages > 0 {
            self.receipt.rest.messages -= messages;
            self.receipt.budget.delivered_some(messages);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if !self.is_settled {
            self.budget.undone(self.rest);
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
        let (budget, nudged) = Budget::new(limit);
        let (_sender, receiver) = bounded(1);
        let (budget, pulse) = (Arc::new(budget), Arc::new(ConsumerPulse::new()));
        let mut linger = Linger::new(0.0, Duration::from_secs(3600));
        (0..2).for_each(|_| linger.took(1));
        let mut inbox = Inbox::<()>::new(
            receiver,
            nudged,
            Arc::clone(&budget),
            Arc::clone(&pulse),
            Journal::new().0,
            Some(linger),
        );
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            // From then on it counts as busy.
            thread::sleep(Duration::from_millis(200));
            let received = inbox.recv(Duration::from_secs(3600));
            let _ = tell.send(matches!(received, Received::Closed));
        });
        while pulse.sample().1 == 0 {
            thread::yield_now();
        }
        // By now it sleeps, or is about to.
        thread::sleep(Duration::from_millis(50));
        budget.cut();
        assert_eq!(told.recv_timeout(Duration::from_secs(60)), Ok(true));
    }
}
