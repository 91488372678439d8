//! The decisions, and nothing else.
//!
//! Everything here is pure: inputs and a time go in, a decision comes out. There is no clock, no
//! lock, no socket and no thread, so a test steps through an hour of overload in microseconds, and a
//! simulation runs the very code that the server runs. Times are [`Duration`]s since any fixed start.
//!
//! The room is public, so that simulations can use it, and **outside semver**: it changes with the
//! server.
//!
//! [`Duration`]: std::time::Duration

mod bucket;
mod coalesce;
mod ladder;
mod linger;
mod make_room;
mod queue;
mod running;
mod watch;

pub use bucket::{Bucket, ReadSize};
pub use coalesce::{Coalesce, Counts, Pace};
pub use ladder::{Change, Ladder, LadderSettings, Observation, Rung};
pub use linger::Linger;
pub use make_room::MakeRoom;
pub use queue::{Cancel, Queue, Take, Ticket, Weight};
pub use running::RunningTime;
pub use watch::{Activity, Breach, Sample, Verdict, Watch, WatchLimits};
