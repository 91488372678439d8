//! The watchdog's tick: it looks at everybody and at where every message is that was due so far,
//! asks the policy, and acts.

use std::time::Duration;

use drainline::OnOverload;
use drainline::policy::{Activity, Finding, Observation, Sample};

use super::super::metrics::TICK;
use super::super::workload::ClientPace;
use super::connection::{Client, HandlerState};
use super::scenario::Whereabouts;
use super::simulator::{CrowdState, Simulator};
use super::timeline::Sight;

/// To look at every connection costs more than what happens between two ticks.
const LOOKS: u32 = 200;

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
            (Some(reason), _) => self.empty_queue(reason),
        }
    }

    /// The longest wait in line, and what handlers hold there. Nobody else waits for the server.
    fn watch_line(&mut self) -> (Duration, u64) {
        let (mut longest, mut held) = (Duration::ZERO, 0);
        self.count_looks(self.line.len());
        for waiting in &self.line {
            let connection = &mut self.connections[waiting.connection];
            if connection.state != HandlerState::Sending(waiting.ticket) {
                continue;
            }
            let sample = Sample {
                activity: Activity::Sending,
                turns: connection.turns,
                bytes: connection.read,
                frames: connection.read,
                inside: false,
                ..Sample::default()
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
                if connection.state != HandlerState::Idle {
                    continue;
                }
                let bytes = self.now.saturating_sub(connection.since).as_secs() + 1;
                let sample = Sample {
                    activity: Activity::Reading,
                    turns: bytes as u32,
                    bytes,
                    inside: true,
                    ..Sample::default()
                };
                if let Finding::DeadlinePassed(_) =
                    connection.watch.step(sample, TICK, &self.limits)
                {
                    self.end(id, true);
                }
            }
        }
    }

    // ---- where every message is

    /// Looks where the messages are, some hundred times.
    pub(super) fn watch_messages(&mut self) {
        if self.is_load_over() {
            return;
        }
        let stall_ended = self.workload.recovers_at().filter(|end| self.now >= *end);
        let catches_up = stall_ended.filter(|_| self.watched.caught_up.is_none());
        let may_be_seen_at_once = catches_up.is_some() && self.reads_all_at_once();
        if self.now < self.watched.next_look && !may_be_seen_at_once {
            return;
        }
        self.watched.next_look = self.now + (self.workload.duration / LOOKS).max(TICK);
        let now = self.look_around();
        self.watched.see(&now);
        if let Some(end) = catches_up.filter(|_| now.late <= TICK) {
            self.watched.caught_up = Some(self.now - end);
        }
    }

    /// The load is over, or the simulation is.
    pub(super) fn see_the_end(&mut self) {
        if !self.is_load_over() {
            let now = self.look_around();
            self.watched.see(&now);
            self.watched.at_end = now;
        }
    }

    fn is_load_over(&self) -> bool {
        self.watched.at_end != Whereabouts::default()
    }

    fn look_around(&mut self) -> Whereabouts {
        let mut seen = Whereabouts {
            at: self.now,
            delivered: self.buffer.delivered,
            lost: self.buffer.dropped.total() + self.unseen,
            in_server: self.buffer.in_flight(),
            ..Whereabouts::default()
        };
        for number in 0..self.crowds.len() {
            self.catch_up(number);
            let schedule = &self.crowds[number].schedule;
            seen.offered += match self.workload.crowds[number].pace {
                ClientPace::Rate(_) => schedule.due(),
                ClientPace::Greedy | ClientPace::Drip => 0,
            };
        }
        if self.reads_all_at_once() {
            return seen;
        }
        self.count_looks(self.clients.len() + self.connections.len());
        for id in 0..self.connections.len() {
            self.look_at_connection(id, &mut seen);
        }
        for client in 0..self.clients.len() {
            self.look_at_client(client, &mut seen);
        }
        seen
    }

    /// Whether every client has a rate and a handler that waits for it, and nobody else has a
    /// connection: then nothing is unread. Who hung up and came back may have left one behind that
    /// a rate limit holds.
    fn reads_all_at_once(&self) -> bool {
        if self.connections.len() - self.free.len() > self.clients.len() {
            return false;
        }
        let has_rate = |pace| matches!(pace, ClientPace::Rate(_));
        let is_read = |crowd: &CrowdState| crowd.idle == crowd.schedule.clients();
        let mut crowds = self.crowds.iter().zip(&self.workload.crowds);
        crowds.all(|(crowd, workload)| is_read(crowd) && has_rate(workload.pace))
    }

    fn look_at_connection(&mut self, id: usize, seen: &mut Whereabouts) {
        // Who is idle has read all there was.
        if matches!(
            self.connections[id].state,
            HandlerState::Over | HandlerState::Idle
        ) {
            return;
        }
        let took = self.took(id);
        let connection = &self.connections[id];
        let in_line = match connection.state {
            // The buffer counts it.
            HandlerState::Sending(_) => connection.offered.messages,
            _ => 0,
        };
        seen.in_server += connection.held - in_line;
        seen.in_sockets += took - connection.read;
        if took > connection.read {
            let due = self.due_time(connection.client, connection.base + connection.read);
            seen.late = seen.late.max(self.now.saturating_sub(due));
        }
    }

    fn look_at_client(&mut self, client: usize, seen: &mut Whereabouts) {
        let Client {
            crowd,
            place,
            sent,
            connection,
            ..
        } = self.clients[client];
        let taken = sent + connection.map_or(0, |id| self.took(id));
        let due = match self.workload.crowds[crowd].pace {
            ClientPace::Rate(_) => self.crowds[crowd].schedule.due_of(place),
            ClientPace::Greedy | ClientPace::Drip => {
                seen.offered += taken;
                return;
            }
        };
        let kept = due.saturating_sub(taken);
        seen.at_senders += kept;
        seen.at_one_sender = seen.at_one_sender.max(kept);
        if kept > 0 {
            let due = self.due_time(client, taken);
            seen.late = seen.late.max(self.now.saturating_sub(due));
        }
    }

    /// When the `nth` message of a client is due; of one that has no rate, now.
    fn due_time(&self, client: usize, nth: u64) -> Duration {
        let Client { crowd, place, .. } = self.clients[client];
        match self.workload.crowds[crowd].pace {
            ClientPace::Rate(_) => self.crowds[crowd].schedule.due_time(place, nth),
            ClientPace::Greedy | ClientPace::Drip => self.now,
        }
    }
}
