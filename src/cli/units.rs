//! Durations, sizes and rates, read and printed as people write them.
//!
//! A reader's error names what could not be read and nothing else: the flag tells which values it
//! accepts. What a printer prints, its reader reads back as the same value.

use std::time::Duration;

use bytesize::ByteSize;

pub(crate) type Unreadable = String;

/// `1 message`, `1234 messages`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    format!("{count} {what}{}", plural(count))
}

/// The ending of a regular noun for this count.
pub(crate) fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// `5s`, `500ms`, `1m30s`, `1m 30s`; a number without a unit is refused.
pub(crate) fn duration(text: &str) -> Result<Duration, Unreadable> {
    humantime::parse_duration(text).map_err(|error| error.to_string())
}

/// In one word, so that it needs no quotes in a shell. humantime counts months of 30.44 days, which
/// nobody reads, so days are the largest unit.
pub(crate) fn print_duration(value: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let days = value.as_secs() / DAY;
    let rest = value - Duration::from_secs(days * DAY);
    match (days, rest.is_zero()) {
        (0, _) => compact(rest),
        (_, true) => format!("{days}d"),
        (_, false) => format!("{days}d{}", compact(rest)),
    }
}

/// As [`print_duration`], but a day is `24h`: where a range ends, hours say more than days.
pub(crate) fn print_limit(value: Duration) -> String {
    match value.as_secs() {
        86_400 => "24h".to_owned(),
        _ => print_duration(value),
    }
}

fn compact(value: Duration) -> String {
    humantime::format_duration(value)
        .to_string()
        .replace(' ', "")
}

/// `65536`, `64KiB` (1,024 bytes each), `64KB` (1,000 bytes each), `1.5MiB`.
pub(crate) fn size(text: &str) -> Result<usize, Unreadable> {
    let bytes = text.parse::<ByteSize>()?.as_u64();
    usize::try_from(bytes).map_err(|error| error.to_string())
}

/// In the largest unit that holds it exactly: bytesize itself rounds.
pub(crate) fn print_size(value: usize) -> String {
    const UNITS: [(u64, &str); 4] = [
        (bytesize::TIB, "TiB"),
        (bytesize::GIB, "GiB"),
        (bytesize::MIB, "MiB"),
        (bytesize::KIB, "KiB"),
    ];
    let bytes = value as u64;
    UNITS
        .into_iter()
        .find(|(unit, _)| bytes >= *unit && bytes.is_multiple_of(*unit))
        .map_or_else(
            || format!("{bytes}B"),
            |(unit, name)| format!("{}{name}", bytes / unit),
        )
}

/// `1000` or `1000/s`.
pub(crate) fn rate(text: &str) -> Result<u64, Unreadable> {
    let number = text.strip_suffix("/s").unwrap_or(text);
    number
        .parse()
        .map_err(|error: std::num::ParseIntError| error.to_string())
}

pub(crate) fn print_rate(value: u64) -> String {
    format!("{value}/s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_people_write_them() {
        for (text, millis) in [
            ("5s", 5_000),
            ("500ms", 500),
            ("1m 30s", 90_000),
            ("1m30s", 90_000),
            ("0.5s", 500),
            ("24h", 86_400_000),
            ("0", 0),
            ("0s", 0),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["5x", "5", "", "s", "-5s", "5s,", "999999999999999999999s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_are_printed_in_one_word_that_reads_back() {
        for (millis, text) in [
            (0, "0s"),
            (1, "1ms"),
            (30_000, "30s"),
            (90_000, "1m30s"),
            (1_500, "1s500ms"),
            (86_400_000, "1d"),
            (90_000_000, "1d1h"),
            (365 * 86_400_000, "365d"),
        ] {
            let value = Duration::from_millis(millis);
            assert_eq!(print_duration(value), text);
            assert_eq!(duration(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn sizes_are_exact_both_ways() {
        for (bytes, text) in [
            (0, "0B"),
            (1, "1B"),
            (1023, "1023B"),
            (1024, "1KiB"),
            (65_536, "64KiB"),
            (65_537, "65537B"),
            (64 << 20, "64MiB"),
            (3 << 29, "1536MiB"),
            (1 << 40, "1TiB"),
        ] {
            assert_eq!(print_size(bytes), text);
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        assert_eq!(size("65536"), Ok(65_536));
        assert_eq!(size("64 KiB"), Ok(65_536));
        assert_eq!(size("64kb"), Ok(64_000));
        assert_eq!(size("1.5MiB"), Ok(3 << 19));
        for text in ["", "KiB", "64XiB", "-1", "1.5"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn rates_are_read_with_and_without_a_unit() {
        assert_eq!(rate("1000"), Ok(1000));
        assert_eq!(rate("1000/s"), Ok(1000));
        assert_eq!(rate(&print_rate(7)), Ok(7));
        for text in ["", "/s", "1000/m", "-1", "1.5"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }
}
