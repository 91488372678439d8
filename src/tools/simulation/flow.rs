//! What comes between two events: message by message, or all at once.

use std::time::Duration;

use drainline::policy::Weight;

use super::super::workload::ClientPace;
use super::connection::{Client, HandlerState};
use super::simulator::{CrowdState, Simulator};

impl Simulator<'_> {
    /// Everything that clients are due to send until then, and nothing else happens.
    pub(super) fn flow_until(&mut self, until: Duration) {
        if self.flow_at_once(until) {
            return;
        }
        loop {
            self.keep_sink_turning();
            let until = self.event_queue.next_at().unwrap_or(until);
            let flowing = self.crowds.iter().filter(|crowd| crowd.idle > 0);
            let next = flowing
                .filter_map(|crowd| {
                    crowd
                        .schedule
                        .next()
                        .map(|(at, place)| (at, crowd.first + place))
                })
                .min()
                .filter(|(at, _)| *at <= until);
            let Some((at, client)) = next else {
                return;
            };
            self.steps += 1;
            if self.is_stopped() {
                return;
            }
            self.now = at;
            self.arrive(client);
            self.settle();
        }
    }

    /// One message is due. Whoever is not waiting for it finds it later.
    fn arrive(&mut self, client: usize) {
        let Client {
            crowd, connection, ..
        } = self.clients[client];
        let idle = connection.filter(|&id| self.connections[id].state == HandlerState::Idle);
        if let Some(id) = idle {
            // It has read everything up to this message.
            self.set_state(id, HandlerState::Reading);
        }
        let schedule = &mut self.crowds[crowd].schedule;
        schedule.advance(schedule.due() + 1);
        if let Some(id) = idle {
            self.run_handler(id);
        }
    }

    /// The same for all until then, if it is certain that nobody has to wait. The sink goes on
    /// meanwhile, so only what it does not take needs room.
    fn flow_at_once(&mut self, until: Duration) -> bool {
        let is_calm = self.busy == 0 && !self.buffer.has_waiters() && !self.holds_to_rate();
        if !is_calm || !self.flows_at_once {
            return false;
        }
        // A look at each client costs more than a few messages.
        let is_little = |crowd: &CrowdState| {
            let clients = crowd.schedule.clients();
            let is_part = crowd.idle > 0 && crowd.idle < clients;
            is_part && crowd.schedule.due_by(until) - crowd.schedule.due() < clients as u64
        };
        if self.crowds.iter().any(is_little) {
            return false;
        }
        let comes: Vec<u64> = self
            .crowds
            .iter()
            .map(|crowd| self.comes(crowd, until))
            .collect();
        let all: u64 = comes.iter().sum();
        if self.buffer.messages() == 0 {
            self.sink.advance(self.now, 0, true);
        }
        let capacity = self.sink.capacity(until);
        let first = capacity.min(self.buffer.messages());
        let passes = (capacity - first).min(all);
        let stays = self.weigh_rest(&comes, all, passes);
        if !self.buffer.has_room(stays) {
            return false;
        }
        self.steps += 1;
        // Nobody waits, so nobody's turn comes.
        self.buffer.deliver(first);
        self.buffer.pass(passes);
        if stays.messages > 0 {
            self.buffer.put_flow(stays);
        }
        self.calm += u64::from(all > 0);
        for crowd in &mut self.crowds {
            crowd.schedule.advance(crowd.schedule.due_by(until));
        }
        let is_empty = self.buffer.messages() == 0;
        self.sink.advance(until, first + passes, is_empty);
        self.sink_turn = None;
        self.now = until;
        true
    }

    /// What a crowd's clients that are being read will send until then.
    fn comes(&self, crowd: &CrowdState, until: Duration) -> u64 {
        let (from, to) = (crowd.schedule.due(), crowd.schedule.due_by(until));
        if crowd.idle == 0 || to <= from {
            return 0;
        }
        let clients = crowd.schedule.clients();
        if crowd.idle == clients {
            return to - from;
        }
        let of_all = &self.clients[crowd.first..crowd.first + clients];
        let is_read = |client: &&Client| {
            let connection = client.connection.map(|id| &self.connections[id]);
            connection.is_some_and(|connection| connection.state == HandlerState::Idle)
        };
        let due = |due, client: &Client| crowd.schedule.share(due, client.place);
        let read = of_all.iter().filter(is_read);
        read.map(|client| due(to, client) - due(from, client)).sum()
    }

    /// What weighs on the buffer when the first `passes` of all that comes have gone: each crowd
    /// has its part in them.
    fn weigh_rest(&self, comes: &[u64], all: u64, passes: u64) -> Weight {
        let mut rest = Weight::default();
        let (mut seen, mut passed) = (0, 0);
        for (crowd, comes) in self.crowds.iter().zip(comes) {
            seen += comes;
            let up_to_here = u128::from(passes) * u128::from(seen) / u128::from(all.max(1));
            let part = up_to_here as u64 - passed;
            passed += part;
            let weight = crowd.reads.weight_as_they_come(comes - part);
            rest.messages += weight.messages;
            rest.bytes += weight.bytes;
        }
        rest
    }

    /// Whether the rate limit may hold somebody back who is due to send.
    fn holds_to_rate(&self) -> bool {
        self.config.rate_limit.is_some_and(|limit| {
            let mut paces = self.workload.crowds.iter().map(|crowd| crowd.pace);
            paces.any(|pace| matches!(pace, ClientPace::Rate(rate) if rate > limit))
        })
    }

    /// A crowd none of whose clients is being read was not followed message by message.
    pub(super) fn catch_up(&mut self, crowd: usize) {
        let crowd = &mut self.crowds[crowd];
        if crowd.idle == 0 {
            crowd.schedule.advance(crowd.schedule.due_by(self.now));
        }
    }
}
