//! Numbers: counts, times, sizes and rates.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

#[cfg(test)]
use super::kind::cases;
use super::kind::{InFile, Kind, NotAccepted, in_range};
use crate::cli::units;

/// A whole number.
pub(crate) struct Count<T>(pub(crate) RangeInclusive<T>);

impl<T: FromStr + Display + PartialOrd> Kind for Count<T> {
    type Value = T;

    fn read(&self, typed: &str) -> Result<T, NotAccepted> {
        let value = typed.parse().map_err(|_| NotAccepted::default())?;
        in_range(value, &self.0)
    }

    fn print(&self, value: &T) -> Option<String> {
        Some(value.to_string())
    }

    fn print_in_file(&self, value: &T) -> Option<String> {
        self.print(value)
    }

    fn in_file(&self) -> InFile {
        InFile::Number
    }

    fn expected(&self) -> String {
        let (least, most) = (self.0.start(), self.0.end().to_string());
        match most == u64::MAX.to_string() {
            true => format!("a number of {least} or more"),
            false => format!("a number from {least} to {most}"),
        }
    }

    fn placeholder(&self) -> String {
        "N".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (self.0.start().to_string(), self.0.end().to_string());
        let beyond =
            |edge: &str, step: i128| (edge.parse::<i128>().expect("a number") + step).to_string();
        let bad = [&beyond(&least, -1), &beyond(&most, 1), "-5", "many", "1k"];
        cases(&[&least, &most], &bad)
    }
}

/// A duration, as [`units::duration`] reads it.
pub(crate) struct Time {
    range: RangeInclusive<Duration>,
    example: &'static str,
}

pub(crate) const fn time(range: RangeInclusive<Duration>, example: &'static str) -> Time {
    Time { range, example }
}

impl Kind for Time {
    type Value = Duration;

    fn read(&self, typed: &str) -> Result<Duration, NotAccepted> {
        let value = units::duration(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &Duration) -> Option<String> {
        Some(units::print_duration(*value))
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (least, most) = (units::print_duration(least), units::print_limit(most));
        format!(
            "a duration from {least} to {most}, such as {}",
            self.example
        )
    }

    fn placeholder(&self) -> String {
        "TIME".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        const STEP: Duration = Duration::from_nanos(1);
        let (least, most) = (*self.range.start(), *self.range.end());
        let print = units::print_duration;
        let below = least.checked_sub(STEP).map_or("-1s".to_owned(), print);
        let bad = [&below, &print(most + STEP), "5x", "5", "soon", "-5s"];
        cases(&[&print(least), &print(most), self.example], &bad)
    }
}

/// A number of bytes, as [`units::size`] reads it.
pub(crate) struct Size {
    range: RangeInclusive<usize>,
    example: &'static str,
}

pub(crate) const fn size(range: RangeInclusive<usize>, example: &'static str) -> Size {
    Size { range, example }
}

impl Kind for Size {
    type Value = usize;

    fn read(&self, typed: &str) -> Result<usize, NotAccepted> {
        let value = units::size(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &usize) -> Option<String> {
        Some(units::print_size(*value))
    }

    fn in_file(&self) -> InFile {
        InFile::Either
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (least, most) = (units::print_size(least), units::print_size(most));
        format!("a size from {least} to {most}, such as {}", self.example)
    }

    fn placeholder(&self) -> String {
        "SIZE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (*self.range.start(), *self.range.end());
        let (below, above) = ((least - 1).to_string(), (most + 1).to_string());
        let good = [least, most].map(units::print_size);
        cases(
            &[&good[0], &good[1], self.example],
            &[&below, &above, "64XiB", "99999999999999999999TiB", "big"],
        )
    }
}

/// So many a second, as [`units::rate`] reads it.
pub(crate) struct Rate {
    range: RangeInclusive<u64>,
    example: &'static str,
}

pub(crate) const fn rate(range: RangeInclusive<u64>, example: &'static str) -> Rate {
    Rate { range, example }
}

impl Kind for Rate {
    type Value = u64;

    fn read(&self, typed: &str) -> Result<u64, NotAccepted> {
        let value = units::rate(typed).map_err(|_| NotAccepted::default())?;
        in_range(value, &self.range)
    }

    fn print(&self, value: &u64) -> Option<String> {
        Some(units::print_rate(*value))
    }

    fn in_file(&self) -> InFile {
        InFile::Either
    }

    fn expected(&self) -> String {
        let (least, most) = (*self.range.start(), *self.range.end());
        let least = units::print_rate(least);
        let range = match most {
            u64::MAX => format!("of {least} or more"),
            most => format!("from {least} to {}", units::print_rate(most)),
        };
        format!("a rate {range}, such as {}", self.example)
    }

    fn placeholder(&self) -> String {
        "RATE".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        let (least, most) = (*self.range.start(), *self.range.end());
        let below = format!("{}/s", least - 1);
        let above = (u128::from(most) + 1).to_string();
        cases(
            &[&least.to_string(), &units::print_rate(most), self.example],
            &[&below, &above, "10/m", "fast"],
        )
    }
}
