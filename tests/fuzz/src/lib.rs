//! What each target asks of its bytes: the same as the property tests do.

#[path = "../../heads/mod.rs"]
pub mod heads;
#[path = "../../records/mod.rs"]
pub mod records;
#[path = "../../streams/mod.rs"]
mod streams;

pub use streams::check_fuzzed;
