//! The time in the name of an old file.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

const MS_PER_DAY: u64 = 86_400_000;
/// 9999-12-31T23:59:59.999Z: a later time would have a longer name.
const MAX: u64 = 253_402_300_799_999;

/// A time in UTC, to the millisecond: `20261129T130500.123Z`. Names sort as times do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Stamp(u64);

impl Stamp {
    pub(super) const LEN: usize = "20261129T130500.123Z".len();

    pub(super) fn now() -> Stamp {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        Stamp(u64::try_from(since.as_millis()).map_or(MAX, |ms| ms.min(MAX)))
    }

    /// A millisecond later.
    pub(super) fn next(self) -> Stamp {
        Stamp((self.0 + 1).min(MAX))
    }

    pub(super) fn parse(text: &[u8]) -> Option<Stamp> {
        let number = |from: usize, to: usize| -> Option<u64> {
            let digits = text.get(from..to)?;
            let is_number = digits.iter().all(u8::is_ascii_digit);
            let value = |value: u64, digit: &u8| value * 10 + u64::from(digit - b'0');
            is_number.then(|| digits.iter().fold(0, value))
        };
        let days = days(number(0, 4)?, number(4, 6)?, number(6, 8)?)?;
        let seconds = (number(9, 11)? * 60 + number(11, 13)?) * 60 + number(13, 15)?;
        let stamp = Stamp(days * MS_PER_DAY + seconds * 1000 + number(16, 19)?);
        // What is no time, 61 seconds or a 30th of February, reads as another one.
        (stamp.to_string().as_bytes() == text).then_some(stamp)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = date(self.0 / MS_PER_DAY);
        let ms = self.0 % MS_PER_DAY;
        let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
        write!(
            f,
            "{year:04}{month:02}{day:02}T{hour:02}{minute:02}{second:02}.{:03}Z",
            ms % 1000
        )
    }
}

/// Days in 400 years.
const ERA: u64 = 146_097;
/// Days from 0000-03-01, where an era begins, to 1970-01-01.
const TO_1970: u64 = 719_468;

/// The date of a day since 1970 (H. Hinnant, "chrono-compatible low-level date algorithms": years
/// begin in March, so that the odd day is their last one).
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + TO_1970;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let year = year + era * 400 + u64::from(month >= 10);
    (year, if month < 10 { month + 3 } else { month - 9 }, day)
}

/// The day since 1970 of a date; `None` before 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = year.checked_sub(u64::from(month <= 2))?;
    let (era, year) = (year / 400, year % 400);
    let month = (month + 9) % 12;
    let day = (153 * month + 2) / 5 + day.checked_sub(1)?;
    (era * ERA + year * 365 + year / 4 - year / 100 + day).checked_sub(TO_1970)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_the_calendars() {
        for (ms, text) in [
            (0, "19700101T000000.000Z"),
            (951_782_399_999, "20000228T235959.999Z"),
            (951_782_400_000, "20000229T000000.000Z"),
            (951_868_800_000, "20000301T000000.000Z"),
            (1_795_957_500_123, "20261129T130500.123Z"),
            (4_107_542_400_000, "21000301T000000.000Z"),
            (MAX, "99991231T235959.999Z"),
        ] {
            assert_eq!(Stamp(ms).to_string(), text);
            assert_eq!(Stamp::parse(text.as_bytes()), Some(Stamp(ms)));
        }
        assert_eq!(Stamp(MAX).next(), Stamp(MAX));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in [
            "",
            "20261129",
            "20261129T130500.123",
            "20261129T130500.123Zx",
            "20261129t130500.123Z",
            "20261129T130500-123Z",
            "20261129T130560.123Z",
            "20261129T240000.000Z",
            "20260230T130500.123Z",
            "20261301T130500.123Z",
            "20260001T130500.123Z",
            "20260100T130500.123Z",
            "19691231T235959.999Z",
            "00000101T000000.000Z",
            "2026112+T130500.123Z",
        ] {
            assert_eq!(Stamp::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn names_sort_as_times_do() {
        let mut last = String::new();
        // Of each day for 500 years one millisecond, another time each day.
        for day in 0..182_500 {
            let stamp = Stamp(day * (MS_PER_DAY + 7));
            let text = stamp.to_string();
            assert!(text > last && text.len() == Stamp::LEN, "{last} {text}");
            assert_eq!(Stamp::parse(text.as_bytes()), Some(stamp));
            last = text;
        }
    }
}
