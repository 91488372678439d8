//! What a sink is offered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::feed::{Feed, Item, Taken};
use super::held::Held;
use super::render::{Form, Renderer};
use super::state::SinkState;
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::ranges::TICK;
use crate::server::{Logger, Notices, Notifier};

/// Batches offered at once to a sink that does not ask for more: as many as go into one gathered
/// write.
pub(super) const MAX_AT_ONCE: usize = 64;
/// How often the sink is asked to return, so that it can be looked after.
const RETURN_EVERY: Duration = Duration::from_secs(1);

/// The batches that a sink is offered; the sink says here what it accepted.
///
/// Each batch has a **number**, which it keeps: the first that this sink was ever offered is 0, and
/// they count up. A batch whose messages are all answered, accepted or refused, leaves from the
/// front by itself. One that is answered before those in front of it stays until these are: what is
/// held counts as a part of the buffer.
#[derive(Debug)]
pub struct Batches<'a> {
    held: VecDeque<Held>,
    /// Where the output has a form of its own.
    renderer: Option<Renderer>,
    /// Batches that have left.
    left: u64,
    pub(super) feed: Feed<'a>,
    logger: Logger,
    notices: Notices,
    pool: &'a Pool,
    state: &'a SinkState,
    /// Messages that were accepted or refused so far.
    answered: u64,
    /// Messages of what is held that are neither.
    unanswered: u64,
    /// When the sink has to return next, so that it can be looked after.
    return_at: Instant,
    is_return_asked: bool,
    was_closing: bool,
    /// See [`set_on_trial`](Self::set_on_trial).
    is_on_trial: bool,
    /// The sink sends nothing before, however soon it is asked again.
    pub(super) next_try_at: Option<Instant>,
    /// The failure that is returned next will not pass by itself.
    pub(super) is_lasting: bool,
}

impl<'a> Batches<'a> {
    /// The most batches that [`more`](Batches::more) holds, whatever its window.
    pub const MAX_WINDOW: usize = 4096;

    /// What batches that are held take beside their part of the buffer, in bytes.
    pub(in crate::ingest) const HELD_BYTES: usize = Self::MAX_WINDOW * std::mem::size_of::<Held>();

    /// `name`: what the sink is called.
    pub(super) fn new(
        feed: Feed<'a>,
        pool: &'a Pool,
        state: &'a SinkState,
        form: Option<Form>,
        notices: Notices,
        name: &str,
    ) -> Self {
        feed.set_name(name);
        Batches {
            logger: logger_of(&feed, state, name),
            held: VecDeque::with_capacity(MAX_AT_ONCE),
            renderer: form.map(Renderer::new),
            left: 0,
            feed,
            notices,
            pool,
            state,
            answered: 0,
            unanswered: 0,
            return_at: Instant::now() + RETURN_EVERY,
            is_return_asked: false,
            was_closing: false,
            is_on_trial: false,
            next_try_at: None,
            is_lasting: false,
        }
    }

    // ---- what is held

    /// The batches that are held, in order.
    pub fn batches(&self) -> impl Iterator<Item = &Batch> + '_ {
        self.held.iter().map(Held::batch)
    }

    /// The first batch; `None` when all are answered.
    pub fn first(&self) -> Option<&Batch> {
        self.held.front().map(Held::batch)
    }

    /// The number of the first batch; while none is held, of the next one that will be.
    pub fn first_number(&self) -> u64 {
        self.left
    }

    /// The batch of a number; `None` if it has left or is not held yet.
    pub fn get(&self, number: u64) -> Option<&Batch> {
        self.held.get(self.index(number)?).map(Held::batch)
    }

    /// Messages of a batch that are not answered; 0 if it is not held.
    pub fn remaining(&self, number: u64) -> u64 {
        let held = self.index(number).and_then(|index| self.held.get(index));
        held.map_or(0, Held::remaining)
    }

    fn index(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.left)?.try_into().ok()
    }

    // ---- what became of it

    /// The first batch is accepted, to its last byte.
    pub fn ack(&mut self) {
        self.ack_first(u64::MAX);
    }

    /// The first `messages` of what remains of the first batch are accepted; all, if fewer remain.
    pub fn ack_first(&mut self, messages: u64) {
        self.ack_at(self.left, messages);
    }

    /// `messages` of what remains of a batch are accepted; all, if fewer remain. Answers to a batch
    /// that has left count for nothing.
    pub fn ack_at(&mut self, number: u64, messages: u64) {
        self.answer(number, messages, Answer::Accepted);
    }

    /// The first `messages` of what remains of the first batch can never be accepted: they are
    /// counted as dropped ([`Refused`](crate::DropReason::Refused)), and the server goes on. The
    /// sink says why in the log.
    pub fn refuse_first(&mut self, messages: u64) {
        self.refuse_at(self.left, messages);
    }

    /// As [`refuse_first`](Batches::refuse_first), for a batch of a number.
    pub fn refuse_at(&mut self, number: u64, messages: u64) {
        self.answer(number, messages, Answer::Refused);
    }

    fn answer(&mut self, number: u64, messages: u64, answer: Answer) {
        let Some(index) = self.index(number) else {
            return;
        };
        let Some(held) = self.held.get_mut(index) else {
            return;
        };
        let remaining = held.remaining();
        let messages = messages.min(remaining);
        self.answered += messages;
        self.unanswered -= messages;
        match answer {
            // Its messages and its bytes are booked together, when it leaves.
            Answer::Accepted if index == 0 && messages == remaining => self.leave(),
            Answer::Accepted => held.ack_first(messages),
            Answer::Refused => held.refuse_first(messages),
        }
        while self.first_is_answered() {
            self.leave();
        }
        self.state.set_unanswered(self.unanswered);
    }

    fn first_is_answered(&self) -> bool {
        let first = self.held.front();
        first.is_some_and(|first| first.remaining() == 0)
    }

    /// The first batch leaves; what remains of it is accepted.
    fn leave(&mut self) {
        if let Some(first) = self.held.pop_front() {
            self.left += 1;
            first.leave(self.pool, self.renderer.as_mut());
        }
    }

    // ---- waiting

    /// Takes what else there is, while answers are out, until `window` batches are held
    /// ([`MAX_WINDOW`](Batches::MAX_WINDOW) at most). If there is nothing, waits for a batch or a
    /// [`Notifier`], at most `wait`; while `window` batches are held, for a notifier alone. The
    /// watchdog does not take the sink for stuck meanwhile.
    ///
    /// `true`: look at both, at the batches that came and at the answers. The wait may have ended
    /// early, also because the server begins to close ([`is_closing`](Batches::is_closing)) or a
    /// sender waits for the buffer ([`is_room_wanted`](Batches::is_room_wanted)): a sink that
    /// gathers messages before it sends them sends what it has. While nothing is answered, a sender
    /// ends at most ten waits a second.
    ///
    /// `false`: return from [`write`](super::Sink::write) now, with whatever is out: the sink is to
    /// be looked after ([`maintain`](super::Sink::maintain), about once a second;
    /// [`reopen`](super::Sink::reopen)) and is called again at once; or the server's last deadline
    /// has passed. To return without having accepted anything is no failure then.
    ///
    /// # A sink that does not wait for each answer
    /// ```
    /// use std::io::{self, Write};
    /// use std::net::TcpStream;
    /// use std::sync::mpsc::{Receiver, Sender, channel};
    /// use std::thread;
    /// use std::time::Duration;
    /// use drainline::ingest::{Batches, Ingest, Notifier, Resources, Sink, SinkError};
    ///
    /// /// A place that answers each request after a while, by its number.
    /// struct Store {
    ///     requests: Sender<(u64, Vec<u8>, Notifier)>,
    ///     answers: Receiver<u64>,
    ///     /// The number of the first batch that was not sent.
    ///     next: u64,
    /// }
    ///
    /// impl Sink for Store {
    ///     fn name(&self) -> String {
    ///         "store".to_owned()
    ///     }
    ///
    ///     fn delivered_means(&self) -> String {
    ///         "the store answered".to_owned()
    ///     }
    ///
    ///     fn resources(&self) -> Resources {
    ///         Resources { threads: 1, ..Resources::default() }
    ///     }
    ///
    ///     fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
    ///         while batches.first().is_some() {
    ///             while let Some(batch) = batches.get(self.next) {
    ///                 let request = (self.next, batch.as_bytes().to_vec(), batches.notifier());
    ///                 if self.requests.send(request).is_err() {
    ///                     return Err(SinkError::Fatal(io::Error::other("the store is gone")));
    ///                 }
    ///                 self.next += 1;
    ///             }
    ///             while let Ok(number) = self.answers.try_recv() {
    ///                 batches.ack_at(number, u64::MAX);
    ///             }
    ///             if batches.first().is_some() && !batches.more(1000, Duration::from_secs(1)) {
    ///                 break;
    ///             }
    ///         }
    ///         Ok(())
    ///     }
    /// }
    ///
    /// let (requests, asked) = channel::<(u64, Vec<u8>, Notifier)>();
    /// let (answer, answers) = channel();
    /// thread::spawn(move || {
    ///     for (number, _, notifier) in asked {
    ///         thread::sleep(Duration::from_millis(1));
    ///         let _ = answer.send(number);
    ///         notifier.notify();
    ///     }
    /// });
    /// let server = Ingest::builder()
    ///     .listen("127.0.0.1:0".parse()?)
    ///     .start(Store { requests, answers, next: 0 })?;
    ///
    /// TcpStream::connect(server.local_addrs()[0])?.write_all(b"one\ntwo\nthree\n")?;
    /// while server.stats().delivered < 3 {
    ///     thread::sleep(Duration::from_millis(1));
    /// }
    /// let report = server.shutdown(Duration::from_secs(5));
    /// assert!(report.is_balanced());
    /// # Ok::<(), drainline::BoxError>(())
    /// ```
    pub fn more(&mut self, window: usize, wait: Duration) -> bool {
        let window = window.min(Self::MAX_WINDOW);
        let until = Instant::now().checked_add(wait);
        let (mut has_come, mut is_closed) = self.take_up_to(window);
        loop {
            let now = Instant::now();
            if self.is_return_due(now) {
                self.is_return_asked = true;
                return false;
            }
            let left = until.map_or(TICK, |until| until.saturating_duration_since(now));
            // The wait is cut in pieces: a reopen is asked for without a wake-up.
            let left = left.min(TICK).min(self.return_at - now);
            if has_come || self.has_begun_to_close() || left.is_zero() {
                self.notices.take();
                return true;
            }
            if is_closed || self.held.len() >= window || self.is_rendered_full() {
                has_come = self.feed.wait_for_notice(left, &self.notices);
                continue;
            }
            match self.feed.recv_or_notice(left, &self.notices) {
                Taken::Item(item) => {
                    self.take_in(item);
                    (_, is_closed) = self.take_up_to(window);
                    has_come = true;
                }
                Taken::RoomWanted | Taken::Notice => has_come = true,
                Taken::Nothing => {}
                Taken::Closed => is_closed = true,
            }
        }
    }

    fn is_return_due(&self, now: Instant) -> bool {
        now >= self.return_at || self.is_timed_out() || self.state.is_reopen_asked()
    }

    /// Whether the server has begun to close since the last look.
    fn has_begun_to_close(&mut self) -> bool {
        !self.was_closing && {
            self.was_closing = self.is_closing();
            self.was_closing
        }
    }

    /// What wakes [`more`](Batches::more) from another thread. The same for as long as the sink is
    /// driven.
    pub fn notifier(&self) -> Notifier {
        self.notices.notifier()
    }

    /// Waits, for what takes its time: a back-off before a next try. No notifier and no sender ends
    /// this wait. It ends early when the server begins to drain, and when it begins to close, so
    /// that a try is made while senders still wait for the buffer, and a last one behind them. The
    /// watchdog does not take the sink for stuck meanwhile. `false`: the server's last deadline has
    /// passed, as [`is_timed_out`](Batches::is_timed_out) says from then on.
    pub fn wait(&mut self, duration: Duration) -> bool {
        self.feed.wait(duration)
    }

    /// The server's last deadline has passed: the sink must return. What it did not accept is
    /// booked as dropped.
    pub fn is_timed_out(&self) -> bool {
        self.feed.is_timed_out()
    }

    /// What is left until the server's last deadline, at most `cap`.
    pub(super) fn time_left(&self, cap: Duration) -> Duration {
        self.feed.time_left(cap)
    }

    /// Whether the server takes no more messages: what is in the buffer still comes, and is not
    /// worth waiting for company.
    pub fn is_closing(&self) -> bool {
        self.feed.is_closing()
    }

    /// Whether the drain has begun: who waits for the buffer has not long to wait.
    pub(super) fn is_draining(&self) -> bool {
        self.feed.is_draining()
    }

    /// Whether a sender waits for the buffer, of which what is held here is a part.
    pub fn is_room_wanted(&self) -> bool {
        self.feed.is_room_wanted()
    }

    /// The server's log, whose writer never blocks. Lines begin with the output's name, unless that
    /// is the sink's, or nobody gave one and there is one output; those that are limited are so by
    /// themselves, whatever other outputs log.
    pub fn logger(&self) -> &Logger {
        &self.logger
    }

    // ---- for the drive

    /// What was accepted last does not show yet that the sink works again.
    pub(super) fn set_on_trial(&mut self, is_on_trial: bool) {
        self.is_on_trial = is_on_trial;
    }

    pub(super) fn is_on_trial(&self) -> bool {
        self.is_on_trial
    }

    pub(super) fn state(&self) -> &'a SinkState {
        self.state
    }

    pub(super) fn pool(&self) -> &'a Pool {
        self.pool
    }

    /// Messages that were accepted or refused so far.
    pub(super) fn answered(&self) -> u64 {
        self.answered
    }

    /// Takes what is there. Says whether anything was, and whether the receiver is closed.
    pub(super) fn take_up_to(&mut self, window: usize) -> (bool, bool) {
        let before = self.held.len();
        while self.held.len() < window && !self.is_rendered_full() {
            if self.render_next() {
                continue;
            }
            match self.feed.try_recv() {
                Taken::Item(item) => self.take_in(item),
                Taken::Nothing | Taken::RoomWanted | Taken::Notice => break,
                Taken::Closed => return (self.held.len() > before, true),
            }
        }
        (self.held.len() > before, false)
    }

    pub(super) fn take_in(&mut self, item: Item) {
        match &mut self.renderer {
            None => self.hold(Held::whole(item)),
            Some(renderer) => {
                renderer.begin(item);
                self.render_next();
            }
        }
    }

    /// Whether there was a piece to be rendered.
    fn render_next(&mut self) -> bool {
        let renderer = self.renderer.as_mut();
        let piece = renderer.and_then(|renderer| renderer.next_piece(self.pool));
        let is_one = piece.is_some();
        if let Some((batch, source)) = piece {
            self.hold(Held::piece(batch, source));
        }
        is_one
    }

    fn is_rendered_full(&self) -> bool {
        self.renderer.as_ref().is_some_and(Renderer::is_full)
    }

    /// Whether a part of what came is not rendered yet.
    pub(super) fn is_cutting(&self) -> bool {
        self.renderer.as_ref().is_some_and(Renderer::is_cutting)
    }

    fn hold(&mut self, held: Held) {
        self.unanswered += held.remaining();
        self.state.set_unanswered(self.unanswered);
        self.held.push_back(held);
    }

    pub(super) fn is_return_asked(&self) -> bool {
        self.is_return_asked
    }

    /// Whether the sink was asked to return since the last call.
    pub(super) fn take_return_asked(&mut self) -> bool {
        std::mem::take(&mut self.is_return_asked)
    }

    /// Whether the sink is to be looked after: once a second.
    pub(super) fn take_return_due(&mut self) -> bool {
        let now = Instant::now();
        let is_due = now >= self.return_at;
        if is_due {
            self.return_at = now + RETURN_EVERY;
        }
        is_due
    }
}

/// Nothing of what is left will be answered: it is booked as dropped.
impl Drop for Batches<'_> {
    fn drop(&mut self) {
        self.state.set_unanswered(0);
    }
}

/// The log of an output.
fn logger_of(feed: &Feed<'_>, state: &SinkState, name: &str) -> Logger {
    let begins_lines = state.name() != name && state.is_told_by_name();
    match begins_lines || state.has_others() {
        false => feed.logger().clone(),
        true => feed
            .logger()
            .of(&format!("output {}", state.name()), begins_lines),
    }
}

/// What became of messages.
#[derive(Clone, Copy, Debug)]
enum Answer {
    Accepted,
    Refused,
}
