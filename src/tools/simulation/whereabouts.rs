//! Where every message is that was due so far.

use std::time::Duration;

use super::super::demand::ClientPace;
use super::super::figures::TICK;
use super::clients::Client;
use super::connection::Place;
use super::world::{CrowdState, World};

/// To look at every connection costs more than what happens between two ticks.
const LOOKS: u32 = 200;

/// Messages by where they are: offered = delivered + lost + in the server + in sockets + with the senders. Each is
/// counted on its own.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Whereabouts {
    /// Since the load began.
    pub(crate) at: Duration,
    /// What the clients were to send; of those that send as fast as they can, what they sent.
    pub(crate) offered: u64,
    pub(crate) delivered: u64,
    /// Dropped, or in the kernel when its connection was cut.
    pub(crate) lost: u64,
    /// In the buffer, or in a handler's hands that waits for room in it.
    pub(crate) in_server: u64,
    /// Taken by the kernel, and not read.
    pub(crate) in_sockets: u64,
    /// Due, and not taken by the kernel: who sends has to keep them.
    pub(crate) at_senders: u64,
    /// The most that one sender has to keep.
    pub(crate) at_one_sender: u64,
    /// How long the oldest of those that nobody has read has been due.
    pub(crate) late: Duration,
}

/// What was seen of them.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Watched {
    /// When the load ended, or the simulation, whichever was first.
    pub(crate) at_end: Whereabouts,
    /// The most that was in each place at any look.
    pub(crate) most: Whereabouts,
    /// From the end of the last stall until no message was late any more.
    pub(crate) caught_up: Option<Duration>,
    next_look: Duration,
}

impl Whereabouts {
    #[cfg(test)]
    pub(crate) fn closes(&self) -> bool {
        let placed = self.delivered + self.lost + self.in_server;
        self.offered == placed + self.in_sockets + self.at_senders
    }
}

impl Watched {
    fn see(&mut self, now: &Whereabouts) {
        let most = &mut self.most;
        most.in_server = most.in_server.max(now.in_server);
        most.in_sockets = most.in_sockets.max(now.in_sockets);
        most.at_senders = most.at_senders.max(now.at_senders);
        most.at_one_sender = most.at_one_sender.max(now.at_one_sender);
        most.late = most.late.max(now.late);
    }
}

impl World<'_> {
    /// Looks where the messages are, some hundred times.
    pub(super) fn watch_messages(&mut self) {
        if self.is_load_over() {
            return;
        }
        let stall_ended = self.demand.recovers_at().filter(|end| self.now >= *end);
        let catches_up = stall_ended.filter(|_| self.watched.caught_up.is_none());
        let may_be_seen_at_once = catches_up.is_some() && self.reads_all_at_once();
        if self.now < self.watched.next_look && !may_be_seen_at_once {
            return;
        }
        self.watched.next_look = self.now + (self.demand.duration / LOOKS).max(TICK);
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
            seen.offered += match self.demand.crowds[number].pace {
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

    /// Whether every client has a rate and a handler that waits for it, and nobody else has a connection: then nothing
    /// is unread. Who hung up and came back may have left one behind that a rate limit holds.
    fn reads_all_at_once(&self) -> bool {
        if self.connections.len() - self.free.len() > self.clients.len() {
            return false;
        }
        let has_rate = |pace| matches!(pace, ClientPace::Rate(_));
        let is_read = |crowd: &CrowdState| crowd.idle == crowd.schedule.clients();
        let mut crowds = self.crowds.iter().zip(&self.demand.crowds);
        crowds.all(|(crowd, demand)| is_read(crowd) && has_rate(demand.pace))
    }

    fn look_at_connection(&mut self, id: usize, seen: &mut Whereabouts) {
        // Who is idle has read all there was.
        if matches!(self.connections[id].place, Place::Over | Place::Idle) {
            return;
        }
        let took = self.took(id);
        let connection = &self.connections[id];
        let in_line = match connection.place {
            // The buffer counts it.
            Place::Sending(_) => connection.offered.messages,
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
        let due = match self.demand.crowds[crowd].pace {
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
        match self.demand.crowds[crowd].pace {
            ClientPace::Rate(_) => self.crowds[crowd].schedule.due_time(place, nth),
            ClientPace::Greedy | ClientPace::Drip => self.now,
        }
    }
}
