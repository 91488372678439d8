//! What a sink is offered.

use std::collections::VecDeque;
use std::time::Duration;

use super::state::SinkState;
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::{Delivery, Receiver};

/// The batches that a sink is offered; the sink says here what it accepted.
#[derive(Debug)]
pub struct Batches<'a> {
    pub(super) held: VecDeque<Delivery<Batch>>,
    pub(super) receiver: &'a mut Receiver<Batch>,
    pub(super) pool: &'a Pool,
    pub(super) state: &'a SinkState,
}

impl Batches<'_> {
    /// The batches to be written, in order.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> + '_ {
        self.held.iter().map(Delivery::get)
    }

    /// The first batch; `None` when all are accepted.
    pub fn first(&self) -> Option<&Batch> {
        self.held.front().map(Delivery::get)
    }

    /// The first batch is accepted, to its last byte.
    pub fn ack(&mut self) {
        if let Some(delivery) = self.held.pop_front() {
            self.pool.put(delivery.ack().into_buffer());
        }
    }

    /// Messages of the first batch that are not accepted yet.
    pub(super) fn remaining(&self) -> u64 {
        self.held.front().map_or(0, Delivery::remaining)
    }

    /// The first `messages` of what remains of the first batch are accepted.
    pub fn ack_first(&mut self, messages: u64) {
        if let Some(delivery) = self.held.front_mut() {
            delivery.ack_first(messages);
        }
    }

    /// The server's last deadline has passed: the sink must return. What it did not accept is
    /// booked as dropped.
    pub fn is_timed_out(&self) -> bool {
        self.receiver.is_timed_out()
    }

    /// Waits; the watchdog does not take the sink for stuck meanwhile. The wait ends early when the
    /// server begins to close, so that a last try is made in time. `false`: the server's last
    /// deadline has passed, as [`is_timed_out`](Batches::is_timed_out) says from then on.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.receiver.wait(duration)
    }
}
