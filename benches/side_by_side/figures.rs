//! What was measured: figures by name, and their medians over rounds.

use std::collections::BTreeMap;

/// One column of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Metric {
    /// Messages, connections or requests a second.
    Rate,
    BytesPerSecond,
    /// Of the server alone, for each message, connection or request.
    CpuNs,
    LatencyP50Us,
    LatencyP99Us,
    /// From the first connect until the last has returned.
    ConnectSeconds,
    /// From the first connect to the last message at the sink.
    Seconds,
    /// The same, in rounds in which no listener's queue overflowed.
    UnhinderedSeconds,
    /// From the first close until the server holds no more descriptors than before the crowd.
    ClosedSeconds,
    /// From the first close until it has no more threads than before the crowd.
    JoinedSeconds,
    /// From SIGTERM until it has ended: the longest.
    ExitSeconds,
    /// Rounds in which its exit code was 0.
    CleanExits,
    /// Resident, the most since the server began.
    PeakBytes,
    /// Peak, as a share of the limit that the server printed at start.
    PeakOfLimit,
    /// Resident for each quiet connection.
    IdleBytes,
    /// The same, after a burst.
    IdleBytesAfterBurst,
    /// What the kernel holds for each, both ends of it, with its thread.
    KernelBytes,
    Threads,
    /// Messages that arrived, of those that were sent.
    Delivered,
    /// Messages that were sent, of those that were to be sent in the time.
    Offered,
    /// Messages that had come and were not delivered, at most, whenever it was asked.
    Behind,
    /// Throughput between 1 s and 2 s after a stall, of what it was before.
    Recovered,
    /// Rounds in which a listener's queue overflowed.
    Overflowed,
    ListenOverflows,
    /// SYNs, and answers to them, that were sent again.
    SynRetries,
    /// The share of the machine that went to processes that have nothing to do with it, or to
    /// another machine.
    Others,
}

impl Metric {
    pub(crate) const ALL: [Metric; 26] = [
        Metric::Rate,
        Metric::BytesPerSecond,
        Metric::CpuNs,
        Metric::LatencyP50Us,
        Metric::LatencyP99Us,
        Metric::ConnectSeconds,
        Metric::Seconds,
        Metric::UnhinderedSeconds,
        Metric::ClosedSeconds,
        Metric::JoinedSeconds,
        Metric::ExitSeconds,
        Metric::CleanExits,
        Metric::PeakBytes,
        Metric::PeakOfLimit,
        Metric::IdleBytes,
        Metric::IdleBytesAfterBurst,
        Metric::KernelBytes,
        Metric::Threads,
        Metric::Delivered,
        Metric::Offered,
        Metric::Behind,
        Metric::Recovered,
        Metric::Overflowed,
        Metric::ListenOverflows,
        Metric::SynRetries,
        Metric::Others,
    ];

    /// Its key in JSON.
    pub(crate) fn key(self) -> &'static str {
        match self {
            Metric::Rate => "per_second",
            Metric::BytesPerSecond => "bytes_per_second",
            Metric::CpuNs => "cpu_ns",
            Metric::LatencyP50Us => "latency_p50_us",
            Metric::LatencyP99Us => "latency_p99_us",
            Metric::ConnectSeconds => "connect_seconds",
            Metric::Seconds => "seconds",
            Metric::UnhinderedSeconds => "seconds_without_overflow",
            Metric::ClosedSeconds => "closed_seconds",
            Metric::JoinedSeconds => "joined_seconds",
            Metric::ExitSeconds => "exit_seconds",
            Metric::CleanExits => "clean_exits",
            Metric::PeakBytes => "peak_resident_bytes",
            Metric::PeakOfLimit => "peak_of_printed_limit",
            Metric::IdleBytes => "resident_bytes_per_connection",
            Metric::IdleBytesAfterBurst => "resident_bytes_per_connection_after_burst",
            Metric::KernelBytes => "kernel_bytes_per_connection",
            Metric::Threads => "threads",
            Metric::Delivered => "delivered",
            Metric::Offered => "offered",
            Metric::Behind => "behind",
            Metric::Recovered => "recovered",
            Metric::Overflowed => "overflowed",
            Metric::ListenOverflows => "listen_overflows",
            Metric::SynRetries => "syn_retries",
            Metric::Others => "others_cpu",
        }
    }

    /// The head of its column. `unit`: what it is counted in.
    pub(crate) fn head(self, unit: &str) -> String {
        match self {
            Metric::Rate => format!("{unit}s/s"),
            Metric::BytesPerSecond => "MB/s".to_owned(),
            Metric::CpuNs => format!("CPU us/{unit}"),
            Metric::LatencyP50Us => "p50 ms".to_owned(),
            Metric::LatencyP99Us => "p99 ms".to_owned(),
            Metric::ConnectSeconds => "connects s".to_owned(),
            Metric::Seconds => "seconds".to_owned(),
            Metric::UnhinderedSeconds => "s, no overflow".to_owned(),
            Metric::ClosedSeconds => "closed s".to_owned(),
            Metric::JoinedSeconds => "threads gone s".to_owned(),
            Metric::ExitSeconds => "longest exit s".to_owned(),
            Metric::CleanExits => "exit 0".to_owned(),
            Metric::PeakBytes => "peak MiB".to_owned(),
            Metric::PeakOfLimit => "of limit".to_owned(),
            Metric::IdleBytes => "KiB/idle".to_owned(),
            Metric::IdleBytesAfterBurst => "KiB/idle, burst".to_owned(),
            Metric::KernelBytes => "kernel KiB".to_owned(),
            Metric::Threads => "threads".to_owned(),
            Metric::Delivered => "delivered".to_owned(),
            Metric::Offered => "offered".to_owned(),
            Metric::Behind => "most behind".to_owned(),
            Metric::Recovered => "recovered".to_owned(),
            Metric::Overflowed => "overflowed".to_owned(),
            Metric::ListenOverflows => "overflows".to_owned(),
            Metric::SynRetries => "SYN retries".to_owned(),
            Metric::Others => "others".to_owned(),
        }
    }

    /// Whether one entrant's by another's says something.
    pub(crate) fn is_compared(self) -> bool {
        !matches!(
            self,
            Metric::PeakOfLimit
                | Metric::Delivered
                | Metric::Offered
                | Metric::Behind
                | Metric::Recovered
                | Metric::CleanExits
                | Metric::Overflowed
                | Metric::ListenOverflows
                | Metric::SynRetries
                | Metric::Others
        )
    }

    /// How one figure is made of those of all rounds. Where each round counts it is no median: a
    /// message that was lost in one of them is lost, and a supervisor waits for the longest drain.
    fn over_rounds(self, values: &mut [f64]) -> Option<f64> {
        match self {
            Metric::Delivered | Metric::CleanExits | Metric::Overflowed => mean(values),
            Metric::ExitSeconds | Metric::Behind => values.iter().copied().reduce(f64::max),
            _ => median(values),
        }
    }

    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Metric::Rate if value >= 1e6 => format!("{:.2} M", value / 1e6),
            Metric::Rate | Metric::Threads | Metric::Behind => format!("{value:.0}"),
            Metric::ListenOverflows | Metric::SynRetries => format!("{value:.0}"),
            Metric::BytesPerSecond => format!("{:.0}", value / 1e6),
            Metric::CpuNs => format!("{:.3}", value / 1e3),
            Metric::LatencyP50Us | Metric::LatencyP99Us => format!("{:.3}", value / 1e3),
            Metric::ConnectSeconds | Metric::Seconds | Metric::UnhinderedSeconds => {
                format!("{value:.3}")
            }
            Metric::ClosedSeconds | Metric::JoinedSeconds | Metric::ExitSeconds => {
                format!("{value:.3}")
            }
            Metric::PeakBytes => format!("{:.1}", value / (1 << 20) as f64),
            Metric::IdleBytes | Metric::IdleBytesAfterBurst | Metric::KernelBytes => {
                format!("{:.2}", value / 1024.0)
            }
            Metric::PeakOfLimit | Metric::Recovered => format!("{value:.2}"),
            Metric::CleanExits | Metric::Overflowed | Metric::Others => {
                format!("{:.0} %", value * 100.0)
            }
            Metric::Delivered | Metric::Offered => format!("{:.2} %", value * 100.0),
        }
    }
}

/// What one entrant did in one round, or its medians.
#[derive(Debug, Clone, Default)]
pub(crate) struct Figures(pub(crate) BTreeMap<Metric, f64>);

impl Figures {
    pub(crate) fn with(mut self, metric: Metric, value: f64) -> Figures {
        self.set(metric, value);
        self
    }

    pub(crate) fn set(&mut self, metric: Metric, value: f64) {
        self.0.insert(metric, value);
    }

    /// Keeps a value that it has already.
    pub(crate) fn set_first(&mut self, metric: Metric, value: f64) {
        self.0.entry(metric).or_insert(value);
    }

    /// With the others'.
    pub(crate) fn and(mut self, mut others: Figures) -> Figures {
        self.0.append(&mut others.0);
        self
    }

    pub(crate) fn get(&self, metric: Metric) -> Option<f64> {
        self.0.get(&metric).copied()
    }

    /// Each figure's own median over the rounds that have it, or what stands for it where a median
    /// would hide what happened in one of them.
    pub(crate) fn medians(rounds: &[Figures]) -> Figures {
        let mut medians = Figures::default();
        for metric in Metric::ALL {
            let mut values: Vec<f64> = rounds
                .iter()
                .filter_map(|round| round.get(metric))
                .collect();
            if let Some(value) = metric.over_rounds(&mut values) {
                medians.set(metric, value);
            }
        }
        medians
    }
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(values: &mut [f64]) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

/// The value below which this share of the samples lies. Sorts them.
pub(crate) fn percentile(samples: &mut [u64], share: f64) -> Option<u64> {
    let last = samples.len().checked_sub(1)?;
    let at = (last as f64 * share).round() as usize;
    Some(*samples.select_nth_unstable(at).1)
}
