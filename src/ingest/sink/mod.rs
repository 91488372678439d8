//! Where messages go.

mod drive;

mod batches;

mod contract;

mod retry;
mod state;

// The sinks.
mod stdout;

mod file;

mod null;

// What stdout and files have in common.
mod fd_writer;
mod unlinked;

pub use batches::Batches;
pub use contract::{Sink, SinkError};
pub(super) use drive::drive;
pub use fd_writer::FdWriter;
pub use file::File;
pub use null::Null;
pub use retry::Backoff;
pub(super) use state::SinkState;
pub use stdout::Stdout;
