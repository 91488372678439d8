//! The buffer: the server's own semaphore, what is in it, and the ledger of what left.

use std::collections::VecDeque;

use drainline::policy::{Acquire, Cancel, Ticket, Weight, WeightedSemaphore};
use drainline::{Config, Counters, DropReason};

/// What the sink takes next.
#[derive(Clone, Copy, Debug)]
enum Item {
    /// Its bytes come back with its last message, as they do in the server.
    Batch(Weight),
    /// Batches of a message each, added up: their bytes come back with them, one by one.
    Flow(Weight),
}

#[derive(Debug)]
pub(super) struct Buffer {
    semaphore: WeightedSemaphore<usize>,
    limit: Weight,
    items: VecDeque<Item>,
    messages: u64,
    pub(super) delivered: u64,
    pub(super) dropped: Counters<DropReason>,
    /// What the overload sheds by.
    pub(super) lost_to_full: u64,
}

impl Buffer {
    pub(super) fn new(config: &Config) -> Self {
        let limit = Weight {
            messages: config.buffer_messages as u64,
            bytes: config.buffer_bytes as u64,
        };
        Buffer {
            semaphore: WeightedSemaphore::new(limit),
            limit,
            items: VecDeque::new(),
            messages: 0,
            delivered: 0,
            dropped: Counters::default(),
            lost_to_full: 0,
        }
    }

    /// Asks for room; what is granted is in the buffer.
    pub(super) fn offer(&mut self, weight: Weight, waits: bool, connection: usize) -> Acquire {
        let take = match waits {
            true => self.semaphore.acquire(weight, || connection),
            false => self.semaphore.try_acquire(weight),
        };
        if take == Acquire::Granted {
            self.put(weight);
        }
        take
    }

    /// Puts in what was granted to somebody who waited.
    pub(super) fn put(&mut self, weight: Weight) {
        self.push(Item::Batch(weight));
    }

    /// Puts in what came as many small batches. There is [room](Buffer::has_room) for it.
    pub(super) fn put_flow(&mut self, weight: Weight) {
        if self.semaphore.try_acquire(weight) == Acquire::Granted {
            self.push(Item::Flow(weight));
        }
    }

    fn push(&mut self, item: Item) {
        let (Item::Batch(weight) | Item::Flow(weight)) = item;
        self.messages += weight.messages;
        self.items.push_back(item);
    }

    /// Whether this has room now, with nobody before it.
    pub(super) fn has_room(&self, weight: Weight) -> bool {
        let used = self.semaphore.used();
        self.semaphore.waiting() == 0
            && used.messages.saturating_add(weight.messages) <= self.limit.messages
            && used.bytes.saturating_add(weight.bytes) <= self.limit.bytes
    }

    /// The first so many messages are delivered. Returns whose turn has come.
    pub(super) fn deliver(&mut self, mut messages: u64) -> Vec<usize> {
        let mut woken = Vec::new();
        while messages > 0
            && let Some(first) = self.items.front_mut()
        {
            let (left, comes_back_with_each) = match first {
                Item::Batch(left) => (left, 0),
                Item::Flow(left) => {
                    let each = left.bytes / left.messages.max(1);
                    (left, each)
                }
            };
            let taken = messages.min(left.messages);
            messages -= taken;
            self.messages -= taken;
            self.delivered += taken;
            if taken == left.messages {
                let rest = *left;
                self.items.pop_front();
                woken.extend(self.semaphore.finish(rest));
            } else {
                let back = Weight {
                    messages: taken,
                    bytes: taken * comes_back_with_each,
                };
                left.messages -= back.messages;
                left.bytes -= back.bytes;
                woken.extend(self.semaphore.give_back(back));
            }
        }
        woken
    }

    /// Delivers what came and went while nobody looked.
    pub(super) fn pass(&mut self, messages: u64) {
        self.delivered += messages;
    }

    /// Whoever waits with this ticket waits no longer, and loses what it has there. Returns how
    /// much that is, and whose turn has come; `None`: it was granted meanwhile.
    pub(super) fn give_up(
        &mut self,
        ticket: Ticket,
        reason: DropReason,
    ) -> Option<(u64, Vec<usize>)> {
        let Cancel::Left(weight, woken) = self.semaphore.cancel(ticket) else {
            return None;
        };
        self.lose_to_full(weight.messages, reason);
        Some((weight.messages, woken))
    }

    pub(super) fn lose_to_full(&mut self, messages: u64, reason: DropReason) {
        self.lost_to_full += messages;
        self.dropped.add(reason, messages);
    }

    /// Drops what is left, in the buffer and in line.
    pub(super) fn close(&mut self) {
        let line = self.semaphore.close();
        let waiting: u64 = line.iter().map(|(weight, _)| weight.messages).sum();
        self.dropped
            .add(DropReason::Shutdown, waiting + self.messages);
        self.items.clear();
        self.messages = 0;
    }

    /// In the buffer, without those who wait.
    pub(super) fn messages(&self) -> u64 {
        self.messages
    }

    /// Of the batch that the sink is at.
    pub(super) fn first(&self) -> Option<u64> {
        self.items.front().map(|first| match first {
            Item::Batch(left) => left.messages,
            Item::Flow(_) => 1,
        })
    }

    /// In the buffer and in line.
    pub(super) fn in_flight(&self) -> u64 {
        self.semaphore.in_flight()
    }

    pub(super) fn used(&self) -> Weight {
        self.semaphore.used()
    }

    pub(super) fn has_waiters(&self) -> bool {
        self.semaphore.waiting() > 0
    }
}
