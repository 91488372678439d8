//! What stands between many senders and one slow sink: the ways that fail, the cures alone, and all
//! of them together.

use std::time::Duration;

use crate::cli::kinds::Choices;
use crate::cli::units;

use super::super::workload::{ClientPace, Workload};

/// A server that the lab puts to its load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Strategy {
    /// Handlers block on a channel that nobody receives from.
    Naive,
    /// A consumer that does nothing but receive and write.
    TightLoop,
    /// The same, with a channel of ten messages.
    SmallBuffer,
    /// A buffer of a million messages.
    BigBuffer,
    /// A few connections, and no more.
    Limit,
    /// Whoever is stuck is disconnected.
    Abort,
    /// The same, behind a usual buffer.
    AbortAndBuffer,
    /// Nobody new is let in while somebody is held up.
    Pause,
    /// Each connection may send so much.
    RateLimit,
    /// Every send goes through one more thread.
    SingleSender,
    /// Senders wait for the sink.
    Backpressure,
    /// All layers, as the program has them by default, with timeouts in proportion to the run.
    Layered,
    /// Any flags.
    Custom(Vec<String>),
}

/// By the name on the command line, in the order of the tale; the last one's flags are typed, too.
pub(super) const STRATEGIES: Choices<Strategy> = &[
    ("naive", Strategy::Naive),
    ("tight-loop", Strategy::TightLoop),
    ("small-buffer", Strategy::SmallBuffer),
    ("big-buffer", Strategy::BigBuffer),
    ("limit", Strategy::Limit),
    ("abort", Strategy::Abort),
    ("abort+buffer", Strategy::AbortAndBuffer),
    ("pause", Strategy::Pause),
    ("rate-limit", Strategy::RateLimit),
    ("single-sender", Strategy::SingleSender),
    ("backpressure", Strategy::Backpressure),
    ("layered", Strategy::Layered),
    (CUSTOM, Strategy::Custom(Vec::new())),
];

const CUSTOM: &str = "custom";

/// Those that need no flags beside their name.
pub(super) fn named() -> Vec<Strategy> {
    let named = STRATEGIES.iter().filter(|(name, _)| *name != CUSTOM);
    named.map(|(_, strategy)| strategy.clone()).collect()
}

/// Those that show the most in the least time.
pub(super) const TELLING: [Strategy; 6] = [
    Strategy::Naive,
    Strategy::TightLoop,
    Strategy::Limit,
    Strategy::Abort,
    Strategy::Backpressure,
    Strategy::Layered,
];

/// A run stands for one that is so many times longer: timeouts are scaled by it.
const TYPICAL_RUN: Duration = Duration::from_secs(150);
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
const FRAME_TIMEOUT: Duration = Duration::from_secs(30);
/// Nobody is disconnected sooner: the watchdog looks ten times a second.
const MIN_TIMEOUT: Duration = Duration::from_millis(200);

/// Connections where there is no limit to speak of, buffer where it is not the cure, connections
/// where they are.
const ALL_CONNECTIONS: usize = 4096;
const LITTLE_BUFFER: usize = 1000;

impl Strategy {
    pub(crate) fn name(&self) -> &'static str {
        let known = STRATEGIES.iter().find(|(_, known)| known == self);
        known.map_or(CUSTOM, |(name, _)| name)
    }

    /// The strategy of that name, unless it needs flags beside.
    pub(super) fn named(name: &str) -> Option<Strategy> {
        named().into_iter().find(|strategy| strategy.name() == name)
    }

    /// The flags that start the same server by hand, for a load like this; `None`: it is none of
    /// ours.
    pub(crate) fn flags(&self, workload: &Workload) -> Option<Vec<String>> {
        let scaled = |full: Duration| {
            let part = workload.duration.as_secs_f64() / TYPICAL_RUN.as_secs_f64();
            let millis = (full.as_millis() as f64 * part).round() as u64;
            units::print_duration(Duration::from_millis(millis).clamp(MIN_TIMEOUT, full))
        };
        let send_timeout = scaled(SEND_TIMEOUT);
        let alone = |more: &[(&str, &str)]| Some(alone(more));
        match self {
            Strategy::Naive
            | Strategy::TightLoop
            | Strategy::SmallBuffer
            | Strategy::SingleSender => None,
            Strategy::Backpressure => alone(&[]),
            Strategy::BigBuffer => {
                alone(&[("--buffer-messages", "1000000"), ("--buffer-bytes", "1GiB")])
            }
            Strategy::Limit => {
                let half = (workload.connections() / 2).max(1).to_string();
                alone(&[("--max-connections", &half), ("--on-overload", "close")])
            }
            Strategy::Abort => {
                alone(&[("--when-full", "abort"), ("--send-timeout", &send_timeout)])
            }
            Strategy::AbortAndBuffer => alone(&[
                ("--when-full", "abort"),
                ("--send-timeout", &send_timeout),
                ("--buffer-messages", "100000"),
            ]),
            Strategy::Pause => alone(&[
                ("--pause-after", &scaled(SEND_TIMEOUT / 6)),
                ("--on-overload", "close"),
            ]),
            Strategy::RateLimit => alone(&[("--rate-limit", &fair_share(workload).to_string())]),
            Strategy::Layered => Some(flags(&[
                ("--send-timeout", &send_timeout),
                ("--frame-timeout", &scaled(FRAME_TIMEOUT)),
            ])),
            Strategy::Custom(typed) => Some(typed.clone()),
        }
    }
}

/// The program with every layer off but a small buffer that holds its senders back, and what is on.
fn alone(on: &[(&str, &str)]) -> Vec<String> {
    let connections = ALL_CONNECTIONS.to_string();
    let buffer = LITTLE_BUFFER.to_string();
    let off = [
        ("--max-connections", connections.as_str()),
        ("--buffer-messages", &buffer),
        ("--when-full", "block"),
        ("--pause-after", "off"),
        ("--frame-timeout", "off"),
        ("--keepalive", "off"),
    ];
    let is_on = |flag: &str| on.iter().any(|(name, _)| *name == flag);
    let rest: Vec<_> = off.into_iter().filter(|(flag, _)| !is_on(flag)).collect();
    flags(&[&rest[..], on].concat())
}

fn flags(pairs: &[(&str, &str)]) -> Vec<String> {
    let words = pairs.iter().flat_map(|(flag, value)| [*flag, *value]);
    words.map(str::to_owned).collect()
}

/// What a connection may send so that all together send what the sink takes, or what the honest
/// ones send.
fn fair_share(workload: &Workload) -> u64 {
    let honest = workload.crowds.iter().filter_map(|crowd| match crowd.pace {
        ClientPace::Rate(rate) => Some(rate),
        ClientPace::Greedy | ClientPace::Drip => None,
    });
    let of_sink = workload
        .sink
        .rate
        .map(|rate| rate / workload.connections().max(1) as u64);
    of_sink.or(honest.min()).unwrap_or(1).max(1)
}
