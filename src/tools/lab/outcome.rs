//! What a run of the lab found.

pub(super) use super::super::metrics::{Ledger, Metrics, Point, Recovery};
use super::super::workload::Workload;

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
