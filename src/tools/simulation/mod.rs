//! What a server would do under a [`Demand`], on a simulated clock: an hour of thousands of clients in seconds.
//!
//! The decisions are the server's own: [`WeightedSemaphore`] says who may put how much into the buffer, [`Overload`] whether the gate
//! is shut, [`Watch`] which connection is past a deadline, [`TokenBucket`] how long a rate holds somebody back, [`Coalesce`]
//! how many messages a read brings. Around them, in the order in which a message passes: a `schedule` says when the
//! clients of a crowd are due to send; `clients` connect, meet the `gate`, and hang up; `handlers` make `reads` and
//! send what they brought into the `buffer`; the `sink` takes it out. The `tick` is the watchdog's, and what it sees is
//! the `course`, with the `whereabouts` of all messages. The `world` holds all that, and an `agenda` of what
//! comes next; between two events is the `flow`.
//!
//! While nobody waits, the flow between two events is added up at once, and from the moment when somebody may have to
//! wait it is message by message. Every message is counted either way: sent = delivered + dropped + unseen.
//!
//! Not in it: what processors take (but for clients that send as fast as they can), and what a network delays.
//!
//! [`WeightedSemaphore`]: drainline::policy::WeightedSemaphore
//! [`Overload`]: drainline::policy::Overload
//! [`Watch`]: drainline::policy::Watch
//! [`TokenBucket`]: drainline::policy::TokenBucket
//! [`Coalesce`]: drainline::policy::Coalesce

mod schedule;

mod clients;
mod gate;

mod connection;
mod handlers;
mod reads;

mod buffer;
mod sink;

mod course;
mod tick;
mod whereabouts;

mod agenda;
mod flow;
mod world;

#[cfg(test)]
mod tests;

use std::time::Duration;

use drainline::Config;

use super::demand::Demand;
use super::figures::{Figures, Point};

pub(crate) use course::SLOT_BYTES;
pub(crate) use reads::{LARGE_READ, heaviest};
pub(crate) use whereabouts::Watched;
pub(crate) use world::WHOLE;

/// What is simulated.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario<'a> {
    /// The server's settings. They passed [`Config::check`].
    pub(crate) config: &'a Config,
    /// A longer message is truncated to this, in bytes.
    pub(crate) max_message: usize,
    pub(crate) demand: &'a Demand,
    /// How long the server may go on delivering after the load, before it is shut down and what is left is dropped.
    pub(crate) settle: Duration,
}

/// What it came to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Simulated {
    pub(crate) course: Vec<Point>,
    pub(crate) figures: Figures,
    pub(crate) watched: Watched,
    /// Messages that kernels held of connections that were cut or never accepted; counted on its own, not by difference.
    pub(crate) unseen: u64,
    /// Those of them that were still on their way when the server was shut down.
    pub(crate) unseen_at_end: u64,
    /// Steps that the simulation took: what its time goes by.
    pub(crate) steps: u64,
}

/// Simulates. Ends after [`MAX_STEPS`](world::MAX_STEPS) at the latest: then the figures say where it was stopped.
pub(crate) fn run(scenario: &Scenario<'_>) -> Simulated {
    run_watched(scenario, &mut |_| {})
}

/// As [`run`]. Tells `watch` from time to time how far it is, in [`WHOLE`] parts of the way.
pub(crate) fn run_watched(scenario: &Scenario<'_>, watch: &mut dyn FnMut(u64)) -> Simulated {
    world::World::new(scenario).run(watch)
}
