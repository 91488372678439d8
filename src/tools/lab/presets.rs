//! Loads that show something, of about five seconds each.

use std::time::Duration;

use crate::cli::kinds::Choices;

use super::super::workload::{ClientPace, Crowd, SinkPace, Stall, Workload};

/// A load with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Preset {
    Burst,
    SlowSink,
    DeadSink,
    ReconnectStorm,
    SlowLoris,
    OneGreedyClient,
}

pub(super) const PRESETS: Choices<Preset> = &[
    ("burst", Preset::Burst),
    ("slow-sink", Preset::SlowSink),
    ("dead-sink", Preset::DeadSink),
    ("reconnect-storm", Preset::ReconnectStorm),
    ("slow-loris", Preset::SlowLoris),
    ("one-greedy-client", Preset::OneGreedyClient),
];

const SIZE: usize = 4000;

impl Preset {
    /// The load, for `duration`.
    pub(crate) fn workload(self, duration: Duration) -> Workload {
        let part = |part: f64| duration.mul_f64(part);
        let crowd = |connections, pace, reconnect| Crowd {
            reconnect,
            ..Crowd::new(connections, SIZE, pace, duration)
        };
        let sink = |rate, stalls: &[Stall]| SinkPace {
            catches_up: true,
            ..SinkPace::new(rate, stalls)
        };
        let (crowds, sink) = match self {
            // A fifth of the time almost four times as much as the sink takes.
            Preset::Burst => {
                let more = Crowd {
                    from: part(0.2),
                    until: part(0.4),
                    ..crowd(100, ClientPace::Rate(400), None)
                };
                let steady = crowd(100, ClientPace::Rate(40), None);
                (vec![steady, more], sink(Some(12_000), &[]))
            }
            // Three times what it takes, all the time, from clients that lose patience.
            Preset::SlowSink => {
                let steady = crowd(200, ClientPace::Rate(60), Some(part(0.25)));
                (vec![steady], sink(Some(4_000), &[]))
            }
            Preset::DeadSink => {
                let steady = crowd(200, ClientPace::Rate(50), Some(part(0.15)));
                let dead = Stall::new(part(0.2), duration);
                (vec![steady], sink(None, &[dead]))
            }
            Preset::ReconnectStorm => {
                let steady = crowd(300, ClientPace::Rate(40), Some(part(0.1)));
                let stall = Stall::new(part(0.2), part(0.4));
                (vec![steady], sink(Some(60_000), &[stall]))
            }
            Preset::SlowLoris => {
                // They come when the others are there.
                let honest = Crowd {
                    from: part(0.1),
                    ..crowd(50, ClientPace::Rate(50), Some(part(0.2)))
                };
                let slow = crowd(300, ClientPace::Drip, None);
                (vec![slow, honest], sink(None, &[]))
            }
            Preset::OneGreedyClient => {
                let honest = crowd(50, ClientPace::Rate(50), None);
                let greedy = crowd(1, ClientPace::Greedy, None);
                (vec![honest, greedy], sink(Some(10_000), &[]))
            }
        };
        Workload::new(crowds, sink)
    }
}
