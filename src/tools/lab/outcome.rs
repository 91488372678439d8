//! What a run of the lab found, and what happened in it, in a sentence that is made of the metrics
//! alone.

use std::time::Duration;

use drainline::policy::OverloadLevel;

pub(super) use super::super::metrics::{Ledger, Metrics, Point, Recovery};
use super::super::words::{by_reason, count, percent, time};
use super::super::workload::Workload;
use super::strategy::Strategy;

/// A few threads may be on their way out when they are counted.
const FEW_THREADS: u64 = 5;
/// A client that was held up for less than this did not notice.
const SHORT: Duration = Duration::from_millis(250);

/// Everything that a run of the lab found.
#[derive(Clone, Debug)]
pub(super) struct Findings {
    /// The preset's name, or `own`.
    pub(super) load: String,
    pub(super) workload: Workload,
    /// The command that makes this again.
    pub(super) command: String,
    /// One for each strategy, in the order in which they ran.
    pub(super) outcomes: Vec<Outcome>,
}

/// One strategy under the load.
#[derive(Clone, Debug)]
pub(super) struct Outcome {
    pub(super) strategy: String,
    /// The flags that start the same server by hand; `None`: it exists in the lab alone.
    pub(super) flags: Option<Vec<String>>,
    /// In order of time, evenly spaced but for the machine's doing.
    pub(super) timeline: Vec<Point>,
    pub(super) metrics: Metrics,
    /// What happened, in a sentence.
    pub(super) sentence: String,
    /// What the simulation says of the same server under the same load, if it was asked.
    pub(super) simulated: Option<Metrics>,
}

impl Outcome {
    /// The command that starts the same server by hand; `None`: it exists in the lab alone.
    pub(super) fn by_hand(&self) -> Option<String> {
        self.flags.as_ref().map(command)
    }

    /// What a table has no room for: a name for each line, and the line.
    pub(super) fn details(&self) -> Vec<(&'static str, String)> {
        let metrics = &self.metrics;
        let stopped = |at: &String| format!("by the lab, at its ceiling of {at}");
        [
            ("stopped", metrics.stopped_at.as_ref().map(stopped)),
            ("died", metrics.died.clone()),
            ("lost", by_reason(&metrics.lost)),
            ("rejected", by_reason(&metrics.rejected)),
            ("overload", overload(&self.timeline)),
        ]
        .into_iter()
        .filter_map(|(name, line)| Some((name, line?)))
        .collect()
    }
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

/// The sentence of a strategy.
pub(super) fn sentence(strategy: &Strategy, workload: &Workload, metrics: &Metrics) -> String {
    let parts = [
        leak(strategy, workload, metrics),
        losses(metrics),
        clients(metrics),
        recovery(metrics),
    ];
    let text: Vec<String> = parts.into_iter().flatten().collect();
    let mut text = text.join("; ");
    if let Some(first) = text.get(..1) {
        let first = first.to_uppercase();
        text.replace_range(..1, &first);
    }
    text + "."
}

/// Whether threads are left that nobody needs: more than one for each client that was there.
fn leak(strategy: &Strategy, workload: &Workload, metrics: &Metrics) -> Option<String> {
    let (left, clients) = (metrics.threads_left(), workload.connections() as u64);
    if metrics.died.is_some() {
        return Some("it ended by itself".to_owned());
    }
    let is_ours = strategy.flags(workload).is_some();
    if let Some(ceiling) = metrics.stopped_at.as_ref().filter(|_| is_ours) {
        return Some(format!("it was stopped at {ceiling}"));
    }
    if let Some(ceiling) = &metrics.stopped_at {
        return Some(format!(
            "it leaks: it was stopped at {ceiling}, with {} clients",
            count(clients)
        ));
    }
    if left <= FEW_THREADS {
        let peak = metrics.peak_threads.saturating_sub(metrics.threads_before);
        let many = if peak > clients * 3 / 2 {
            format!(
                ", {:.1} for each client",
                peak as f64 / clients.max(1) as f64
            )
        } else {
            String::new()
        };
        return Some(format!(
            "at most {} threads for {} clients{many}, and none was left",
            count(peak),
            count(clients)
        ));
    }
    let why = if !is_ours {
        "each blocked in a send, its client long gone: it leaks"
    } else if left > clients {
        "each with messages of a client that is gone and that the sink has not taken yet"
    } else {
        "no more than there were clients, each waiting for the sink"
    };
    Some(format!(
        "{} threads were left when all clients had gone, {why}",
        count(left)
    ))
}

fn losses(metrics: &Metrics) -> Option<String> {
    let unseen = metrics.unseen();
    match (metrics.delivered, by_reason(&metrics.lost)) {
        (0, _) if metrics.sent > 0 => Some("nothing was delivered".to_owned()),
        (delivered, None) if unseen == 0 => {
            Some(format!("all {} messages were delivered", count(delivered)))
        }
        (delivered, counted) => {
            let part = percent(delivered, metrics.sent);
            let mut text = format!("{part} of the messages were delivered");
            if let Some(counted) = counted {
                text += &format!(", {counted}");
            }
            if unseen > 0 {
                text += &format!(", {} never reached it or are in no books", count(unseen));
            }
            Some(text)
        }
    }
}

fn clients(metrics: &Metrics) -> Option<String> {
    let rejected = metrics.rejected();
    let held_up = metrics.held_up_p99;
    let held_up =
        (held_up >= SHORT).then(|| format!("clients were held up for up to {}", time(held_up)));
    let rejected = (rejected > 0).then(|| format!("{} connects were rejected", count(rejected)));
    match (held_up, rejected) {
        (Some(held_up), Some(rejected)) => Some(format!("{held_up}, and {rejected}")),
        (held_up, rejected) => held_up.or(rejected),
    }
}

fn recovery(metrics: &Metrics) -> Option<String> {
    match metrics.recovery {
        Recovery::NotAsked => None,
        Recovery::After(after) => {
            Some(format!("it was well again {} after the stall", time(after)))
        }
        Recovery::Never => Some("it did not recover from the stall".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake;

    #[test]
    fn a_command_survives_the_shell() {
        let mut outcome = fake::findings().outcomes.remove(0);
        outcome.flags = None;
        assert_eq!(outcome.by_hand(), None);
        outcome.flags = Some(
            ["--sink", "file:/a b", "it's", ""]
                .map(str::to_owned)
                .into(),
        );
        assert_eq!(
            outcome.by_hand().as_deref(),
            Some(r"drainline --sink 'file:/a b' 'it'\''s' ''")
        );
    }

    #[test]
    fn details_are_what_happened() {
        let outcome = fake::outcome("layered");
        assert_eq!(
            outcome.details(),
            [
                ("lost", "1,480 connection_closed".to_owned()),
                ("rejected", "31 paused".to_owned()),
                (
                    "overload",
                    "normal 4.65 s, backpressure 1.10 s, paused 1.50 s, shedding 750 ms".to_owned()
                ),
            ]
        );
        let naive = fake::outcome("naive");
        let stopped = "by the lab, at its ceiling of 900 threads".to_owned();
        assert_eq!(naive.details(), [("stopped", stopped)]);
    }
}
