//! Clients: they connect, are let in or not, hang up, and come back.

use std::time::Duration;

use drainline::policy::TokenBucket;
use drainline::{DropReason, OnOverload, RejectReason};

use super::super::tag::mix;
use super::super::workload::ClientPace;
use super::connection::{Client, Connection, HandlerState};
use super::event_queue::Event;
use super::simulator::Simulator;

/// A client that was refused or disconnected tries again after this, doubling up to the second: as
/// `drainline load` does.
const FIRST_RETRY: Duration = Duration::from_millis(10);
const MAX_RETRY: Duration = Duration::from_secs(1);
/// A SYN that the kernel's full queue did not take is sent again after a second, doubling
/// (tcp_syn_retries in tcp(7)).
const FIRST_SYN_RETRY: Duration = Duration::from_secs(1);
const MAX_SYN_RETRY: Duration = Duration::from_secs(64);

impl Simulator<'_> {
    pub(super) fn come(&mut self, crowd: usize) {
        for client in self.clients_of(crowd) {
            self.connect(client);
        }
    }

    /// For good.
    pub(super) fn go(&mut self, crowd: usize) {
        for client in self.clients_of(crowd) {
            self.clients[client].epoch += 1;
            self.detach(client);
        }
    }

    fn clients_of(&self, crowd: usize) -> std::ops::Range<usize> {
        let first = self.crowds[crowd].first;
        first..first + self.workload.crowds[crowd].connections
    }

    pub(super) fn hang_up(&mut self, client: usize) {
        self.detach(client);
        self.connect(client);
    }

    pub(super) fn connect(&mut self, client: usize) {
        let Client { crowd, sent, .. } = self.clients[client];
        if self.now >= self.workload.crowds[crowd].until {
            return;
        }
        self.clients[client].epoch += 1;
        self.catch_up(crowd);
        if let Some(reason) = self.admission.not_accepting() {
            match self.admission.on_overload {
                OnOverload::Backlog => {}
                OnOverload::Close => {
                    self.admission.rejected.add(reason, 1);
                    self.send_in_vain(client);
                    return self.retry(client, FIRST_RETRY, MAX_RETRY);
                }
                _ => return self.retry(client, FIRST_RETRY, MAX_RETRY),
            }
        }
        if self.admission.is_queue_full() {
            return self.retry(client, FIRST_SYN_RETRY, MAX_SYN_RETRY);
        }
        let rate = self.config.rate_limit;
        let connection = Connection {
            client,
            crowd,
            base: sent,
            bucket: rate.map(|rate| TokenBucket::new(rate as f64, self.now)),
            since: self.now,
            ..Connection::default()
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.connections[id] = connection;
                id
            }
            None => {
                self.connections.push(connection);
                self.connections.len() - 1
            }
        };
        self.clients[client].connection = Some(id);
        self.clients[client].failures = 0;
        self.plan_hang_up(client);
        self.admission.queue.push_back(id);
        self.admit();
    }

    /// Half as long to one and a half times as long as the workload says.
    fn plan_hang_up(&mut self, client: usize) {
        let Client { crowd, epoch, .. } = self.clients[client];
        if let Some(stay) = self.workload.crowds[crowd].reconnect {
            let drawn = mix(self.workload.seed ^ mix(client as u64 ^ mix(u64::from(epoch))));
            let part = drawn as f64 / u64::MAX as f64;
            let stay = stay.mul_f64(0.5 + part).max(Duration::from_millis(1));
            self.event_queue
                .add(self.now + stay, Event::HangUp { client, epoch });
        }
    }

    fn retry(&mut self, client: usize, first: Duration, longest: Duration) {
        let failures = self.clients[client].failures;
        self.clients[client].failures += 1;
        let wait = first.saturating_mul(1 << failures.min(20)).min(longest);
        let epoch = self.clients[client].epoch;
        self.event_queue
            .add(self.now + wait, Event::Connect { client, epoch });
    }

    /// It was accepted and closed at once: what it had to say is lost, and nobody but it knows.
    fn send_in_vain(&mut self, client: usize) {
        let Client {
            crowd, place, sent, ..
        } = self.clients[client];
        let due = self.crowds[crowd].schedule.due_of(place);
        let lost = due
            .saturating_sub(sent)
            .min(self.crowds[crowd].reads.socket);
        self.clients[client].sent += lost;
        self.unseen += lost;
    }

    /// Closes its end, whatever became of what it sent.
    fn detach(&mut self, client: usize) {
        let Some(id) = self.clients[client].connection.take() else {
            return;
        };
        let pace = self.workload.crowds[self.clients[client].crowd].pace;
        let took = match pace {
            // An unterminated last message is delivered as one.
            ClientPace::Drip => 1,
            ClientPace::Rate(_) | ClientPace::Greedy => self.took(id),
        };
        self.record_held_up(id);
        self.clients[client].sent += took;
        let is_idle = self.connections[id].state == HandlerState::Idle;
        if is_idle {
            self.set_state(id, HandlerState::Reading);
        }
        self.connections[id].end = Some(took);
        if is_idle {
            self.run_handler(id);
        }
    }

    /// Lets in whoever may come in.
    pub(super) fn admit(&mut self) {
        if self.admission.is_admitting {
            return;
        }
        self.admission.is_admitting = true;
        loop {
            match self.admission.next(self.now) {
                Ok(Some(id)) => {
                    self.set_state(id, HandlerState::Reading);
                    self.run_handler(id);
                }
                Ok(None) => break,
                Err(wait) => {
                    self.event_queue.add(self.now + wait, Event::Admit);
                    break;
                }
            }
        }
        self.admission.is_admitting = false;
    }

    /// Turns away who is in the kernel's queue.
    pub(super) fn empty_queue(&mut self, reason: RejectReason) {
        while let Some(id) = self.admission.queue.pop_front() {
            self.admission.rejected.add(reason, 1);
            self.leave(id, true);
        }
    }

    /// A handler is at its end: of the stream, or because the server disconnected its client.
    pub(super) fn end(&mut self, id: usize, is_disconnected: bool) {
        self.leave(id, is_disconnected);
        self.admission.open -= 1;
        self.admit();
    }

    /// A connection is no more. What the kernel holds of it, nobody sees.
    fn leave(&mut self, id: usize, is_disconnected: bool) {
        let took = self.took(id);
        self.record_held_up(id);
        let Connection { client, end, .. } = self.connections[id];
        self.set_state(id, HandlerState::Over);
        self.unseen += took - self.connections[id].read;
        self.free.push(id);
        if end.is_none() {
            self.clients[client].sent += took;
            self.clients[client].connection = None;
            if is_disconnected {
                self.clients[client].epoch += 1;
                self.retry(client, FIRST_RETRY, MAX_RETRY);
            }
        }
    }

    /// The server is shut down: what handlers hold is dropped, and who is in the queue is rejected.
    pub(super) fn end_all(&mut self) {
        self.empty_queue(RejectReason::Shutdown);
        for id in 0..self.connections.len() {
            let connection = &mut self.connections[id];
            if connection.state == HandlerState::Over {
                continue;
            }
            // What waits in line is the buffer's to count.
            let in_line = match connection.state {
                HandlerState::Sending(_) => connection.offered.messages,
                _ => 0,
            };
            let held = std::mem::take(&mut connection.held) - in_line;
            self.buffer.dropped.add(DropReason::Shutdown, held);
            self.leave(id, false);
        }
        self.buffer.close();
    }

    /// Counts how long a client was held up until now because its socket was full, if it was.
    pub(super) fn record_held_up(&mut self, id: usize) {
        let connection = &self.connections[id];
        let Some(full_at) = connection.full_at.filter(|_| connection.end.is_none()) else {
            return;
        };
        let since = match self.workload.crowds[connection.crowd].pace {
            ClientPace::Greedy | ClientPace::Drip => connection.since,
            // Since the first message that found no room was due, or it was told of the room that
            // it then had none of.
            ClientPace::Rate(_) => {
                let place = self.clients[connection.client].place;
                let schedule = &self.crowds[connection.crowd].schedule;
                let due = schedule.due_time(place, connection.base + full_at);
                due.max(connection.since)
            }
        };
        let time = self.now.saturating_sub(since);
        self.timeline.held_up.record(time);
    }
}
