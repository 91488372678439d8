//! The command line: what was typed, what it means, and how it is told.
//!
//! In the order data flows: `args` declares the flags, `units` and `values` read one value each,
//! `settings` holds them against each other, `usage` makes any error one line, `help` prints the rest.

mod args;
mod help;
mod settings;
mod units;
mod usage;
mod values;

#[cfg(test)]
mod tests;

pub(crate) use settings::{Oversize, Parsed, Settings, parse};
pub(crate) use usage::UsageError;
pub(crate) use values::{ReportFormat, SinkSpec};
