//! The policy alone: every rule that decides (who is disconnected, who waits, who may send, when
//! accepting ends) does so as the design says. Stepped through in given time, without a clock, a
//! socket or a thread, and against a naive twin where there is a simple one.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

mod busy_poll;
mod coalesce;
mod idle_limit;
mod linger;
mod overload;
mod token_bucket;
mod watch;
mod weighted_semaphore;
