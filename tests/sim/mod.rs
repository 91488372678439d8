//! A server without threads, sockets or clock: clients, a gate, the real queue, watch and overload,
//! and a sink with a rate. Hours of overload pass in milliseconds.

use drainline::policy::{
    Acquire, Activity, Cancel, Change, Observation, Overload, OverloadLevel, OverloadSettings,
    Sample, Ticket, Verdict, Watch, WatchLimits, Weight, WeightedSemaphore,
};
use std::collections::VecDeque;
use std::time::Duration;

pub(super) const TICK: Duration = Duration::from_millis(100);
/// Clients and sink act five times in a tick.
const STEP: Duration = Duration::from_millis(20);

/// As in the settings: what becomes of a send that waited too long.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum WhenFull {
    Abort,
    Drop,
    Block,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Settings {
    pub(super) when_full: WhenFull,
    pub(super) send_timeout: Duration,
    pub(super) pause_after: Option<Duration>,
    pub(super) buffer_messages: u64,
}

/// How a client sends: `messages` at once, `every` so often; zero: as fast as it can.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) messages: u64,
    pub(super) every: Duration,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Wants in, or back in.
    Outside,
    Ready {
        at: Duration,
    },
    Sending {
        ticket: Ticket,
        since: Duration,
    },
}

#[derive(Debug)]
pub(super) struct Client {
    load: Load,
    state: State,
    watch: Watch,
    shows: Sample,
    /// Under `drop`: does not wait again until a send succeeds.
    impatient: bool,
    pub(super) sent: u64,
    pub(super) longest_wait: Duration,
}

impl Client {
    fn turn(&mut self, activity: Activity) {
        self.shows.activity = activity;
        self.shows.turns += 1;
    }
}

pub(super) struct Sim {
    pub(super) now: Duration,
    pub(super) clients: Vec<Client>,
    pub(super) overload: Overload,
    queue: WeightedSemaphore<usize>,
    settings: Settings,
    /// Items in the buffer, and what is left of the one in the consumer's hands.
    channel: VecDeque<u64>,
    /// Messages a second; zero: dead.
    pub(super) sink_rate: u64,
    sink_credit: u64,
    pub(super) received: u64,
    pub(super) delivered: u64,
    pub(super) dropped: u64,
    /// When each abort happened.
    pub(super) aborts: Vec<Duration>,
    pub(super) changes: Vec<Change>,
    pub(super) highest: OverloadLevel,
    /// Each time the gate shut or opened.
    pub(super) gate: Vec<(Duration, &'static str)>,
}

impl Sim {
    pub(super) fn new(settings: Settings) -> Self {
        let ladder_settings = OverloadSettings {
            tick: TICK,
            pause_after: settings.pause_after,
        };
        Sim {
            now: Duration::ZERO,
            clients: Vec::new(),
            overload: Overload::new(ladder_settings, Duration::ZERO),
            queue: WeightedSemaphore::new(Weight {
                messages: settings.buffer_messages,
                bytes: u64::MAX,
            }),
            settings,
            channel: VecDeque::new(),
            sink_rate: 0,
            sink_credit: 0,
            received: 0,
            delivered: 0,
            dropped: 0,
            aborts: Vec::new(),
            changes: Vec::new(),
            highest: OverloadLevel::Normal,
            gate: Vec::new(),
        }
    }

    /// More clients that want in, their sends spread over the time between two.
    pub(super) fn add(&mut self, clients: usize, load: Load) {
        self.clients.extend((0..clients).map(|_| Client {
            load,
            state: State::Outside,
            watch: Watch::default(),
            shows: Sample::default(),
            impatient: false,
            sent: 0,
            longest_wait: Duration::ZERO,
        }));
    }

    pub(super) fn inside(&self) -> usize {
        let outside = |client: &&Client| matches!(client.state, State::Outside);
        self.clients.len() - self.clients.iter().filter(outside).count()
    }

    pub(super) fn lost(&self) -> u64 {
        self.dropped + self.aborts.len() as u64
    }

    /// Everybody falls silent once their send in hand has ended.
    pub(super) fn hush(&mut self) {
        for client in &mut self.clients {
            client.load.every = Duration::MAX;
            if let State::Ready { at } = &mut client.state {
                *at = Duration::MAX;
            }
        }
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end {
            self.now += STEP;
            self.consume();
            self.send();
            if self.now.as_millis().is_multiple_of(TICK.as_millis()) {
                self.tick();
            }
        }
    }

    fn consume(&mut self) {
        self.sink_credit += self.sink_rate * STEP.as_millis() as u64 / 1000;
        while let Some(left) = self.channel.front().copied() {
            let part = left.min(self.sink_credit);
            if part == 0 {
                return;
            }
            self.sink_credit -= part;
            self.delivered += part;
            let weight = Weight {
                messages: part,
                bytes: 0,
            };
            let woken = if part == left {
                self.channel.pop_front();
                self.queue.finish(weight)
            } else {
                self.channel[0] -= part;
                self.queue.give_back(weight)
            };
            self.granted(woken);
        }
        // A sink with nothing to do saves nothing up.
        self.sink_credit = 0;
    }

    fn granted(&mut self, woken: Vec<usize>) {
        for id in woken {
            let client = &self.clients[id];
            let State::Sending { since, .. } = client.state else {
                panic!("client {id} was granted what it did not wait for");
            };
            let waited = self.now - since;
            self.sent(id, waited);
            // A greedy sender is back at once, and at the end of the line.
            self.try_send(id);
        }
    }

    fn sent(&mut self, id: usize, waited: Duration) {
        let client = &mut self.clients[id];
        client.impatient = false;
        client.sent += client.load.messages;
        client.longest_wait = client.longest_wait.max(waited);
        self.channel.push_back(client.load.messages);
        self.next_read(id);
    }

    fn next_read(&mut self, id: usize) {
        let client = &mut self.clients[id];
        client.turn(Activity::Reading);
        let at = self.now.saturating_add(client.load.every);
        client.state = State::Ready { at };
    }

    fn send(&mut self) {
        for id in 0..self.clients.len() {
            self.try_send(id);
            self.give_up(id);
        }
    }

    /// Sends as long as the client has something and need not wait.
    fn try_send(&mut self, id: usize) {
        while let State::Ready { at } = self.clients[id].state
            && at <= self.now
        {
            let client = &mut self.clients[id];
            let messages = client.load.messages;
            self.received += messages;
            client.shows.bytes += messages;
            client.turn(Activity::Sending);
            let weight = Weight { messages, bytes: 0 };
            match self.queue.acquire(weight, !client.impatient, || id) {
                Acquire::Granted => self.sent(id, Duration::ZERO),
                Acquire::Queued(ticket) => {
                    let since = self.now;
                    client.state = State::Sending { ticket, since };
                }
                Acquire::Busy => {
                    self.dropped += messages;
                    self.next_read(id);
                    return;
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn give_up(&mut self, id: usize) {
        let State::Sending { ticket, since } = self.clients[id].state else {
            return;
        };
        if self.settings.when_full == WhenFull::Block
            || self.now - since < self.settings.send_timeout
        {
            return;
        }
        let Cancel::Left(weight, woken) = self.queue.cancel(ticket) else {
            panic!("client {id} waits without a place in the line");
        };
        self.dropped += weight.messages;
        if self.settings.when_full == WhenFull::Abort {
            self.aborts.push(self.now);
            self.clients[id].state = State::Outside;
        } else {
            self.clients[id].impatient = true;
            self.next_read(id);
        }
        self.granted(woken);
    }

    fn tick(&mut self) {
        let watch_limits = WatchLimits {
            frame: None,
            idle: None,
            first_byte: None,
            write: None,
            warn_after: Duration::MAX,
        };
        let mut longest_wait = Duration::ZERO;
        for client in &mut self.clients {
            if let State::Outside = client.state {
                continue;
            }
            let verdict = client.watch.step(client.shows, TICK, &watch_limits);
            assert_eq!(verdict, Verdict::Fine);
            longest_wait = longest_wait.max(client.watch.waiting());
        }
        let was_shut = self.overload.is_paused();
        let seen = Observation {
            longest_wait,
            lost: self.lost(),
            finished: self.delivered,
            empty: self.queue.items() == 0,
        };
        self.changes.extend(self.overload.step(self.now, seen));
        self.highest = self.highest.max(self.overload.level());
        match (was_shut, self.overload.is_paused()) {
            (false, true) => self.gate.push((self.now, "shut")),
            (true, false) => self.gate.push((self.now, "open")),
            _ => {}
        }
        self.check();
        if !self.overload.is_paused() {
            self.admit();
        }
    }

    fn admit(&mut self) {
        for (id, client) in self.clients.iter_mut().enumerate() {
            if let State::Outside = client.state {
                let spread = Duration::from_millis(STEP.as_millis() as u64 * (id as u64 % 50));
                let at = self.now + spread.min(client.load.every);
                client.state = State::Ready { at };
                client.watch = Watch::default();
                client.turn(Activity::Reading);
                client.impatient = false;
            }
        }
    }

    /// What holds at every tick, whatever happens.
    fn check(&self) {
        let in_flight = self.queue.in_flight();
        assert_eq!(self.received, self.delivered + self.dropped + in_flight);
        assert!(self.queue.used().messages <= self.settings.buffer_messages);
        assert_eq!(self.queue.items() as usize, self.channel.len());
        let on_all_levels: Duration = self.overload.overload_seconds().iter().sum();
        assert_eq!(on_all_levels, self.now, "overload_seconds adds up");
    }
}
