//! The thread that sends: many sockets that do not block, one schedule, one place to wait.

mod turns;
mod waiting;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::epoll;

use super::counts::Counts;
use super::lane::{Lane, Phase, Rendering, Step};
use super::message::{Batch, now_nanos};
use super::pacer::Pacer;
use super::shared::Shared;

/// Between two looks at the clock under a rate: what is due by then goes out together. A thread
/// that slept for each message would spend more on waking than on sending.
const TICK: Duration = Duration::from_micros(200);
/// Messages that are found due between two looks at anything else.
const MAX_DUE: usize = 100_000;
/// Between two looks at whether to stop.
const LOOK: Duration = Duration::from_millis(100);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Connects under way at once before the load begins, for each worker: a listener's queue may be
/// short.
const CONNECTING: usize = 64;
const RETRY_FIRST: Duration = Duration::from_millis(10);
const RETRY_LAST: Duration = Duration::from_secs(1);
/// Attempts in a row, where no duration bounds them.
const RETRIES: u32 = 10;

pub(super) struct Worker<'a> {
    shared: &'a Shared<'a>,
    place: usize,
    epoll: OwnedFd,
    lanes: Vec<Lane>,
    pacer: Option<Pacer>,
    /// Lanes that are to write, in turn.
    queue: VecDeque<usize>,
    timers: BinaryHeap<Reverse<(Instant, usize)>>,
    spare: Vec<Batch>,
    buffer: Vec<u8>,
    /// Lanes that are not held or done, and that are connecting.
    active: usize,
    connecting: usize,
    has_begun: bool,
    /// When the time was over, and until when what was unfinished then has time.
    ended_at: Option<Instant>,
    ending: Option<Instant>,
    hold_until: Option<Instant>,
    counts: Counts,
}

impl<'a> Worker<'a> {
    pub(super) fn new(shared: &'a Shared<'a>, place: usize) -> io::Result<Worker<'a>> {
        let plan = shared.plan;
        let count = (place..plan.connections).step_by(plan.threads).len();
        let credit = if plan.rate.is_some() { 0 } else { u64::MAX };
        Ok(Worker {
            shared,
            place,
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            lanes: (0..count).map(|_| Lane::new(credit)).collect(),
            pacer: None,
            queue: VecDeque::new(),
            timers: BinaryHeap::new(),
            spare: Vec::new(),
            buffer: vec![0; 4096],
            active: count,
            connecting: 0,
            has_begun: false,
            ended_at: None,
            ending: None,
            hold_until: None,
            counts: Counts::default(),
        })
    }

    /// Connects, sends, holds, closes. Blocks until that is done or the load is stopped.
    pub(super) fn run(mut self) -> Counts {
        self.connect_all();
        // From here on the clock runs, for all workers alike.
        let Some(start) = self.shared.begin() else {
            self.counts.unsent = self.unsent();
            return self.counts;
        };
        self.begin(start);
        loop {
            let now = Instant::now();
            self.look_at_the_time(start, now);
            if self.ending.is_some_and(|deadline| now >= deadline) {
                self.give_up();
            }
            self.pace(now);
            self.write_in_turn();
            self.expire(now);
            if self.active == 0 {
                self.over();
                if self.is_hold_over(now) {
                    break;
                }
            }
            self.wait(start, now);
        }
        self.shared.hold(self.place);
        self.close_held();
        self.counts.unsent = self.unsent();
        self.counts
    }

    fn connect_all(&mut self) {
        let mut next = 0;
        while (next < self.lanes.len() || self.connecting > 0) && !self.shared.is_stopped() {
            while next < self.lanes.len() && self.connecting < CONNECTING {
                self.connect(next);
                next += 1;
            }
            if self.connecting > 0 {
                self.wait_for_events(LOOK);
                self.expire(Instant::now());
            }
        }
    }

    fn begin(&mut self, start: Instant) {
        self.has_begun = true;
        let plan = self.shared.plan;
        let place = (self.place, plan.threads);
        self.pacer = Pacer::new(plan, place, self.lanes.len(), start);
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].phase == Phase::Open {
                self.stay(lane);
                if self.pacer.is_none() {
                    self.enqueue(lane);
                }
            }
        }
    }

    fn look_at_the_time(&mut self, start: Instant, now: Instant) {
        let is_over = self
            .shared
            .plan
            .duration
            .is_some_and(|duration| now >= start + duration);
        let is_stopped = self.shared.is_stopped();
        if is_stopped {
            self.hold_until = Some(now);
        }
        if self.ending.is_some() || !(is_over || is_stopped) {
            return;
        }
        // What was due before the end is sent, even if we are late.
        self.pace(now);
        while self.pacer.is_some() && !self.queue.is_empty() {
            self.write_in_turn();
        }
        self.ended_at = Some(now);
        self.ending = Some(match self.shared.is_timed_out() {
            // What has begun has had its time.
            true => now,
            false => now + self.shared.plan.finish,
        });
        for lane in 0..self.lanes.len() {
            self.look_whether_reunited(lane, now);
            if let Some(since) = self.lanes[lane].apart_since.take() {
                self.counts.apart.record(now - since);
            }
            match self.lanes[lane].phase {
                Phase::Open => {
                    self.lanes[lane].end(&self.shared.source);
                    match self.lanes[lane].is_through() {
                        true => self.through(lane),
                        false => self.enqueue(lane),
                    }
                }
                Phase::Apart | Phase::Connecting => self.set(lane, Phase::Done),
                Phase::Closing | Phase::Held | Phase::Done => {}
            }
        }
    }

    /// The load is over, or was when its time was; a wait in vain for what was unfinished then is
    /// none of it.
    fn over(&mut self) {
        let now = Instant::now();
        let over = self.ended_at.map_or(now, |ended| {
            self.counts.last.map_or(ended, |last| last.max(ended))
        });
        self.counts.over.get_or_insert(over);
    }

    /// Nobody waits any longer for what is unfinished.
    fn give_up(&mut self) {
        for lane in 0..self.lanes.len() {
            match self.lanes[lane].phase {
                Phase::Held | Phase::Done => continue,
                Phase::Closing => self.counts.not_closed += 1,
                Phase::Open | Phase::Apart | Phase::Connecting => {}
            }
            self.leave(lane);
            self.set(lane, Phase::Done);
        }
    }

    fn pace(&mut self, now: Instant) {
        // More than that at once, and it would not be seen when to stop.
        for _ in 0..MAX_DUE {
            let Some((lane, _)) = self.pacer.as_mut().and_then(|pacer| pacer.take(now)) else {
                return;
            };
            self.lanes[lane].credit += 1;
            if self.lanes[lane].phase == Phase::Open {
                self.enqueue(lane);
            }
        }
    }

    /// One write for each lane that has something to write.
    fn write_in_turn(&mut self) {
        let (turns, bytes) = (self.queue.len(), self.counts.bytes);
        for _ in 0..turns {
            let Some(lane) = self.queue.pop_front() else {
                break;
            };
            self.lanes[lane].is_queued = false;
            if self.lanes[lane].phase == Phase::Open {
                self.write(lane);
            }
        }
        if self.counts.bytes > bytes {
            self.counts.last = Some(Instant::now());
        }
        if turns > 0 {
            self.shared.live[self.place].publish(&self.counts, self.lanes.len() - self.active);
        }
    }

    fn write(&mut self, at: usize) {
        let plan = self.shared.plan;
        if self.lanes[at].apart_since.is_some() {
            self.look_whether_reunited(at, Instant::now());
        }
        let lane = &mut self.lanes[at];
        let (messages, bytes, first) = (lane.messages, lane.bytes, lane.total());
        let held_until = lane.held_until;
        // All of a batch is handed over at once, so it has one time; but what was due while the
        // server held the lane up has the time at which it was due.
        let nanos = if plan.timestamped { now_nanos() } else { 0 };
        let held = lane.held_until.zip(self.pacer.as_ref());
        let held = held.map(|(until, pacer)| (until, pacer, Instant::now()));
        let stamp =
            |message| match held.map(|(until, pacer, now)| (until, pacer.due(at, message), now)) {
                Some((until, due, now)) if due <= until => {
                    nanos.saturating_sub((now - due).as_nanos() as u64)
                }
                _ => nanos,
            };
        let mut rendering = Rendering {
            spare: &mut self.spare,
            number: &|| self.shared.next_number(),
            stamp: &stamp,
        };
        let step = lane.step(&self.shared.source, plan.write_size, &mut rendering);
        self.counts.messages += lane.messages - messages;
        self.counts.bytes += lane.bytes - bytes;
        if let Some(pacer) = &self.pacer {
            // Of what was sent; and what was due while the server held the lane up was late by its
            // doing.
            let now = Instant::now();
            for message in first..lane.total() {
                let due = pacer.due(at, message);
                if held_until.is_none_or(|until| due > until) {
                    self.counts.late.record(now.saturating_duration_since(due));
                }
            }
        }
        match step {
            Step::More => self.enqueue(at),
            Step::Blocked => {
                lane.blocked_since.get_or_insert_with(Instant::now);
            }
            Step::Idle if lane.is_through() => self.through(at),
            Step::Idle => lane.held_until = None,
            Step::Failed(error) => self.failed(at, &error),
        }
    }
}
