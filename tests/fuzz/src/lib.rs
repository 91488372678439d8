//! What each target asks of its bytes: the same as the property tests do.

#[path = "../../streams/mod.rs"]
mod streams;

pub use streams::check_fuzzed;
