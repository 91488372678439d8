//! The watchdog's tick: it looks at everybody, asks the model, and acts.

use std::time::Duration;

use drainline::OnOverload;
use drainline::policy::{Activity, Finding, Observation, Sample};

use super::super::metrics::TICK;
use super::super::workload::ClientPace;
use super::connection::Place;
use super::simulator::Simulator;
use super::timeline::Sight;

impl Simulator<'_> {
    pub(super) fn tick(&mut self) {
        let (longest_wait, held_bytes) = self.watch_line();
        self.watch_drips();
        self.watch_messages();
        let seen = Observation {
            longest_wait,
            lost: self.buffer.lost_to_full,
            finished: self.buffer.delivered,
            empty: self.buffer.used().messages == 0,
        };
        let change = self.overload.step(self.now, seen);
        self.changes.extend(change.map(|change| (self.now, change)));
        let was_paused =
            std::mem::replace(&mut self.admission.is_paused, self.overload.is_paused());
        self.timeline.see(Sight {
            now: self.now,
            open: self.admission.open,
            longest_wait,
            held_bytes,
            level: self.overload.level(),
            buffer: &self.buffer,
            admission: &self.admission,
        });
        if self.admission.is_paused == was_paused {
            return;
        }
        self.pauses.push(self.now);
        match (self.admission.not_accepting(), self.admission.on_overload) {
            (None, _) => self.admit(),
            (Some(_), OnOverload::Backlog) => {}
            (Some(reason), OnOverload::Close | OnOverload::Refuse) => self.empty_queue(reason),
        }
    }

    /// The longest wait in line, and what handlers hold there. Nobody else waits for the server.
    fn watch_line(&mut self) -> (Duration, u64) {
        let (mut longest, mut held) = (Duration::ZERO, 0);
        self.count_looks(self.line.len());
        for &(ticket, id, _) in &self.line {
            let connection = &mut self.connections[id];
            if connection.place != Place::Sending(ticket) {
                continue;
            }
            let sample = Sample {
                activity: Activity::Sending,
                turns: connection.turns,
                bytes: connection.read,
                frames: connection.read,
                inside: false,
            };
            // What it says beside its time is who is to be named in the log.
            let _ = connection.watch.step(sample, TICK, &self.limits);
            longest = longest.max(connection.watch.waiting());
            held += self.crowds[connection.crowd]
                .reads
                .held_bytes(connection.held);
        }
        (longest, held)
    }

    /// Who sends byte by byte and never ends a message is past its deadline some time. Nobody else
    /// is inside one while its handler waits for it.
    fn watch_drips(&mut self) {
        for number in 0..self.crowds.len() {
            let crowd = &self.workload.crowds[number];
            if crowd.pace != ClientPace::Drip {
                continue;
            }
            let first = self.crowds[number].first;
            for client in first..first + crowd.connections {
                let Some(id) = self.clients[client].connection else {
                    continue;
                };
                let connection = &mut self.connections[id];
                if connection.place != Place::Idle {
                    continue;
                }
                let bytes = self.now.saturating_sub(connection.since).as_secs() + 1;
                let sample = Sample {
                    activity: Activity::Reading,
                    turns: bytes as u32,
                    bytes,
                    frames: 0,
                    inside: true,
                };
                if let Finding::DeadlinePassed(_) =
                    connection.watch.step(sample, TICK, &self.limits)
                {
                    self.end(id, true);
                }
            }
        }
    }
}
