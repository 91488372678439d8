//! How counts, sizes and times that were found are written, the same in every report.

use std::time::Duration;

/// `1,234,567`.
pub(super) fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1,234/s`.
pub(super) fn rate(value: u64) -> String {
    format!("{}/s", count(value))
}

/// `12.3 MiB`.
pub(super) fn memory(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 999.95 {
        format!("{mib:.1} MiB")
    } else {
        format!("{:.1} GiB", mib / 1024.0)
    }
}

/// A time that was measured, to about three digits.
pub(super) fn time(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let millis = seconds * 1e3;
    if time.is_zero() {
        "0 s".to_owned()
    } else if millis < 9.95 {
        format!("{millis:.1} ms")
    } else if millis < 999.5 {
        format!("{millis:.0} ms")
    } else if seconds < 9.995 {
        format!("{seconds:.2} s")
    } else if seconds < 99.95 {
        format!("{seconds:.1} s")
    } else {
        format!("{seconds:.0} s")
    }
}

/// `1,234 aborted, 5 full`; `None`: nothing happened.
pub(super) fn by_reason(counts: &[(String, u64)]) -> Option<String> {
    let happened = counts.iter().filter(|(_, times)| *times > 0);
    let said: Vec<String> = happened
        .map(|(reason, times)| format!("{} {reason}", count(*times)))
        .collect();
    (!said.is_empty()).then(|| said.join(", "))
}
