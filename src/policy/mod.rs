//! The decisions, and nothing else.
//!
//! Everything here is pure: inputs and a time go in, a decision comes out. There is no clock, no
//! lock, no socket and no thread, so a test steps through an hour of overload in microseconds, and
//! a simulation runs the very code that the server runs. Times are [`Duration`]s since any fixed
//! start.
//!
//! This module is public for simulations, hidden from the documentation and **outside semver**: it
//! changes with the server. What the server's API shows of it is re-exported at the crate's root.
//!
//! [`Duration`]: std::time::Duration

mod busy_poll;
mod coalesce;
mod eviction;
mod idle_limit;
mod linger;
mod overload;
mod running_time;
mod token_bucket;
mod watch;
mod weighted_semaphore;

pub use busy_poll::{BusyPoll, Crowding, MAX_READS_PER_LOOK, max_lookers};
pub use coalesce::{Coalesce, Counts, Pace};
pub use eviction::Eviction;
pub use idle_limit::{IdleLimit, MIN_IDLE, TICKS as IDLE_LIMIT_TICKS};
pub use linger::Linger;
pub use overload::{Change, Observation, Overload, OverloadLevel, OverloadSettings};
pub use running_time::RunningTime;
pub use token_bucket::{ReadSize, TokenBucket};
pub use watch::{Activity, Breach, Finding, Lateness, Sample, Watch, WatchLimits};
pub use weighted_semaphore::{Acquire, Cancel, Ticket, Weight, WeightedSemaphore};
