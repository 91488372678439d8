//! How a flag's value is read and printed, and what it accepts: numbers, times, sizes, words.
//!
//! A kind reads back what it printed, as the same value.

mod kind;

mod numbers;
mod several;
mod words;

#[cfg(test)]
pub(super) use kind::cases;
pub(crate) use kind::{InFile, Kind, NotAccepted};
pub(super) use kind::{in_range, or, quoted};
pub(crate) use numbers::{Count, Rate, Size, Time, rate, size, time};
pub(crate) use several::{List, Required, list};
pub(crate) use words::{Choices, TrueOrFalse, Words, auto, choice, off, print_choice, unset};
