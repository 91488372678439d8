//! Who may put how much into the buffer.
//!
//! A limit in two dimensions (messages and bytes), shared first come, first served. Whoever does
//! not fit waits by ticket; whatever comes back is granted to the head **on its behalf**, so a
//! grant and a timeout can never both happen to one waiter, and no wake-up is lost. Each operation
//! returns whom to wake; waking is the caller's, after its lock is released.

use std::collections::BTreeMap;

/// How much an item counts against the buffer's limit, in both dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Messages that the item holds.
    pub messages: u64,
    /// Heap that the item holds, in bytes.
    pub bytes: u64,
}

impl Weight {
    /// Whether `self` and `more` together stay within `limit` in both dimensions.
    fn fits(self, more: Weight, limit: Weight) -> bool {
        let within = |used: u64, more: u64, limit: u64| {
            used.checked_add(more).is_some_and(|sum| sum <= limit)
        };
        within(self.messages, more.messages, limit.messages)
            && within(self.bytes, more.bytes, limit.bytes)
    }

    fn add(&mut self, more: Weight) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    fn sub(&mut self, less: Weight) {
        debug_assert!(
            self.messages >= less.messages && self.bytes >= less.bytes,
            "{self:?} - {less:?}"
        );
        self.messages = self.messages.saturating_sub(less.messages);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

/// A place in the line. Tickets are served in the order in which they were given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(u64);

/// What became of a [`WeightedSemaphore::acquire`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquire {
    /// Taken: nobody was waiting and it fits.
    Granted,
    /// Not now: wait for a grant, or [`cancel`](WeightedSemaphore::cancel).
    Queued(Ticket),
    /// Not now, and the caller did not want to wait.
    Busy,
    /// Never: the item alone is heavier than the whole limit.
    TooHeavy,
    /// Never: the semaphore was closed.
    Closed,
}

/// What became of a [`WeightedSemaphore::cancel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cancel<W> {
    /// The ticket left the line with this weight; the new head may have been served: wake these.
    Left(Weight, Vec<W>),
    /// The ticket was no longer in line: it had been granted, or ended by
    /// [`close`](WeightedSemaphore::close).
    Gone,
}

/// The buffer's limit and the line before it. `W` is whatever the caller wakes a waiter by.
#[derive(Debug)]
pub struct WeightedSemaphore<W> {
    limit: Weight,
    used: Weight,
    /// Items granted and not yet finished.
    items: u64,
    line: BTreeMap<Ticket, (Weight, W)>,
    waiting_messages: u64,
    next: u64,
    closed: bool,
}

impl<W> WeightedSemaphore<W> {
    /// A semaphore with nothing granted, of at most `limit`.
    pub fn new(limit: Weight) -> Self {
        WeightedSemaphore {
            limit,
            used: Weight::default(),
            items: 0,
            line: BTreeMap::new(),
            waiting_messages: 0,
            next: 0,
            closed: false,
        }
    }

    /// Asks for `weight`. What does not fit now joins the line, and `waker` is kept for it.
    pub fn acquire(&mut self, weight: Weight, waker: impl FnOnce() -> W) -> Acquire {
        let answer = self.try_acquire(weight);
        if answer != Acquire::Busy {
            return answer;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.waiting_messages += weight.messages;
        self.line.insert(ticket, (weight, waker()));
        Acquire::Queued(ticket)
    }

    /// Asks for `weight` without joining the line: [`Busy`](Acquire::Busy) if `weight` does not fit
    /// now, or others wait.
    pub fn try_acquire(&mut self, weight: Weight) -> Acquire {
        if self.closed {
            return Acquire::Closed;
        }
        if !Weight::default().fits(weight, self.limit) {
            return Acquire::TooHeavy;
        }
        if self.line.is_empty() && self.used.fits(weight, self.limit) {
            self.grant(weight);
            return Acquire::Granted;
        }
        Acquire::Busy
    }

    /// Leaves the line. The new head may fit where the old one did not, so it is served here: this
    /// is the classic lost wake-up.
    pub fn cancel(&mut self, ticket: Ticket) -> Cancel<W> {
        match self.line.remove(&ticket) {
            None => Cancel::Gone,
            Some((weight, _)) => {
                self.waiting_messages -= weight.messages;
                Cancel::Left(weight, self.serve())
            }
        }
    }

    /// Gives back part of what an item held; the item itself stays out.
    pub fn give_back(&mut self, weight: Weight) -> Vec<W> {
        self.used.sub(weight);
        self.serve()
    }

    /// Gives back the last of an item: it is no longer out.
    pub fn finish(&mut self, weight: Weight) -> Vec<W> {
        debug_assert!(self.items > 0, "an item finished that was never granted");
        self.items = self.items.saturating_sub(1);
        self.give_back(weight)
    }

    /// Refuses every later take and ends every waiter. What was granted stays granted.
    /// Returns what was waiting, the head of the line first, and whom to wake.
    pub fn close(&mut self) -> Vec<(Weight, W)> {
        self.closed = true;
        self.waiting_messages = 0;
        std::mem::take(&mut self.line).into_values().collect()
    }

    /// What is out: granted and not yet given back.
    pub fn used(&self) -> Weight {
        self.used
    }

    /// Items granted and not yet finished.
    pub fn items(&self) -> u64 {
        self.items
    }

    /// How many wait in line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// Messages granted or waiting: the ledger's `in_flight`.
    pub fn in_flight(&self) -> u64 {
        self.used.messages + self.waiting_messages
    }

    /// Whether [`close`](WeightedSemaphore::close) was called.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn grant(&mut self, weight: Weight) {
        self.used.add(weight);
        self.items += 1;
    }

    /// While the head fits, takes on its behalf. Nobody overtakes a head that does not fit.
    fn serve(&mut self) -> Vec<W> {
        let mut granted = Vec::new();
        while let Some(head) = self.line.first_entry() {
            let weight = head.get().0;
            if !self.used.fits(weight, self.limit) {
                break;
            }
            let (_, waker) = head.remove();
            self.waiting_messages -= weight.messages;
            self.grant(weight);
            granted.push(waker);
        }
        granted
    }
}
