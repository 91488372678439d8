//! What happened, in a sentence that is made of the metrics alone.

use std::time::Duration;

use super::super::words::{self, count};
use super::super::workload::Workload;
use super::outcome::{Metrics, Recovery};
use super::strategy::Strategy;

/// A few threads may be on their way out when they are counted.
const FEW_THREADS: u64 = 5;
/// A client that was held up for less than this did not notice.
const SHORT: Duration = Duration::from_millis(250);

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
    match (metrics.delivered, words::by_reason(&metrics.lost)) {
        (0, _) if metrics.sent > 0 => Some("nothing was delivered".to_owned()),
        (delivered, None) if unseen == 0 => {
            Some(format!("all {} messages were delivered", count(delivered)))
        }
        (delivered, counted) => {
            let part = words::percent(delivered, metrics.sent);
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
    let held_up = (held_up >= SHORT)
        .then(|| format!("clients were held up for up to {}", words::time(held_up)));
    let rejected = (rejected > 0).then(|| format!("{} times one was turned away", count(rejected)));
    match (held_up, rejected) {
        (Some(held_up), Some(rejected)) => Some(format!("{held_up}, and {rejected}")),
        (held_up, rejected) => held_up.or(rejected),
    }
}

fn recovery(metrics: &Metrics) -> Option<String> {
    match metrics.recovery {
        Recovery::NotAsked => None,
        Recovery::After(time) => Some(format!(
            "it was well again {} after the stall",
            words::time(time)
        )),
        Recovery::Never => Some("it did not recover from the stall".to_owned()),
    }
}
