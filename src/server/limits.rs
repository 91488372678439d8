//! The bound against the operating system: what a configuration can need at most, computed before the
//! first thread starts, and held against what the system can give.

use std::fmt;

/// A value that was asked for and that the system cannot hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitError {
    /// The limit that does not hold it, by the name under which an operator finds it.
    pub limit: String,
    /// What the limit allows.
    pub allows: u64,
    /// What would be needed.
    pub needed: u64,
    /// The largest `max_connections` that every limit holds.
    pub fits: usize,
}

impl fmt::Display for LimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} allows {} and {} are needed; max_connections up to {} would fit",
            self.limit, self.allows, self.needed, self.fits
        )
    }
}

impl std::error::Error for LimitError {}
