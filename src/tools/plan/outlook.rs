//! A load, and what becomes of it, in a sentence that is made of what was simulated alone.

use std::time::Duration;

use drainline::Config;

use crate::cli::units;

use super::super::metrics::{Recovery, TICK};
use super::super::simulation::Simulated;
use super::super::words::{count, seconds};
use super::super::workload::{ClientPace, Workload};

/// What the end of a load takes in any case.
const A_MOMENT: Duration = Duration::from_secs(1);

/// A load, and what becomes of it.
#[derive(Clone, Debug)]
pub(super) struct Outlook {
    /// What load that is.
    pub(super) what: String,
    pub(super) workload: Workload,
    pub(super) simulated: Simulated,
    /// What happens, in a sentence.
    pub(super) text: String,
}

impl Outlook {
    /// Of what was simulated with these settings.
    pub(super) fn new(
        what: String,
        workload: Workload,
        simulated: Simulated,
        config: &Config,
    ) -> Outlook {
        let mut outlook = Outlook {
            what,
            workload,
            simulated,
            text: String::new(),
        };
        outlook.text = outlook.sentence(config);
        outlook
    }

    /// The parts are about: losses, waiting, the fullest that the buffer was, how long new clients
    /// are not accepted, the time after a stall, and where every message is when the load ends.
    fn sentence(&self, config: &Config) -> String {
        let paused = Some(self.simulated.paused_for()).filter(|time| !time.is_zero());
        let parts = [
            Some(format!("{}{}", self.simulated_part(), self.losses())),
            Some(self.waits()),
            self.held_back(config),
            Some(format!(
                "at most {} messages are in the buffer or wait for it",
                count(self.simulated.metrics.peak_buffered)
            )),
            paused.map(|paused| format!("new clients are not accepted for {}", seconds(paused))),
            self.recovery(),
            Some(self.whereabouts()),
            self.afterwards(),
        ];
        let parts: Vec<String> = parts.into_iter().flatten().collect();
        parts.join("; ")
    }

    /// What is lost while the server runs.
    fn losses(&self) -> String {
        let all = self.simulated.lost();
        if all == 0 {
            return "nothing is lost".to_owned();
        }
        let reasons: Vec<String> = self
            .simulated
            .losses()
            .map(|(reason, times)| format!("{} {reason}", count(times)))
            .collect();
        let offered = self.simulated.watched.at_end.offered;
        format!(
            "{} of {} messages are lost, {} ({})",
            count(all),
            count(offered),
            percent(all, offered),
            reasons.join(", ")
        )
    }

    fn waits(&self) -> String {
        match self.simulated.longest_wait() {
            Duration::ZERO => "nobody waits 100 ms for the buffer".to_owned(),
            wait => format!("the buffer holds senders up, for {} at most", seconds(wait)),
        }
    }

    /// What is not read when it is due, and who keeps it meanwhile.
    fn held_back(&self, config: &Config) -> Option<String> {
        let most = &self.simulated.watched.most;
        if most.late <= TICK {
            return None;
        }
        let mut text = String::new();
        if let Some(limit) = config
            .rate_limit
            .filter(|limit| is_above(*limit, &self.workload))
        {
            text = format!(
                "--rate-limit {} holds senders back: ",
                units::print_rate(limit)
            );
        }
        text += &format!("messages are unread for up to {}", seconds(most.late));
        text += &match (most.in_sockets, most.at_senders) {
            (sockets, 0) => format!(", at most {} of them in sockets", count(sockets)),
            (sockets, senders) => format!(
                ", at most {} of them in sockets and {} that senders have to keep, {} each",
                count(sockets),
                count(senders),
                count(most.at_one_sender)
            ),
        };
        Some(text)
    }

    /// `None`: there was no stall, or none that the simulation saw the end of.
    fn recovery(&self) -> Option<String> {
        let stall_ended = self.workload.recovers_at()?;
        let seen = self.simulated.watched.at_end.at.checked_sub(stall_ended)?;
        let well = match (
            self.simulated.metrics.recovery,
            self.simulated.watched.caught_up,
        ) {
            (Recovery::After(calm), Some(caught_up)) => Some(calm.max(caught_up)),
            _ => None,
        };
        match well.filter(|well| *well <= seen) {
            Some(well) if well <= TICK => {
                Some("the backlog is gone at once after the stall".to_owned())
            }
            Some(well) => Some(format!(
                "the backlog is gone {} after the stall",
                seconds(well)
            )),
            None => Some(format!(
                "the backlog is not gone at the end, {} after the stall",
                seconds(seen)
            )),
        }
    }

    /// How much of a load was simulated where it was not all of it.
    pub(super) fn simulated_alone(&self) -> Option<String> {
        let end = self.simulated.watched.at_end.at;
        (end < self.workload.duration).then(|| {
            format!(
                "the first {} of {}",
                seconds(end),
                seconds(self.workload.duration)
            )
        })
    }

    /// What everything behind it is about; empty where that is the whole load.
    fn simulated_part(&self) -> String {
        self.simulated_alone().map_or(String::new(), |part| {
            format!("only {part} were simulated, and what comes later is not known; until then ")
        })
    }

    /// Where all messages are that were due when the load ended, or the simulation.
    fn whereabouts(&self) -> String {
        let end = &self.simulated.watched.at_end;
        let offered = count(end.offered);
        let when = match end.at < self.workload.duration {
            true => "at its end".to_owned(),
            false => format!("after {}, when the simulated load ends,", seconds(end.at)),
        };
        if end.delivered == end.offered {
            return format!("{when} all {offered} messages are delivered");
        }
        let places = [
            (end.in_server, "in the server"),
            (end.in_sockets, "unread in sockets"),
            (end.at_senders, "still with their senders"),
            (end.lost, "lost"),
        ];
        let filled = places.iter().filter(|(messages, _)| *messages > 0);
        let said: Vec<String> = filled
            .map(|(messages, place)| format!("{} {place}", count(*messages)))
            .collect();
        format!(
            "{when} {} of {offered} messages are delivered, {}",
            count(end.delivered),
            said.join(", ")
        )
    }

    /// What becomes of the rest when the load is over, where there is one.
    fn afterwards(&self) -> Option<String> {
        let last = self.simulated.timeline.last()?;
        let after = last.at.checked_sub(self.workload.duration)?;
        let more = self
            .simulated
            .lost()
            .saturating_sub(self.simulated.watched.at_end.lost);
        let lost = Some(more).filter(|more| *more > 0);
        let lost = lost.map_or(String::new(), |more| {
            format!(", and {} more are lost", count(more))
        });
        match &self.simulated.metrics.stopped_at {
            Some(_) => Some(format!(
                "{} later, when the simulation ends, the server has some left{lost}",
                seconds(after)
            )),
            None if after > A_MOMENT || more > 0 => Some(format!(
                "{} later the server has nothing left{lost}",
                seconds(after)
            )),
            None => None,
        }
    }
}

fn percent(part: u64, whole: u64) -> String {
    match part as f64 * 100.0 / whole.max(1) as f64 {
        percent if percent < 0.1 => "less than 0.1 %".to_owned(),
        percent => format!("{percent:.1} %"),
    }
}

/// Whether somebody sends more than the limit lets through.
fn is_above(limit: u64, workload: &Workload) -> bool {
    let mut paces = workload.crowds.iter().map(|crowd| crowd.pace);
    paces.any(|pace| match pace {
        ClientPace::Rate(rate) => rate > limit,
        ClientPace::Greedy => true,
        ClientPace::Drip => false,
    })
}
