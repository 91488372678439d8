//! What a server would do under a [`Workload`], on a simulated clock: an hour of thousands of
//! clients in seconds.
//!
//! The decisions are the server's own: [`WeightedSemaphore`] says who may put how much into the
//! buffer, [`Overload`] whether new clients are accepted, [`Watch`] which connection is past a
//! deadline, [`TokenBucket`] how long a rate holds somebody back, [`Coalesce`] how many messages a
//! read brings. Around them, in the order in which a message passes: a `schedule` says when the
//! clients of a crowd are due to send; `clients` connect, meet the `admission`, and hang up;
//! `handlers` make `reads` and send what they brought into the `buffer`; the `sink` takes it out.
//! The `watchdog` looks at all of that at each tick, and at where every message is; what it sees is
//! the `timeline`. The `simulator` holds all that, and an `event_queue` of what comes next; between
//! two events is the `flow`. What is asked of it, and what it tells, is in `scenario`.
//!
//! While nobody waits, the flow between two events is added up at once, and from the moment when
//! somebody may have to wait it is message by message. Every message is counted either way: sent =
//! delivered + dropped + unseen.
//!
//! Not in it: what processors take (but for clients that send as fast as they can), and what a
//! network delays.
//!
//! [`WeightedSemaphore`]: drainline::policy::WeightedSemaphore
//! [`Overload`]: drainline::policy::Overload
//! [`Watch`]: drainline::policy::Watch
//! [`TokenBucket`]: drainline::policy::TokenBucket
//! [`Coalesce`]: drainline::policy::Coalesce

mod scenario;
mod schedule;

mod admission;
mod clients;

mod connection;
mod handlers;
mod reads;

mod buffer;
mod sink;

mod timeline;
mod watchdog;

mod event_queue;
mod flow;
mod simulator;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use reads::{LARGE_READ, heaviest};
pub(crate) use scenario::{Scenario, Simulated};
pub(crate) use simulator::{MAX_STEPS, WHOLE};
pub(crate) use timeline::SLOT_BYTES;

/// Simulates.
pub(crate) fn run(scenario: &Scenario<'_>) -> Simulated {
    run_watched(scenario, &mut |_| {})
}

/// As [`run`]. Tells `watch` from time to time how far it is, in [`WHOLE`] parts of the way.
pub(crate) fn run_watched(scenario: &Scenario<'_>, watch: &mut dyn FnMut(u64)) -> Simulated {
    simulator::Simulator::new(scenario).run(watch)
}
