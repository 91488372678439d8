//! How what was found is said, for the terminal and for the page alike.

#[cfg(test)]
mod tests;

use std::time::Duration;

use drainline::policy::OverloadLevel;

pub(super) use super::super::words::{by_reason, count, memory, time};

use super::super::workload::{ClientPace, Crowd, SinkPace, Workload};
use super::outcome::{Outcome, Point, Recovery};
use crate::cli::units;

/// What stands where there is nothing to say.
pub(super) const NOTHING: &str = "–";

/// `1 client`, `200 clients`.
fn counted(value: u64, what: &str) -> String {
    format!("{} {what}{}", count(value), units::plural(value))
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

/// The command that starts the same server by hand; `None`: there is none.
pub(super) fn by_hand(outcome: &Outcome) -> Option<String> {
    outcome.flags.as_ref().map(command)
}

/// The program with these arguments, as a shell takes it.
pub(super) fn command<W: AsRef<str>>(args: impl IntoIterator<Item = W>) -> String {
    let words = args.into_iter().map(|word| quoted(word.as_ref()));
    words.fold("drainline".to_owned(), |line, word| line + " " + &word)
}

/// As a shell takes it for this one word.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| letter.is_ascii_alphanumeric() || "-_=+.,:/@%".contains(letter);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// What a table has no room for: a name for each line, and the line.
pub(super) fn details(outcome: &Outcome) -> Vec<(&'static str, String)> {
    let metrics = &outcome.metrics;
    let stopped = |at: &String| format!("by the lab, at its ceiling of {at}");
    [
        ("stopped", metrics.stopped_at.as_ref().map(stopped)),
        ("died", metrics.died.clone()),
        ("lost", by_reason(&metrics.lost)),
        ("rejected", by_reason(&metrics.rejected)),
        ("overload", overload(&outcome.timeline)),
    ]
    .into_iter()
    .filter_map(|(name, line)| Some((name, line?)))
    .collect()
}

/// How long the server stood on which level; `None`: it has no overload.
fn overload(timeline: &[Point]) -> Option<String> {
    let mut times = [Duration::ZERO; OverloadLevel::ALL.len()];
    let mut is_there = false;
    for pair in timeline.windows(2) {
        if let Some(level) = pair[0].level {
            is_there = true;
            times[level as usize] += pair[1].at.saturating_sub(pair[0].at);
        }
    }
    let stood = OverloadLevel::ALL.iter().zip(times);
    let said: Vec<String> = stood
        .filter(|(_, time)| !time.is_zero())
        .map(|(level, stood)| format!("{} {}", level.name(), time(stood)))
        .collect();
    is_there.then(|| said.join(", "))
}
