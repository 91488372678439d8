//! Several outputs: what the consumer does then. It only hands out, and each output has a thread
//! that drives its sink.

use std::any::Any;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel as channel;
use crossbeam_channel::TrySendError;
use log::Level;

use super::contract::Sink;
use super::drive::drive;
use super::feed::{Feed, LaneFeed};
use super::render::Form;
use super::share::{LaneState, Share, Verdict};
use super::state::{SinkState, in_a_line};
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::ranges::TICK;
use crate::server::{
    BoxError, Delivery, DropReason, Logger, Notices, Notifier, Received, Receiver, counted,
    heap_bytes, panic_message,
};

/// How long lanes get to return once they have no more time: a sink looks for that ten times a
/// second, and its drop may wait as long again. The server waits for the consumer for half a second
/// after its deadline.
const GRACE: Duration = Duration::from_millis(200);
/// How long an output that is not required may go without an answer once those that are have ended:
/// one that fails, and any other. That is longer than what is healthy takes for an answer, and
/// short enough for a drain that has an hour.
const FAILING_AT_END: Duration = Duration::from_secs(1);
const SILENT_AT_END: Duration = Duration::from_secs(10);
/// How long before the last deadline such an output is given up, or a quarter of what is left when
/// it begins to be waited for: that it had no time is no timeout of the server's.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How long it gets to return then.
const GRACE_AT_END: Duration = Duration::from_millis(300);
/// Deliveries between two looks at the buffers that are not needed any more.
const TURNS_PER_TRIM: u32 = 4096;

/// One of several outputs, before it is started.
pub(in crate::ingest) struct Lane {
    pub(in crate::ingest) name: String,
    pub(in crate::ingest) sink: Box<dyn Sink>,
    pub(in crate::ingest) form: Option<Form>,
    /// `None`: required. Otherwise the bytes of its own buffer.
    pub(in crate::ingest) max_bytes: Option<usize>,
    /// The most batches that can be before it.
    pub(in crate::ingest) slots: usize,
    pub(in crate::ingest) state: Arc<SinkState>,
}

impl Lane {
    /// The slots of an output for which the server's buffer is the limit: each batch before it has
    /// a message there that it has not answered.
    pub(in crate::ingest) fn required_slots(buffer_messages: usize) -> usize {
        buffer_messages
    }

    /// The slots of an output with a buffer of its own.
    pub(in crate::ingest) fn own_slots(bytes: usize) -> usize {
        (bytes / Share::MIN_WEIGHT).max(1)
    }

    /// What a lane takes beside its part of the server's buffer, in bytes.
    pub(in crate::ingest) fn bytes(slots: usize, max_bytes: Option<usize>) -> usize {
        let slot = size_of::<Share>() + size_of::<usize>();
        let slots = slots.saturating_mul(slot);
        slots.saturating_add(max_bytes.unwrap_or(0))
    }

    /// What is noted of each batch while several outputs have it, in bytes.
    pub(in crate::ingest) fn notes_bytes(buffer_messages: usize) -> usize {
        buffer_messages.saturating_mul(heap_bytes(Verdict::BYTES))
    }
}

/// An output whose thread runs.
struct Running {
    name: String,
    state: Arc<LaneState>,
    shares: channel::Sender<Share>,
    notifier: Notifier,
    thread: JoinHandle<()>,
    /// When the log told last of what found no room.
    told_at: Option<Instant>,
}

impl Running {
    /// Tells of what has found no room since the last time: at once, then every ten seconds, and at
    /// the end. A [limited](Logger::log_limited) line would count lines instead of messages.
    fn tell_dropped(&mut self, is_over: bool) {
        if self.state.untold() == 0 {
            return;
        }
        let now = Instant::now();
        let is_quiet = |at| now.saturating_duration_since(at) < Logger::QUIET;
        if !is_over && self.told_at.is_some_and(is_quiet) {
            return;
        }
        self.told_at = Some(now);
        let (name, messages) = (&self.name, counted(self.state.take_untold(), "message"));
        let buffer = counted(self.state.max_bytes().unwrap_or_default(), "byte");
        let text = format!(
            "output {name} has dropped {messages} (full): its buffer of {buffer} had no room"
        );
        self.state.assistant().logger().log(Level::Warn, text);
    }
}

/// The consumer of several outputs. Runs until the receiver is closed and every lane has ended, the
/// last deadline passes, or a required output fails for good. `routes`: which outputs take the
/// batches of each listener. `patience`: how long the other outputs may go on once one has failed.
pub(in crate::ingest) fn hand_out(
    receiver: &mut Receiver<Batch>,
    lanes: Vec<Lane>,
    routes: &[Vec<usize>],
    pool: &Arc<Pool>,
    patience: Duration,
) -> Result<(), BoxError> {
    receiver.set_name("the thread that hands out");
    let (tell_ended, ended) = channel::bounded(lanes.len());
    let mut running = Vec::with_capacity(lanes.len());
    for lane in lanes {
        running.push(start(receiver, lane, pool, &tell_ended)?);
    }
    drop(tell_ended);
    let mut fan_out = FanOut {
        receiver,
        running,
        routes,
        pool,
        ended,
        turns: 0,
    };
    let outcome = fan_out.run();
    fan_out.finish(outcome.is_err().then_some(patience));
    outcome
}

fn start(
    receiver: &Receiver<Batch>,
    lane: Lane,
    pool: &Arc<Pool>,
    tell_ended: &channel::Sender<()>,
) -> io::Result<Running> {
    let Lane {
        name,
        sink,
        form,
        max_bytes,
        slots,
        state: sink_state,
    } = lane;
    let assistant = receiver.assistant(&format!("output {name}"));
    sink_state.set_thread(assistant.clone());
    let max_bytes = max_bytes.map(|bytes| bytes as u64);
    let state = LaneState::new(assistant, max_bytes, Arc::clone(&sink_state));
    let (shares, handed) = channel::bounded(slots);
    let notices = Notices::new();
    let notifier = notices.notifier();
    let driver = Driver {
        name: name.clone(),
        state: Arc::clone(&state),
        sink_state,
        pool: Arc::clone(pool),
        handed,
        tell_ended: tell_ended.clone(),
    };
    let thread = thread::Builder::new()
        .name("output".to_owned())
        .spawn(move || driver.run(sink, form, notices))?;
    Ok(Running {
        name,
        state,
        shares,
        notifier,
        thread,
        told_at: None,
    })
}

/// What an output's thread has beside the sink that it drives.
struct Driver {
    name: String,
    state: Arc<LaneState>,
    sink_state: Arc<SinkState>,
    pool: Arc<Pool>,
    handed: channel::Receiver<Share>,
    tell_ended: channel::Sender<()>,
}

impl Driver {
    fn run(self, mut sink: Box<dyn Sink>, form: Option<Form>, notices: Notices) {
        let feed = Feed::Lane(LaneFeed {
            shares: self.handed.clone(),
            state: Arc::clone(&self.state),
        });
        let (pool, state) = (&self.pool, &self.sink_state);
        let drive = || drive(feed, &mut *sink, pool, state, form, notices);
        match catch_unwind(AssertUnwindSafe(drive)) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => self.fail(&error.to_string()),
            Err(payload) => self.fail_by_panic(payload),
        }
        self.state.assistant().waits();
        // What was handed out is lost here, and does not wait for what the sink's drop does.
        self.handed.try_iter().for_each(drop);
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(sink))) {
            self.fail_by_panic(payload);
        }
        // So is what still comes, until nothing does.
        self.handed.iter().for_each(drop);
        let _ = self.tell_ended.try_send(());
    }

    fn fail_by_panic(&self, payload: Box<dyn Any + Send>) {
        let failure = format!("the sink panicked: {}", panic_message(payload));
        let failure = in_a_line(&failure);
        self.sink_state.fails_for_good(&failure);
        self.fail(&failure);
    }

    fn fail(&self, failure: &str) {
        let failure = format!("output {}: {failure}", self.name);
        if !self.state.is_required() {
            let text = format!("{failure}; its messages are dropped from now on");
            self.state.assistant().logger().log(Level::Warn, text);
        }
        self.state.fail(failure);
    }
}

struct FanOut<'a> {
    receiver: &'a mut Receiver<Batch>,
    running: Vec<Running>,
    routes: &'a [Vec<usize>],
    pool: &'a Pool,
    /// A lane's thread has ended.
    ended: channel::Receiver<()>,
    turns: u32,
}

impl FanOut<'_> {
    fn run(&mut self) -> Result<(), BoxError> {
        loop {
            match self.receiver.recv(TICK) {
                Received::Message(delivery) => {
                    self.hand(delivery);
                    self.turns += 1;
                    if self.turns == TURNS_PER_TRIM {
                        self.trim_pool();
                    }
                }
                Received::Timeout => self.trim_pool(),
                // A sink that gathers messages has to know.
                Received::RoomWanted => self.running.iter().for_each(|lane| lane.notifier.notify()),
                Received::Closed => return Ok(()),
            }
            self.running
                .iter_mut()
                .for_each(|lane| lane.tell_dropped(false));
            let failed = self.running.iter().map(|lane| &lane.state);
            let mut failed = failed.filter(|state| state.is_required() && state.has_failed());
            if let Some(failure) = failed.next().and_then(|state| state.failure()) {
                return Err(failure.into());
            }
        }
    }

    fn trim_pool(&mut self) {
        self.pool.trim();
        self.turns = 0;
    }

    fn hand(&self, delivery: Delivery<Batch>) {
        let (batch, receipt) = delivery.split();
        let batch = Arc::new(batch);
        let route = self.routes.get(batch.listener_index());
        let lanes = route.into_iter().flatten().map(|&at| &self.running[at]);
        let required = lanes.clone().filter(|lane| lane.state.is_required());
        let verdict = Verdict::new(receipt, required.count() as u64);
        for Running { state, shares, .. } in lanes {
            if !state.take_in(&batch) {
                continue;
            }
            let share = Share::new(&batch, state, state.is_required().then_some(&verdict));
            match shares.try_send(share) {
                Ok(()) => {}
                Err(TrySendError::Full(share)) => share.drop_full(),
                // Unreachable: the thread receives until nobody can send.
                Err(TrySendError::Disconnected(share)) => drop(share),
            }
        }
    }

    /// Waits until all lanes have ended: each drains what it was handed. One that has no more time
    /// and does not return is abandoned, as a consumer is.
    fn finish(self, patience: Option<Duration>) {
        let FanOut {
            receiver,
            mut running,
            ended,
            ..
        } = self;
        running.iter_mut().for_each(|lane| lane.tell_dropped(true));
        let mut lanes: Vec<Ending> = running.into_iter().map(Ending::of).collect();
        let begun = Instant::now();
        let last_moment = receiver.time_left(LAST_MOMENT * 4) / 4;
        let mut cut_at = None;
        while lanes.iter().any(|lane| !lane.thread.is_finished()) {
            let _ = receiver.wait_for(|| ended.recv_timeout(GRACE / 5));
            let is_out_of_time = receiver.is_timed_out()
                || patience.is_some_and(|patience| begun.elapsed() >= patience);
            if is_out_of_time {
                lanes.iter_mut().for_each(Ending::cut_off);
                if cut_at.get_or_insert_with(Instant::now).elapsed() >= GRACE {
                    break;
                }
            }
            if !lanes.iter().all(Ending::is_over_or_optional) {
                continue;
            }
            let is_late = receiver.time_left(last_moment) < last_moment;
            // All of them are looked at each time.
            let mut waits = false;
            for lane in &mut lanes {
                waits |= !lane.is_given_up(is_late);
            }
            if !waits {
                break;
            }
        }
        for lane in lanes {
            lane.log_loss(receiver.logger());
            let Ending { name, thread, .. } = lane;
            if thread.is_finished() {
                let _ = thread.join();
                continue;
            }
            let text = format!("abandoned: output {name} did not return before the deadline");
            receiver.logger().log(Level::Error, text);
        }
    }
}

/// A lane that nothing is handed to any more.
struct Ending {
    name: String,
    state: Arc<LaneState>,
    notifier: Notifier,
    thread: JoinHandle<()>,
    /// What it had answered at the last look, and when that was new.
    answered: Option<(u64, Instant)>,
    /// When it was given up, and why.
    given_up: Option<(Instant, String)>,
}

impl Ending {
    fn of(lane: Running) -> Ending {
        let Running {
            name,
            state,
            shares,
            notifier,
            thread,
            ..
        } = lane;
        drop(shares);
        Ending {
            name,
            state,
            notifier,
            thread,
            answered: None,
            given_up: None,
        }
    }

    /// No time is left for it. It may wait for an answer, and need not wait any longer.
    fn cut(&self) {
        self.state.cut();
        self.notifier.notify();
    }

    fn is_over_or_optional(&self) -> bool {
        !self.state.is_required() || self.thread.is_finished()
    }

    /// The server has no more time for it.
    fn cut_off(&mut self) {
        self.cut();
        if !self.state.is_required() && !self.thread.is_finished() {
            let why = || (Instant::now(), "the drain has no more time".to_owned());
            self.given_up.get_or_insert_with(why);
        }
    }

    /// Once all required ones are over: whether this one is, too, or is waited for no longer. It
    /// may go on while it gets answers, and one that has them all may end as its sink does.
    fn is_given_up(&mut self, is_late: bool) -> bool {
        if self.thread.is_finished() {
            return true;
        }
        let now = Instant::now();
        if let Some((at, _)) = &self.given_up {
            return now.saturating_duration_since(*at) >= GRACE_AT_END;
        }
        let row = self.state.row();
        let answered = row.delivered + row.dropped.total();
        let (before, since) = *self.answered.get_or_insert((answered, now));
        if before != answered {
            self.answered = Some((answered, now));
        }
        let quiet = now.saturating_duration_since(since);
        let seconds = quiet.as_secs_f64();
        let why = match before == answered {
            _ if is_late => "the drain has no more time".to_owned(),
            true if self.state.is_retrying() && quiet >= FAILING_AT_END => {
                format!("it has failed for {seconds:.1} s")
            }
            true if row.in_flight > 0 && quiet >= SILENT_AT_END => {
                format!("it has answered nothing for {seconds:.1} s")
            }
            _ => return false,
        };
        self.cut();
        self.given_up = Some((now, why));
        false
    }

    /// Tells what an output has lost that was given up.
    fn log_loss(&self, logger: &Logger) {
        let row = self.state.row();
        let lost = row.dropped.get(DropReason::Shutdown) + row.in_flight;
        if let Some((_, why)) = &self.given_up
            && lost > 0
        {
            let (name, lost) = (&self.name, counted(lost, "message"));
            let text = format!("output {name} is given up with {lost} unanswered: {why}");
            logger.log(Level::Warn, text);
        }
    }
}
