//! The one place where a worker waits.

use std::mem::MaybeUninit;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};

use super::super::lane::Phase;
use super::{LOOK, TICK, Worker};

/// Taken from the kernel at once.
const EVENTS: usize = 256;

impl Worker<'_> {
    /// Until something can be done: a socket is ready, a message is due, a timer runs out; at most
    /// [`LOOK`].
    pub(super) fn wait(&mut self, start: Instant, now: Instant) {
        if !self.queue.is_empty() {
            return self.wait_for_events(Duration::ZERO);
        }
        let due = self.pacer.as_ref().and_then(|pacer| pacer.next_due());
        let end = self.shared.plan.duration.map(|duration| start + duration);
        let times = [
            due.map(|due| due.max(now + TICK)),
            end.filter(|_| self.ending.is_none()),
            self.ending.filter(|_| self.active > 0),
            // A stop sets it to the moment, while what has begun is still awaited.
            self.hold_until.filter(|_| self.active == 0),
            self.timers.peek().map(|std::cmp::Reverse((at, _))| *at),
        ];
        let next = times.into_iter().flatten().min();
        let until = next.map_or(LOOK, |next| {
            next.saturating_duration_since(Instant::now()).min(LOOK)
        });
        self.wait_for_events(until);
    }

    /// Serves what is ready, and waits for it for at most `timeout`.
    pub(super) fn wait_for_events(&mut self, timeout: Duration) {
        if !timeout.is_zero() {
            // epoll_wait(2) counts whole milliseconds.
            let timeout = Timespec {
                tv_sec: timeout.as_secs() as i64,
                tv_nsec: timeout.subsec_nanos().into(),
            };
            let mut waiting = [PollFd::new(&self.epoll, PollFlags::IN)];
            if !matches!(poll(&mut waiting, Some(&timeout)), Ok(1..)) {
                return;
            }
        }
        let none = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        let mut room = [MaybeUninit::uninit(); EVENTS];
        let Ok((events, _)) = epoll::wait(&self.epoll, &mut room, Some(&none)) else {
            return;
        };
        for event in events {
            let epoll::Event { flags, data, .. } = *event;
            self.event(data.u64() as usize, flags);
        }
    }

    /// All is sent. Whether the connections have been held for long enough, or need not be.
    pub(super) fn is_hold_over(&mut self, now: Instant) -> bool {
        if !self.lanes.iter().any(|lane| lane.phase == Phase::Held) {
            return true;
        }
        let hold = self.shared.plan.hold;
        let until = *self.hold_until.get_or_insert(now + hold);
        self.shared.hold(self.place);
        now >= until
    }

    /// Closes what was held, and waits for the server's ends where that was asked for.
    pub(super) fn close_held(&mut self) {
        let now = Instant::now();
        for lane in 0..self.lanes.len() {
            if self.lanes[lane].phase == Phase::Held {
                self.close(lane);
            }
        }
        let until = now + self.shared.plan.finish;
        while self.active > 0 && Instant::now() < until {
            self.wait_for_events(LOOK);
        }
        self.give_up();
    }
}
