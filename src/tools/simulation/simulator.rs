//! All there is, and the passing of time.

use std::collections::VecDeque;
use std::time::Duration;

use drainline::policy::{Change, Overload, OverloadSettings, Ticket, WatchLimits, Weight};
use drainline::{Config, WhenFull};

use super::super::metrics::{Metrics, TICK};
use super::super::workload::Workload;
use super::admission::Admission;
use super::buffer::Buffer;
use super::connection::{Client, Connection};
use super::event_queue::{Event, EventQueue};
use super::reads::Reads;
use super::scenario::{Scenario, Simulated, Watched};
use super::schedule::Schedule;
use super::sink::{self, Sink};
use super::timeline::Timeline;

/// The sink is looked at so often while it works: no reader of the timeline sees less.
const MIN_TURN: Duration = Duration::from_millis(1);
const MAX_TURN: Duration = Duration::from_millis(10);

/// Some seconds of a slow processor: what an hour of thousands of messages a second takes that wait
/// for room, or of any number that do not.
pub(crate) const MAX_STEPS: u64 = 20_000_000;
/// The way of a simulation, to its end or to its last step.
pub(crate) const WHOLE: u64 = 1000;
/// Clients or connections that are looked at in the time of a step.
const LOOKS_PER_STEP: u64 = 4;

#[derive(Debug)]
pub(super) struct Simulator<'a> {
    pub(super) config: &'a Config,
    pub(super) workload: &'a Workload,
    /// When the server is shut down at the latest.
    end: Duration,
    pub(super) now: Duration,
    pub(super) event_queue: EventQueue,
    pub(super) crowds: Vec<CrowdState>,
    pub(super) clients: Vec<Client>,
    pub(super) connections: Vec<Connection>,
    /// Those of them that are over.
    pub(super) free: Vec<usize>,
    /// Connections whose handler does something else than wait for its client.
    pub(super) busy: usize,
    pub(super) admission: Admission,
    pub(super) buffer: Buffer,
    /// Who waits, since when, first come first; those whose turn has come may still be among them.
    pub(super) line: VecDeque<Waiting>,
    /// The head of the line is looked at then.
    pub(super) is_timeout_set: bool,
    /// Whose turn has come.
    pub(super) ready: VecDeque<usize>,
    pub(super) sink: Sink,
    pub(super) sink_turn: Option<Duration>,
    pub(super) overload: Overload,
    pub(super) limits: WatchLimits,
    pub(super) timeline: Timeline,
    pub(super) watched: Watched,
    pub(super) changes: Vec<(Duration, Change)>,
    pub(super) pauses: Vec<Duration>,
    /// Grows while everything that comes finds room.
    pub(super) calm: u64,
    /// Clients that send as fast as they can share one processor: it is free again then.
    pub(super) processor_free: Duration,
    pub(super) unseen: u64,
    /// What comes while nobody waits is added up.
    pub(super) flows_at_once: bool,
    pub(super) steps: u64,
    max_steps: u64,
}

/// A connection in the line for the buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Waiting {
    pub(super) ticket: Ticket,
    pub(super) connection: usize,
    pub(super) since: Duration,
}

/// What the clients of a crowd have in common.
#[derive(Debug)]
pub(super) struct CrowdState {
    pub(super) schedule: Schedule,
    pub(super) reads: Reads,
    /// The number of its first client.
    pub(super) first: usize,
    /// Connections of it whose handlers wait for their clients.
    pub(super) idle: usize,
}

impl<'a> Simulator<'a> {
    pub(super) fn new(scenario: &Scenario<'a>) -> Self {
        let (config, workload) = (scenario.config, scenario.workload);
        let reads = Reads::of(workload, config, scenario.max_message);
        let (mut crowds, mut clients) = (Vec::new(), Vec::new());
        for (number, (crowd, reads)) in workload.crowds.iter().zip(reads).enumerate() {
            crowds.push(CrowdState {
                schedule: Schedule::new(crowd),
                reads,
                first: clients.len(),
                idle: 0,
            });
            clients.extend((0..crowd.connections).map(|place| Client {
                crowd: number,
                place,
                ..Client::default()
            }));
        }
        let settings = OverloadSettings {
            tick: TICK,
            pause_after: config.effective_pause_after(),
        };
        Simulator {
            config,
            workload,
            end: workload.duration.saturating_add(scenario.settle),
            now: Duration::ZERO,
            event_queue: EventQueue::default(),
            crowds,
            clients,
            connections: Vec::new(),
            free: Vec::new(),
            busy: 0,
            admission: Admission::new(config),
            buffer: Buffer::new(config),
            line: VecDeque::new(),
            is_timeout_set: false,
            ready: VecDeque::new(),
            sink: Sink::new(&workload.sink),
            sink_turn: None,
            overload: Overload::new(settings, Duration::ZERO),
            limits: WatchLimits {
                frame: config.frame_timeout,
                idle: config.idle_timeout,
                first_byte: None,
                write: config.write_timeout,
                handshake: config.handshake_timeout,
                warn_after: config.warn_after,
            },
            timeline: Timeline::new(config, workload),
            watched: Watched::default(),
            changes: Vec::new(),
            pauses: Vec::new(),
            calm: 0,
            processor_free: Duration::ZERO,
            unseen: 0,
            flows_at_once: true,
            steps: 0,
            max_steps: scenario.max_steps,
        }
    }

    pub(super) fn run(mut self, watch: &mut dyn FnMut(u64)) -> Simulated {
        // Before the clients go.
        self.event_queue
            .add(self.workload.duration, Event::LoadEnds);
        for (number, crowd) in self.workload.crowds.iter().enumerate() {
            self.event_queue.add(crowd.from, Event::Come(number));
            self.event_queue.add(crowd.until, Event::Go(number));
        }
        for (at, begins) in sink::edges(&self.workload.sink.stalls, self.workload.duration) {
            self.event_queue.add(at, Event::Stall(begins));
        }
        if self.workload.sink.catches_up {
            self.event_queue.add(self.workload.duration, Event::CatchUp);
        }
        self.event_queue.add(TICK, Event::Tick);
        let mut tell_at = self.max_steps / WHOLE;
        // The tick is always in the queue.
        while let Some(next) = self.event_queue.next_at()
            && !self.is_over()
        {
            self.flow_until(next);
            if let Some((at, event)) = self.event_queue.pop() {
                self.steps += 1;
                self.now = at;
                self.happen(event);
                self.settle();
            }
            if self.steps >= tell_at {
                tell_at = self.steps + self.max_steps / WHOLE;
                watch(self.done());
            }
        }
        let stopped = self.is_stopped().then(|| {
            format!(
                "{} million steps of the simulation",
                self.max_steps / 1_000_000
            )
        });
        self.finish(stopped)
    }

    /// Of the whole way. Who is done with the load may have some of it to go.
    fn done(&self) -> u64 {
        let of_load = self.now.as_secs_f64() / self.workload.duration.as_secs_f64();
        let of_steps = self.steps as f64 / self.max_steps as f64;
        (of_load.max(of_steps).min(1.0) * WHOLE as f64) as u64
    }

    fn is_over(&self) -> bool {
        let is_quiet = self.admission.open == 0
            && self.admission.queue.is_empty()
            && self.buffer.messages() == 0;
        (self.now >= self.workload.duration && is_quiet)
            || self.now >= self.end
            || self.is_stopped()
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.steps >= self.max_steps
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tick => {
                self.tick();
                self.event_queue.add(self.now + TICK, Event::Tick);
            }
            Event::Sink if self.sink_turn == Some(self.now) => self.turn_sink(),
            // Of a turn that was not needed any more.
            Event::Sink => {}
            Event::Stall(begins) => self.change_sink(|sink| sink.stall(begins)),
            Event::LoadEnds => self.see_the_end(),
            Event::CatchUp => self.change_sink(Sink::hurry),
            Event::Come(crowd) => self.come(crowd),
            Event::Go(crowd) => self.go(crowd),
            Event::Connect { client, epoch } if self.clients[client].epoch == epoch => {
                self.connect(client)
            }
            Event::HangUp { client, epoch } if self.clients[client].epoch == epoch => {
                self.hang_up(client)
            }
            Event::Connect { .. } | Event::HangUp { .. } => {}
            Event::Wake { connection, turns } => self.wake(connection, turns),
            Event::Timeout => self.time_out(),
            Event::Admit => self.admit(),
        }
    }

    // ---- the sink

    fn change_sink(&mut self, change: impl FnOnce(&mut Sink)) {
        self.turn_sink();
        change(&mut self.sink);
        self.sink.advance(self.now, 0, true);
        self.deliver_at_once();
    }

    fn turn_sink(&mut self) {
        let taken = self.sink.capacity(self.now).min(self.buffer.messages());
        let woken = self.buffer.deliver(taken);
        self.ready.extend(woken);
        self.sink
            .advance(self.now, taken, self.buffer.messages() == 0);
        self.sink_turn = None;
    }

    /// Sees to it that the sink is looked at again when it is done with the first batch, or with a
    /// good part of it.
    pub(super) fn keep_sink_turning(&mut self) {
        let Some(first) = self.buffer.first().filter(|_| self.sink_turn.is_none()) else {
            return;
        };
        if let (Some(batch), Some(one)) = (self.sink.time_for(first), self.sink.time_for(1)) {
            let turn = batch.min(MAX_TURN.max(one)).max(MIN_TURN);
            self.sink_turn = Some(self.now + turn);
            self.event_queue.add(self.now + turn, Event::Sink);
        }
    }

    /// Something was put into the buffer: before, its clock ran for nobody.
    pub(super) fn was_put(&mut self, weight: Weight) {
        if self.buffer.messages() == weight.messages {
            self.sink.advance(self.now, 0, true);
        }
        self.deliver_at_once();
    }

    fn deliver_at_once(&mut self) {
        if self.sink.is_instant() {
            let woken = self.buffer.deliver(u64::MAX);
            self.ready.extend(woken);
        }
    }

    /// Those whose turn has come go on, until nobody's has.
    pub(super) fn settle(&mut self) {
        while let Some(id) = self.ready.pop_front() {
            self.granted(id);
        }
    }

    // ---- the end

    fn finish(mut self, stopped_at: Option<String>) -> Simulated {
        let (open, steps) = (self.admission.open, self.steps);
        self.see_the_end();
        let unseen_before = self.unseen;
        self.end_all();
        let sent = self.clients.iter().map(|client| client.sent).sum();
        let (timeline, metrics) =
            self.timeline
                .finish(&self.admission, &self.buffer, open, sent, self.unseen);
        Simulated {
            timeline,
            metrics: Metrics {
                stopped_at,
                ..metrics
            },
            watched: self.watched,
            changes: self.changes,
            pauses: self.pauses,
            unseen: self.unseen,
            unseen_at_end: self.unseen - unseen_before,
            steps,
        }
    }

    /// So many were looked at, one by one.
    pub(super) fn count_looks(&mut self, looks: usize) {
        self.steps += looks as u64 / LOOKS_PER_STEP;
    }

    pub(super) fn gives_up(&self) -> bool {
        self.config.when_full != WhenFull::Block
    }
}
