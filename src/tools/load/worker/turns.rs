//! What a lane does next: connect, send, close, begin again.

use std::io;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::io::Errno;

use super::super::lane::{Incoming, Phase};
use super::{CONNECT_TIMEOUT, RETRIES, RETRY_FIRST, RETRY_LAST, Worker};

/// Told once for each change: a socket that stays writable says nothing more.
const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

impl Worker<'_> {
    pub(super) fn set(&mut self, lane: usize, phase: Phase) {
        let is_idle = |phase| matches!(phase, Phase::Held | Phase::Done);
        let before = std::mem::replace(&mut self.lanes[lane].phase, phase);
        match (is_idle(before), is_idle(phase)) {
            (false, true) => self.active -= 1,
            (true, false) => self.active += 1,
            _ => {}
        }
        match (before == Phase::Connecting, phase == Phase::Connecting) {
            (false, true) => self.connecting += 1,
            (true, false) => self.connecting -= 1,
            _ => {}
        }
    }

    pub(super) fn enqueue(&mut self, lane: usize) {
        let state = &mut self.lanes[lane];
        if !state.is_queued && state.blocked_since.is_none() {
            state.is_queued = true;
            self.queue.push_back(lane);
        }
    }

    fn set_timer(&mut self, lane: usize, at: Instant) {
        self.lanes[lane].timer = Some(at);
        self.timers.push(std::cmp::Reverse((at, lane)));
    }

    pub(super) fn connect(&mut self, lane: usize) {
        let now = Instant::now();
        self.lanes[lane].connecting_since = Some(now);
        let is_connected = match self.lanes[lane].connect(self.shared.plan) {
            Ok(is_connected) => is_connected,
            Err(error) => return self.not_connected(lane, &error),
        };
        self.set(lane, Phase::Connecting);
        if let Some(stream) = &self.lanes[lane].stream
            && let Err(error) = epoll::add(
                &self.epoll,
                stream,
                EventData::new_u64(lane as u64),
                WATCHED,
            )
        {
            return self.not_connected(lane, &error.into());
        }
        if is_connected {
            self.connected(lane);
        } else {
            self.set_timer(lane, now + CONNECT_TIMEOUT);
        }
    }

    fn connected(&mut self, lane: usize) {
        if self.lanes[lane].is_connected_to_itself(self.shared.plan) {
            return self.not_connected(lane, &io::ErrorKind::ConnectionRefused.into());
        }
        self.counts.connects += 1;
        if let Some(since) = self.lanes[lane].connecting_since.take() {
            self.counts.connect.record(since.elapsed());
        }
        let quota = self.quota(lane);
        self.shared.somebody_connected();
        self.set(lane, Phase::Open);
        let state = &mut self.lanes[lane];
        let now = Instant::now();
        state.open(quota, now);
        if self.has_begun {
            state.held_until = Some(now);
            self.stay(lane);
            self.enqueue(lane);
        }
    }

    pub(super) fn look_whether_reunited(&mut self, lane: usize, now: Instant) {
        if let Some(apart) = self.lanes[lane].reunited(now) {
            self.counts.apart.record(apart);
        }
    }

    /// From now on the time runs after which it hangs up.
    pub(super) fn stay(&mut self, lane: usize) {
        let among_all = self.place + lane * self.shared.plan.threads;
        if let Some(stay) = self.shared.plan.stay(among_all, self.lanes[lane].connects) {
            self.set_timer(lane, Instant::now() + stay);
        }
    }

    /// Messages that the lane's next connection is to send.
    fn quota(&self, lane: usize) -> u64 {
        let plan = self.shared.plan;
        let left = plan
            .messages
            .map_or(u64::MAX, |messages| messages - self.lanes[lane].total());
        left.min(plan.reconnect_every.unwrap_or(u64::MAX))
    }

    fn not_connected(&mut self, lane: usize, error: &io::Error) {
        // No port is free: a matter between this machine and itself.
        if error.raw_os_error() == Some(Errno::ADDRNOTAVAIL.raw_os_error()) {
            self.counts.port_waits += 1;
            self.lanes[lane].failures = 0;
        } else {
            self.counts.connect_errors += 1;
            self.counts.keep(error);
            self.lanes[lane].failures += 1;
        }
        self.try_again(lane);
    }

    /// The connection failed while it was in use.
    pub(super) fn failed(&mut self, lane: usize, error: &io::Error) {
        self.counts.write_errors += 1;
        self.counts.keep(error);
        self.leave(lane);
        self.try_again(lane);
    }

    /// After a while that doubles with each failure.
    fn try_again(&mut self, lane: usize) {
        self.leave(lane);
        self.lanes[lane]
            .apart_since
            .get_or_insert_with(Instant::now);
        let (plan, failures) = (self.shared.plan, self.lanes[lane].failures);
        let may = plan.duration.is_some() || failures < RETRIES;
        if !plan.retries() || !may || self.ending.is_some() || self.quota(lane) == 0 {
            return self.set(lane, Phase::Done);
        }
        let wait = RETRY_FIRST * 2u32.pow(failures.saturating_sub(1).min(10));
        self.set_timer(lane, Instant::now() + wait.min(RETRY_LAST));
    }

    /// Its connection is over.
    pub(super) fn leave(&mut self, lane: usize) {
        let now = Instant::now();
        if let Some(since) = self.lanes[lane].blocked_since {
            let until = self.ended_at.unwrap_or(now);
            self.counts
                .stall
                .record(until.saturating_duration_since(since));
        }
        self.look_whether_reunited(lane, now);
        if self.lanes[lane].leave(&self.shared.source) {
            self.counts.partial += 1;
        }
        self.set(lane, Phase::Apart);
    }

    /// This connection has sent what it was to send.
    pub(super) fn through(&mut self, lane: usize) {
        let is_last = self.ending.is_some() || self.is_last(lane);
        if is_last && !self.shared.plan.hold.is_zero() && self.hold_until.is_none() {
            self.set(lane, Phase::Held);
        } else {
            self.close(lane);
        }
    }

    fn is_last(&self, lane: usize) -> bool {
        let messages = self.shared.plan.messages;
        messages.is_some_and(|messages| self.lanes[lane].total() >= messages)
    }

    pub(super) fn close(&mut self, lane: usize) {
        self.lanes[lane].half_close();
        if self.shared.plan.wait_close {
            self.set(lane, Phase::Closing);
        } else {
            self.closed(lane);
        }
    }

    fn closed(&mut self, lane: usize) {
        self.leave(lane);
        if self.ending.is_some() || self.quota(lane) == 0 || self.hold_until.is_some() {
            self.set(lane, Phase::Done);
        } else {
            self.connect(lane);
        }
    }

    /// Something happened to the lane's socket.
    pub(super) fn event(&mut self, lane: usize, flags: EventFlags) {
        let can_read = flags
            .intersects(EventFlags::IN | EventFlags::RDHUP | EventFlags::HUP | EventFlags::ERR);
        if self.lanes[lane].phase == Phase::Connecting {
            match self.lanes[lane].connect_error() {
                Ok(()) => self.connected(lane),
                Err(error) => return self.not_connected(lane, &error),
            }
        }
        if can_read {
            self.read(lane);
        }
        let state = &mut self.lanes[lane];
        if flags.contains(EventFlags::OUT)
            && state.phase == Phase::Open
            && let Some(since) = state.blocked_since.take()
        {
            state.held_until = Some(Instant::now());
            self.counts.stall.record(since.elapsed());
            self.enqueue(lane);
        }
    }

    fn read(&mut self, lane: usize) {
        let incoming = self.lanes[lane].read_away(&mut self.buffer);
        match (self.lanes[lane].phase, incoming) {
            (_, Incoming::More) => {
                if let Some(stream) = &self.lanes[lane].stream {
                    // Watched anew, it is told again.
                    let data = EventData::new_u64(lane as u64);
                    let _ = epoll::modify(&self.epoll, stream, data, WATCHED);
                }
            }
            (_, Incoming::Nothing) | (Phase::Apart | Phase::Connecting | Phase::Done, _) => {}
            (Phase::Closing, Incoming::Ended) => {
                self.counts.last = Some(Instant::now());
                self.shared.live[self.place].was_closed();
                self.closed(lane);
            }
            (Phase::Closing, Incoming::Failed(error)) => {
                self.counts.write_errors += 1;
                self.counts.keep(&error);
                self.closed(lane);
            }
            (Phase::Held, Incoming::Ended | Incoming::Failed(_)) => {
                self.counts.closed_early += 1;
                self.leave(lane);
                self.set(lane, Phase::Done);
            }
            (Phase::Open, Incoming::Ended) => {
                self.counts.closed_early += 1;
                self.leave(lane);
                self.try_again(lane);
            }
            (Phase::Open, Incoming::Failed(error)) => self.failed(lane, &error),
        }
    }

    /// Timers that have run out: an attempt to connect that took too long, or the wait before
    /// another.
    pub(super) fn expire(&mut self, now: Instant) {
        while let Some(std::cmp::Reverse((at, lane))) = self.timers.peek().copied()
            && at <= now
        {
            self.timers.pop();
            if self.lanes[lane].timer != Some(at) {
                continue;
            }
            self.lanes[lane].timer = None;
            match self.lanes[lane].phase {
                Phase::Connecting => self.not_connected(lane, &io::ErrorKind::TimedOut.into()),
                Phase::Apart if self.has_begun => self.connect(lane),
                // Until the load begins, each has one attempt.
                Phase::Apart => self.set_timer(lane, now + Duration::from_millis(10)),
                Phase::Open if self.ending.is_none() => {
                    self.leave(lane);
                    self.connect(lane);
                }
                Phase::Open | Phase::Closing | Phase::Held | Phase::Done => {}
            }
        }
    }

    /// Messages that were to be sent and were not.
    pub(super) fn unsent(&self) -> u64 {
        let plan = self.shared.plan;
        let asked = |credit| plan.messages.or(plan.rate.map(|_| credit));
        let unsent = |credit, total| asked(credit).unwrap_or(total).saturating_sub(total);
        self.lanes
            .iter()
            .map(|lane| unsent(lane.credit, lane.total()))
            .sum()
    }
}
