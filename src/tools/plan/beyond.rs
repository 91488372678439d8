//! What the settings come to: under the load that they are for, and one step beyond it. By simulation, not by guess.

use std::time::Duration;

use drainline::{DropReason, PauseAfter, Reason, WhenFull};

use crate::cli::units;

use super::super::bar::Bar;
use super::super::demand::Demand;
use super::super::simulation::{self, Scenario, Simulated};
use super::decision::{Promise, Settings};
use super::sentence::sentence;
use super::situation::Situation;
use super::words::rate;

/// A server that is not shut down before it has delivered everything: a shutdown is not what is looked at.
const SETTLE: Duration = Duration::from_secs(24 * 60 * 60);
const LONGEST: Duration = Duration::from_secs(3600);
const A_WHILE: Duration = Duration::from_secs(60);

/// A load, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    /// What load that is.
    pub(super) what: String,
    pub(super) demand: Demand,
    pub(super) simulated: Simulated,
    /// What happens, in a sentence.
    pub(super) text: String,
}

/// The load that the settings are for.
pub(super) fn expected(situation: &Situation, settings: &Settings) -> Outlook {
    let demand = filling(situation, situation.demand(), settings);
    outlook("this load".to_owned(), demand, settings)
}

/// What lies one step beyond it.
pub(super) fn beyond(situation: &Situation, settings: &Settings) -> Vec<Outlook> {
    let mut outlooks: Vec<Outlook> = longer_stall(situation, settings).into_iter().collect();
    match (situation.sink_rate, settings.promise) {
        (Some(sink), Promise::Lossless { .. }) => {
            let faster = Situation {
                rate: sink.saturating_add(sink / 4).max(sink + 1),
                ..situation.clone()
            };
            let what = format!("{}, a quarter more than the sink takes", rate(faster.rate));
            let demand = lasting(&faster, settings);
            outlooks.push(outlook(what, demand, settings));
        }
        (Some(_), Promise::Held { .. }) => {
            let mut cut = settings.clone();
            cut.config.when_full = WhenFull::Abort;
            cut.config.pause_after = PauseAfter::Auto;
            let what = "--when-full abort instead".to_owned();
            // A sink that takes just what arrives needs a stall to fall behind.
            let demand = match situation.sink_rate == Some(situation.rate) {
                true => situation.demand(),
                false => lasting(situation, settings),
            };
            outlooks.push(outlook(what, demand, &cut));
        }
        _ => {}
    }
    outlooks
}

/// The stall twice over, where there is one.
pub(super) fn longer_stall(situation: &Situation, settings: &Settings) -> Option<Outlook> {
    let longer = Situation {
        stall: situation.stall * 2,
        ..situation.clone()
    };
    let what = format!("a stall of {}", units::print_duration(longer.stall));
    (!situation.stall.is_zero()).then(|| {
        let demand = filling(&longer, longer.demand(), settings);
        outlook(what, demand, settings)
    })
}

/// Where the sink does not keep up, for so long that the buffer is full and somebody waits.
fn filling(situation: &Situation, mut demand: Demand, settings: &Settings) -> Demand {
    if situation
        .sink_rate
        .is_some_and(|sink| sink < situation.rate)
    {
        let lasts = demand.duration.max(lasting(situation, settings).duration);
        demand.duration = lasts;
        for crowd in &mut demand.crowds {
            crowd.until = lasts;
        }
    }
    demand
}

/// The longest that somebody waits for the buffer.
pub(super) fn longest_wait(simulated: &Simulated) -> Duration {
    let waits = simulated.course.iter().map(|point| point.longest_wait);
    waits.max().unwrap_or_default()
}

/// Without a stall, until the buffer is full and those who wait have waited long enough to be cut off.
fn lasting(situation: &Situation, settings: &Settings) -> Demand {
    let over = situation
        .rate
        .saturating_sub(situation.sink_rate.unwrap_or_default());
    let fills = settings.config.buffer_messages as f64 / over.max(1) as f64;
    let fills = Duration::try_from_secs_f64(fills).unwrap_or(LONGEST);
    let lasts = fills
        .saturating_add(settings.config.send_timeout * 2)
        .saturating_add(A_WHILE)
        .min(LONGEST);
    let endless = Situation {
        stall: Duration::ZERO,
        ..situation.clone()
    };
    let mut demand = endless.demand();
    demand.duration = lasts;
    for crowd in &mut demand.crowds {
        crowd.until = lasts;
    }
    demand
}

fn outlook(what: String, demand: Demand, settings: &Settings) -> Outlook {
    let scenario = Scenario {
        config: &settings.config,
        max_message: settings.max_message,
        demand: &demand,
        settle: SETTLE,
    };
    let bar = Bar::new(simulation::WHOLE);
    let simulated = simulation::run_watched(&scenario, &mut |done| {
        bar.show(done, || format!("simulating {what}"));
    });
    bar.clear();
    Outlook {
        what,
        text: sentence(&simulated, &demand, &settings.config),
        demand,
        simulated,
    }
}

/// Messages that are lost while the server runs.
pub(super) fn lost(simulated: &Simulated) -> u64 {
    losses(simulated).map(|(_, count)| count).sum()
}

/// What they are lost for, and how many. What is on its way at the end of a simulation is not.
pub(super) fn losses(simulated: &Simulated) -> impl Iterator<Item = (&str, u64)> {
    let while_it_runs = |(reason, _): &&(String, u64)| reason != DropReason::Shutdown.name();
    let dropped = simulated.figures.lost.iter().filter(while_it_runs);
    let dropped = dropped.map(|(reason, count)| (reason.as_str(), *count));
    let unseen = simulated.unseen.saturating_sub(simulated.unseen_at_end);
    let unseen = (unseen > 0).then_some(("unread when their connection was cut", unseen));
    dropped.chain(unseen)
}
