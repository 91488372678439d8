//! What the settings come to: under the load that they are for, and one step beyond it. By
//! simulation, not by guess.

use std::time::Duration;

use drainline::{PauseAfter, WhenFull};

use crate::cli::units;

use super::super::bar::Bar;
use super::super::simulation::{self, Scenario};
use super::super::words::rate;
use super::super::workload::Workload;
use super::decision::{Promise, Settings};
use super::inputs::Inputs;
use super::outlook::Outlook;

/// A server that is not shut down before it has delivered everything: a shutdown is not what is
/// looked at.
const SETTLE: Duration = Duration::from_secs(24 * 60 * 60);
const MAX_DURATION: Duration = Duration::from_secs(3600);
const A_WHILE: Duration = Duration::from_secs(60);

/// The load that the settings are for.
pub(super) fn expected(inputs: &Inputs, settings: &Settings) -> Outlook {
    let workload = filling(inputs, inputs.workload(), settings);
    outlook("this load".to_owned(), workload, settings)
}

/// What lies one step beyond it.
pub(super) fn what_if(inputs: &Inputs, settings: &Settings) -> Vec<Outlook> {
    let mut outlooks: Vec<Outlook> = longer_stall(inputs, settings).into_iter().collect();
    match (inputs.sink_rate, settings.promise) {
        (Some(sink), Promise::Lossless { .. }) => {
            let faster = Inputs {
                rate: sink.saturating_add(sink / 4).max(sink + 1),
                ..inputs.clone()
            };
            let what = format!("{}, a quarter more than the sink takes", rate(faster.rate));
            let workload = lasting(&faster, settings);
            outlooks.push(outlook(what, workload, settings));
        }
        (Some(_), Promise::Held { .. }) => {
            let mut abort = settings.clone();
            abort.config.when_full = WhenFull::Abort;
            abort.config.pause_after = PauseAfter::Auto;
            let what = "--when-full abort instead".to_owned();
            // A sink that takes just what arrives needs a stall to fall behind.
            let workload = match inputs.sink_rate == Some(inputs.rate) {
                true => inputs.workload(),
                false => lasting(inputs, settings),
            };
            outlooks.push(outlook(what, workload, &abort));
        }
        _ => {}
    }
    outlooks
}

/// The stall twice over, where there is one.
pub(super) fn longer_stall(inputs: &Inputs, settings: &Settings) -> Option<Outlook> {
    let longer = Inputs {
        stall: inputs.stall * 2,
        ..inputs.clone()
    };
    let what = format!("a stall of {}", units::print_duration(longer.stall));
    (!inputs.stall.is_zero()).then(|| {
        let workload = filling(&longer, longer.workload(), settings);
        outlook(what, workload, settings)
    })
}

/// Where the sink does not keep up, for so long that the buffer is full and somebody waits.
fn filling(inputs: &Inputs, mut workload: Workload, settings: &Settings) -> Workload {
    if inputs.sink_rate.is_some_and(|sink| sink < inputs.rate) {
        let lasts = workload.duration.max(lasting(inputs, settings).duration);
        stretch(&mut workload, lasts);
    }
    workload
}

/// Without a stall, until the buffer is full and those who wait have waited long enough to be
/// disconnected.
fn lasting(inputs: &Inputs, settings: &Settings) -> Workload {
    let over = inputs
        .rate
        .saturating_sub(inputs.sink_rate.unwrap_or_default());
    let fills = settings.config.buffer_messages as f64 / over.max(1) as f64;
    let fills = Duration::try_from_secs_f64(fills).unwrap_or(MAX_DURATION);
    let lasts = fills
        .saturating_add(settings.config.send_timeout * 2)
        .saturating_add(A_WHILE)
        .min(MAX_DURATION);
    let endless = Inputs {
        stall: Duration::ZERO,
        ..inputs.clone()
    };
    let mut workload = endless.workload();
    stretch(&mut workload, lasts);
    workload
}

fn stretch(workload: &mut Workload, lasts: Duration) {
    workload.duration = lasts;
    for crowd in &mut workload.crowds {
        crowd.until = lasts;
    }
}

fn outlook(what: String, workload: Workload, settings: &Settings) -> Outlook {
    let scenario = Scenario {
        config: &settings.config,
        max_message: settings.max_message,
        workload: &workload,
        settle: SETTLE,
        max_steps: simulation::MAX_STEPS,
    };
    let bar = Bar::new(simulation::WHOLE);
    let simulated = simulation::run_watched(&scenario, &mut |done| {
        bar.show(done, || format!("simulating {what}"));
    });
    bar.clear();
    Outlook::new(what, workload, simulated, &settings.config)
}
