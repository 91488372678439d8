//! What the thread of a connection does: reads what has come, waits for room in the buffer, reads
//! again.

use std::time::Duration;

use drainline::policy::{Acquire, Weight};
use drainline::{DropReason, WhenFull};

use super::super::workload::ClientPace;
use super::connection::{Connection, HandlerState};
use super::event_queue::Event;
use super::simulator::{Simulator, Waiting};

/// Bytes a second that one processor reads and frames, of clients that send as fast as they are
/// read. It only decides where the sink is faster than that.
const GREEDY_BYTES_PER_SECOND: u64 = 1_000_000_000;

/// A client is told of room in its socket when no more than this part of it is full, in percent.
/// The kernel looks at the sender's half alone, of which a third has to be free
/// (sk_stream_is_writeable); measured on loopback, with both.
const STILL_FULL_PERCENT: u64 = 60;

impl Simulator<'_> {
    /// Goes on until it has to wait for something.
    pub(super) fn run_handler(&mut self, id: usize) {
        loop {
            let goes_on = if self.connections[id].held > 0 {
                self.send(id)
            } else {
                self.read(id)
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Sends one batch of what it holds. `false`: it waits in line.
    fn send(&mut self, id: usize) -> bool {
        // What a handler has to catch up with may be millions of batches, in one event.
        self.steps += 1;
        let connection = &self.connections[id];
        let reads = &self.crowds[connection.crowd].reads;
        let weight = match reads.batch(connection.held) {
            1 => reads.weight_as_they_come(1),
            messages => reads.weight(messages),
        };
        let is_impatient = connection.given_up == Some(self.calm);
        let waits = !(self.config.when_full == WhenFull::Drop && is_impatient);
        match self.buffer.offer(weight, waits, id) {
            Acquire::Granted => {
                self.was_put(weight);
                self.sent(id, weight);
            }
            Acquire::Queued(ticket) => {
                self.connections[id].offered = weight;
                self.set_state(id, HandlerState::Sending(ticket));
                self.line.push_back(Waiting {
                    ticket,
                    connection: id,
                    since: self.now,
                });
                self.set_timeout();
                return false;
            }
            Acquire::Busy => {
                self.buffer.lose_to_full(weight.messages, DropReason::Full);
                self.connections[id].held -= weight.messages;
            }
            Acquire::TooHeavy | Acquire::Closed => {
                self.buffer
                    .dropped
                    .add(DropReason::Oversize, weight.messages);
                self.connections[id].held -= weight.messages;
            }
        }
        true
    }

    /// A batch is in the buffer.
    fn sent(&mut self, id: usize, weight: Weight) {
        let now = self.now;
        let connection = &mut self.connections[id];
        connection.held -= weight.messages;
        connection.given_up = None;
        if let Some(bucket) = &mut connection.bucket {
            bucket.take(weight.messages, now);
        }
    }

    /// The turn of somebody who waited has come.
    pub(super) fn granted(&mut self, id: usize) {
        let weight = self.connections[id].offered;
        self.buffer.put(weight);
        self.was_put(weight);
        self.sent(id, weight);
        self.set_state(id, HandlerState::Reading);
        self.leave_line();
        self.run_handler(id);
    }

    /// Reads once. `false`: there is nothing, or it takes its time.
    fn read(&mut self, id: usize) -> bool {
        let now = self.now;
        if let Some(bucket) = &mut self.connections[id].bucket {
            let wait = bucket.wait(now);
            if !wait.is_zero() {
                self.set_state(id, HandlerState::Pausing);
                self.wake_after(id, wait);
                return false;
            }
        }
        let took = self.took(id);
        let connection = &self.connections[id];
        let there = took.saturating_sub(connection.read);
        if there == 0 {
            match connection.end {
                Some(_) => self.end(id, false),
                None => self.set_state(id, HandlerState::Idle),
            }
            return false;
        }
        let is_greedy = self.workload.crowds[self.connections[id].crowd].pace == ClientPace::Greedy;
        let connection = &mut self.connections[id];
        let reads = &self.crowds[connection.crowd].reads;
        let (read, is_eager) = reads.read(there, connection.is_eager);
        connection.is_eager = is_eager;
        connection.read += read;
        connection.held = read;
        let wakes_at = reads.socket * STILL_FULL_PERCENT / 100;
        if let Some(full_at) = connection.full_at
            && full_at - connection.read <= wakes_at
        {
            self.record_held_up(id);
            self.connections[id].full_at = None;
            self.connections[id].since = now;
        }
        if !is_greedy {
            return true;
        }
        let number = self.connections[id].crowd;
        let bytes = self.crowds[number].reads.held_bytes(read);
        let time = Duration::from_nanos(bytes * 1_000_000_000 / GREEDY_BYTES_PER_SECOND);
        self.processor_free = self.processor_free.max(now) + time;
        self.set_state(id, HandlerState::Reading);
        self.wake_after(id, self.processor_free - now);
        false
    }

    fn wake_after(&mut self, id: usize, wait: Duration) {
        let event = Event::Wake {
            connection: id,
            turns: self.connections[id].turns,
        };
        self.event_queue.add(self.now.saturating_add(wait), event);
    }

    pub(super) fn wake(&mut self, id: usize, turns: u32) {
        let connection = &self.connections[id];
        let is_awaited = matches!(
            connection.state,
            HandlerState::Reading | HandlerState::Pausing
        );
        if is_awaited && connection.turns == turns {
            self.set_state(id, HandlerState::Reading);
            self.run_handler(id);
        }
    }

    // ---- the line

    fn set_timeout(&mut self) {
        if let Some(Waiting { since, .. }) = self.line.front()
            && !self.is_timeout_set
            && self.gives_up()
        {
            self.is_timeout_set = true;
            let at = since.saturating_add(self.config.send_timeout);
            self.event_queue.add(at.max(self.now), Event::Timeout);
        }
    }

    /// All wait equally long, so nobody's time is over before that of the head.
    pub(super) fn time_out(&mut self) {
        self.is_timeout_set = false;
        self.leave_line();
        while let Some(&head) = self.line.front()
            && head.since.saturating_add(self.config.send_timeout) <= self.now
        {
            self.line.pop_front();
            self.give_up(head);
            self.leave_line();
        }
        self.set_timeout();
    }

    /// Takes those from the head of the line whose turn has come.
    pub(super) fn leave_line(&mut self) {
        while let Some(head) = self.line.front()
            && self.connections[head.connection].state != HandlerState::Sending(head.ticket)
        {
            self.line.pop_front();
        }
    }

    fn give_up(&mut self, waiting: Waiting) {
        let id = waiting.connection;
        let is_drop = self.config.when_full == WhenFull::Drop;
        let reason = if is_drop {
            DropReason::Full
        } else {
            DropReason::ConnectionClosed
        };
        // `None`: its turn has come this very moment, which counts.
        let Some((messages, woken)) = self.buffer.give_up(waiting.ticket, reason) else {
            return;
        };
        self.ready.extend(woken);
        self.connections[id].held -= messages;
        if is_drop {
            self.connections[id].given_up = Some(self.calm);
            self.set_state(id, HandlerState::Reading);
            self.run_handler(id);
        } else {
            let rest = std::mem::take(&mut self.connections[id].held);
            self.buffer.dropped.add(DropReason::ConnectionClosed, rest);
            self.end(id, true);
        }
    }

    // ---- what is known of a connection

    /// Messages that the kernel took from its client so far.
    pub(super) fn took(&mut self, id: usize) -> u64 {
        let connection = &self.connections[id];
        if let Some(took) = connection.end.or(connection.full_at) {
            return took;
        }
        let number = connection.crowd;
        self.catch_up(number);
        let (connection, crowd) = (&self.connections[id], &self.crowds[number]);
        let most = connection.read + crowd.reads.socket;
        let sent = match self.workload.crowds[number].pace {
            ClientPace::Rate(_) if connection.state == HandlerState::Idle => {
                return self.due_on(connection);
            }
            ClientPace::Rate(_) => self.due_on(connection),
            ClientPace::Greedy => u64::MAX,
            ClientPace::Drip => 0,
        };
        if sent > most {
            self.connections[id].full_at = Some(most);
        }
        sent.min(most)
    }

    /// What was to be sent on it so far.
    pub(super) fn due_on(&self, connection: &Connection) -> u64 {
        let place = self.clients[connection.client].place;
        let due = self.crowds[connection.crowd].schedule.due_of(place);
        due.saturating_sub(connection.base)
    }

    /// Moves a handler, and keeps count.
    pub(super) fn set_state(&mut self, id: usize, state: HandlerState) {
        let is_busy = |state| {
            matches!(
                state,
                HandlerState::Reading | HandlerState::Sending(_) | HandlerState::Pausing
            )
        };
        let before = self.connections[id].state;
        if before == state {
            return;
        }
        if before == HandlerState::Idle {
            let read = self.took(id);
            let connection = &mut self.connections[id];
            connection.read = read;
            self.crowds[connection.crowd].idle -= 1;
        }
        let connection = &mut self.connections[id];
        if state == HandlerState::Idle {
            self.crowds[connection.crowd].idle += 1;
        }
        connection.state = state;
        connection.turns = connection.turns.wrapping_add(1);
        self.busy -= usize::from(is_busy(before));
        self.busy += usize::from(is_busy(state));
    }
}
