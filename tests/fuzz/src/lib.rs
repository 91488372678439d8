//! What each target asks of its bytes: the same as the property tests do.

#[path = "../../heads/mod.rs"]
pub mod heads;
#[path = "../../streams/mod.rs"]
mod streams;

pub use streams::check_fuzzed;
