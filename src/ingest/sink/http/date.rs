//! Days of the calendar, and dates of HTTP.

use std::time::{Duration, SystemTime};

const MONTHS: &str = "JanFebMarAprMayJunJulAugSepOctNovDec";

/// Year, month and day of the day that is so many days after 1970-01-01: Howard Hinnant's
/// `civil_from_days`.
pub(super) fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

/// The inverse of [`civil`], from 1970 on.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, of_era) = (year / 400, year % 400);
    let shifted = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * shifted + 2) / 5 + day - 1;
    let days = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    days.checked_sub(719_468)
}

/// A `Retry-After`: how long from `now` on. Seconds, or a date in the one form that is to be sent
/// (RFC 9110, 5.6.7): `Sun, 06 Nov 1994 08:49:37 GMT`. `None` if it is neither.
pub(super) fn retry_after(value: &str, now: SystemTime) -> Option<Duration> {
    let value = value.trim();
    if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(Duration::from_secs(value.parse().unwrap_or(u64::MAX)));
    }
    let mut words = value.split_once(", ")?.1.split(' ');
    let day = number(words.next()?)?;
    let name = words.next().filter(|name| name.len() == 3)?;
    let month = MONTHS.find(name).filter(|at| at % 3 == 0)? as u64 / 3 + 1;
    let year = number(words.next()?).filter(|year| (1970..10_000).contains(year))?;
    let mut of_day = words.next()?.split(':').map(number);
    let (hour, minute, second) = (of_day.next()??, of_day.next()??, of_day.next()??);
    if of_day.next().is_some() || words.next() != Some("GMT") || words.next().is_some() {
        return None;
    }
    let is_time = (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    let seconds = days(year, month, day)? * 86_400 + hour * 3600 + minute * 60 + second;
    let at = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))?;
    is_time.then(|| at.duration_since(now).unwrap_or_default())
}

fn number(text: &str) -> Option<u64> {
    let is_number = (1..=4).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    is_number.then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn each_day_is_found_again() {
        assert_eq!(civil(0), (1970, 1, 1));
        assert_eq!(civil(20_786), (2026, 11, 29));
        for day in (0..200_000).step_by(7) {
            let (year, month, of_month) = civil(day);
            assert_eq!(days(year, month, of_month), Some(day));
        }
    }

    #[test]
    fn a_wait_is_in_seconds_or_until_a_date() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        let wait = |value, now| retry_after(value, at(now)).map(|wait| wait.as_secs());
        assert_eq!(wait("120", 0), Some(120));
        assert_eq!(wait("99999999999999999999999", 0), Some(u64::MAX));
        assert_eq!(wait(date, 784_111_770), Some(7));
        assert_eq!(wait(date, 784_111_778), Some(0));
        for wrong in [
            "",
            "-1",
            "1.5",
            "soon",
            "Sun, 06 Nov 1994",
            "Sun, 06 Abc 1994 08:49:37 GMT",
            "Sun, 06 anF 1994 08:49:37 GMT",
            "Sun, 06 Nov 1994 24:49:37 GMT",
            "Sun, 06 Nov 1994 08:60:37 GMT",
            "Sun, 06 Nov 1994 08:49:61 GMT",
            "Sun, 06 Nov 1994 08:49 GMT",
            "Sun, 06 Nov 1994 08:49:37 CET",
            "Sun, 06 Nov 0000 08:49:37 GMT",
            "Sun, 00 Nov 1994 08:49:37 GMT",
        ] {
            assert_eq!(wait(wrong, 0), None, "{wrong}");
        }
    }
}
