//! How a report says what was found: numbers, times, and the load itself; the same in every tool.

#[cfg(test)]
mod tests;

use std::time::Duration;

use super::metrics::Recovery;
use super::workload::{ClientPace, Crowd, SinkPace, Workload};
use crate::cli::units;

/// What stands where there is nothing to say.
pub(super) const NOTHING: &str = "–";

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

/// `1 client`, `200 clients`.
pub(super) fn counted(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), units::plural(value))
}

/// A measured or computed time, as people say it.
pub(super) fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        _ if seconds >= 600.0 => units::print_duration(Duration::from_secs(seconds.round() as u64)),
        _ if seconds >= 9.95 => format!("{seconds:.0} s"),
        _ if seconds >= 0.95 => format!("{seconds:.1} s"),
        _ => format!("{:.0} ms", seconds * 1e3),
    }
}

/// A time that somebody set, exactly.
pub(super) fn set_time(time: Duration) -> String {
    if time < Duration::from_secs(1) && !time.is_zero() {
        format!("{} ms", time.as_secs_f64() * 1e3)
    } else {
        format!("{} s", time.as_secs_f64())
    }
}

/// How long a recovery took; nothing where there was nothing to recover from.
pub(super) fn recovery(recovery: Recovery) -> String {
    match recovery {
        Recovery::NotAsked => NOTHING.to_owned(),
        Recovery::After(after) => time(after),
        Recovery::Never => "never".to_owned(),
    }
}

/// Rounded down, so that only all of it is 100 %, and something is never 0.
pub(super) fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return NOTHING.to_owned();
    }
    let thousandths = u128::from(part) * 1000 / u128::from(whole);
    match thousandths {
        0 if part > 0 => "<0.1 %".to_owned(),
        1000 if part == whole => "100 %".to_owned(),
        _ => format!("{}.{} %", thousandths / 10, thousandths % 10),
    }
}

/// The load in sentences.
pub(super) fn workload(workload: &Workload) -> Vec<String> {
    let mut said: Vec<String> = workload
        .crowds
        .iter()
        .map(|each| crowd(each, workload.duration))
        .collect();
    said.push(sink(&workload.sink, workload.duration));
    said.push(format!(
        "The load lasts {}; its seed is {}.",
        set_time(workload.duration),
        workload.seed
    ));
    said
}

fn crowd(crowd: &Crowd, duration: Duration) -> String {
    let clients = counted(crowd.connections as u64, "client");
    let size = counted(crowd.size as u64, "byte");
    let each = |rate: u64| rate.saturating_mul(crowd.connections as u64);
    let mut said = match crowd.pace {
        ClientPace::Rate(rate) => format!(
            "{clients} with {} of {size} a second each, {} a second in all",
            counted(rate, "message"),
            count(each(rate))
        ),
        ClientPace::Greedy => {
            format!("{clients} with messages of {size}, as fast as the server takes them")
        }
        ClientPace::Drip => {
            format!("{clients} with one byte a second each, and never the end of a message")
        }
    };
    if !crowd.from.is_zero() || crowd.until < duration {
        said += &format!(
            ", from {} to {}",
            set_time(crowd.from),
            set_time(crowd.until)
        );
    }
    if let Some(stay) = crowd.reconnect {
        said += &format!(
            "; each hangs up after about {} and comes back",
            set_time(stay)
        );
    }
    said + "."
}

fn sink(sink: &SinkPace, duration: Duration) -> String {
    let mut said = match sink.rate {
        Some(rate) => format!("The sink takes {} a second", counted(rate, "message")),
        None => "The sink takes messages as fast as they come".to_owned(),
    };
    for (place, stall) in sink.stalls.iter().enumerate() {
        said += if place == 0 { ", but none " } else { ", nor " };
        let end = stall.end();
        said += &match end < duration {
            true => format!("from {} to {}", set_time(stall.at), set_time(end)),
            false => format!("from {} on", set_time(stall.at)),
        };
    }
    said + "."
}
