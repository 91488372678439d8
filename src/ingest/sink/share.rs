//! A batch that several outputs take: what each has answered, and what that makes of the messages.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::state::SinkState;
use crate::ingest::batch::Batch;
use crate::ingest::batch::pool::Pool;
use crate::server::{Assistant, Delivery, DropReason, OutputRow, Weigh, heap_bytes};

/// One output's share of a batch. Dropped without an answer, what remains of it is lost there.
#[derive(Debug)]
pub(super) struct Share {
    /// Gone before the part: its memory counts until then.
    batch: Arc<Batch>,
    part: Part,
}

/// What an output owes an answer to.
#[derive(Debug)]
struct Part {
    /// Messages without an answer.
    rest: u64,
    weight: u64,
    lane: Arc<LaneState>,
    /// `None`: nobody waits for this output.
    verdict: Option<Arc<Verdict>>,
}

impl Share {
    /// The memory that a share takes of an output's own buffer at least, in bytes.
    pub(super) const MIN_WEIGHT: usize = size_of::<Batch>();

    /// What a batch takes of an output's own buffer, in bytes.
    pub(super) fn weight_of(batch: &Batch) -> u64 {
        (Weigh::bytes(batch) + heap_bytes(size_of::<Batch>() + 16)) as u64
    }

    pub(super) fn new(
        batch: &Arc<Batch>,
        lane: &Arc<LaneState>,
        verdict: Option<&Arc<Verdict>>,
    ) -> Share {
        Share {
            part: Part {
                rest: Weigh::messages(&**batch),
                weight: Self::weight_of(batch),
                lane: Arc::clone(lane),
                verdict: verdict.map(Arc::clone),
            },
            batch: Arc::clone(batch),
        }
    }

    pub(super) fn get(&self) -> &Batch {
        &self.batch
    }

    pub(super) fn remaining(&self) -> u64 {
        self.part.rest
    }

    pub(super) fn ack_first(&mut self, messages: u64) {
        self.part.accept(messages, false);
    }

    pub(super) fn refuse_first(&mut self, messages: u64) {
        let messages = messages.min(self.part.rest);
        self.part.rest -= messages;
        self.part.lane.refused(messages);
        if let Some(verdict) = &self.part.verdict {
            verdict.inner.lock().refused += messages;
        }
    }

    /// What remains is accepted. The memory of the batch is free when it has left everybody.
    pub(super) fn leave(mut self, pool: &Pool) {
        self.part.accept(u64::MAX, true);
        let Share { batch, part } = self;
        if let Some(batch) = Arc::into_inner(batch) {
            pool.put(batch.into_buffer());
        }
        drop(part);
    }

    /// The output's own buffer has no room for it.
    pub(super) fn drop_full(mut self) {
        let rest = std::mem::take(&mut self.part.rest);
        self.part.lane.dropped(DropReason::Full, rest);
        self.part.lane.add_untold(rest);
    }
}

impl Part {
    fn accept(&mut self, messages: u64, is_leaving: bool) {
        let messages = messages.min(self.rest);
        if messages == 0 {
            return;
        }
        self.rest -= messages;
        self.lane.accepted(messages);
        if let Some(verdict) = &self.verdict {
            // Nobody else will answer, and the verdict goes with this share.
            let is_last = is_leaving && Arc::strong_count(verdict) == 1;
            verdict.accepted(messages, is_last);
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        self.lane.left(self.rest, self.weight);
    }
}

/// What is told of a batch's messages, by what all required outputs answered. The last of their
/// shares takes it along.
#[derive(Debug)]
pub(super) struct Verdict {
    inner: Mutex<Answers>,
}

#[derive(Debug)]
struct Answers {
    /// Until the verdict is over.
    receipt: Option<Delivery<()>>,
    messages: u64,
    /// Outputs that have to accept each message.
    required: u64,
    /// Messages that they accepted and refused, of all of them together.
    accepted: u64,
    refused: u64,
    /// Messages that are told as delivered.
    delivered: u64,
}

impl Verdict {
    /// What it takes in memory, in bytes.
    pub(super) const BYTES: usize = size_of::<Verdict>() + 2 * size_of::<usize>();

    pub(super) fn new(receipt: Delivery<()>, required: u64) -> Arc<Verdict> {
        Arc::new(Verdict {
            inner: Mutex::new(Answers {
                messages: receipt.remaining(),
                receipt: Some(receipt),
                required,
                accepted: 0,
                refused: 0,
                delivered: 0,
            }),
        })
    }

    fn accepted(&self, messages: u64, is_last: bool) {
        let mut answers = self.inner.lock();
        answers.accepted += messages;
        // The last one tells of all that is left, together with the bytes, under one lock.
        if !is_last {
            answers.tell_delivered();
        }
    }
}

impl Answers {
    fn are_complete(&self) -> bool {
        self.accepted + self.refused == self.required * self.messages
    }

    /// How many messages each of the outputs has accepted, for certain: nobody says which ones, so
    /// those that some have not accepted may all be different ones.
    fn sure(&self) -> u64 {
        let missing = self.required * self.messages - self.accepted;
        self.messages.saturating_sub(missing)
    }

    fn tell_delivered(&mut self) {
        let more = self.sure() - self.delivered;
        if let Some(receipt) = self.receipt.as_mut().filter(|_| more > 0) {
            receipt.ack_first(more);
            self.delivered += more;
        }
    }
}

impl Drop for Verdict {
    fn drop(&mut self) {
        let answers = self.inner.get_mut();
        let Some(mut receipt) = answers.receipt.take() else {
            return;
        };
        // As many as were refused by anybody: they may all be different ones.
        let delivered = answers.sure() - answers.delivered;
        receipt.refuse_first(answers.refused.min(receipt.remaining() - delivered));
        if answers.are_complete() {
            receipt.ack();
        } else {
            receipt.ack_first(delivered);
            // What is left is counted as lost.
            drop(receipt);
        }
    }
}

/// How one of several outputs stands.
#[derive(Debug)]
pub(in crate::ingest) struct LaneState {
    assistant: Assistant,
    /// `None`: required. Otherwise the bytes of its own buffer.
    max_bytes: Option<u64>,
    sink: Arc<SinkState>,
    /// Messages that found no room, and of which the log has not told yet.
    untold: AtomicU64,
    is_cut: AtomicBool,
    has_failed: AtomicBool,
    failure: Mutex<Option<String>>,
}

impl LaneState {
    pub(super) fn new(
        assistant: Assistant,
        max_bytes: Option<u64>,
        sink: Arc<SinkState>,
    ) -> Arc<LaneState> {
        Arc::new(LaneState {
            assistant,
            max_bytes,
            sink,
            untold: AtomicU64::new(0),
            is_cut: AtomicBool::new(false),
            has_failed: AtomicBool::new(false),
            failure: Mutex::default(),
        })
    }

    pub(super) fn assistant(&self) -> &Assistant {
        &self.assistant
    }

    pub(super) fn is_required(&self) -> bool {
        self.max_bytes.is_none()
    }

    /// What its own buffer holds at most, in bytes.
    pub(super) fn max_bytes(&self) -> Option<u64> {
        self.max_bytes
    }

    pub(super) fn row(&self) -> OutputRow {
        self.sink.row().unwrap_or_default()
    }

    /// Whether a try failed, and none has succeeded since.
    pub(super) fn is_retrying(&self) -> bool {
        self.sink.is_retrying()
    }

    fn add_untold(&self, messages: u64) {
        self.untold.fetch_add(messages, Ordering::Relaxed);
    }

    /// Messages that found no room, and of which the log has not told yet.
    pub(super) fn untold(&self) -> u64 {
        self.untold.load(Ordering::Relaxed)
    }

    pub(super) fn take_untold(&self) -> u64 {
        self.untold.swap(0, Ordering::Relaxed)
    }

    /// Counts a batch that is handed to the output. Says whether its buffer has room for it.
    pub(super) fn take_in(&self, batch: &Batch) -> bool {
        let (messages, weight) = (Weigh::messages(batch), Share::weight_of(batch));
        let has_room = self.sink.book(|row| {
            row.received += messages;
            let bytes = row.buffered_bytes + weight;
            if self.max_bytes.is_some_and(|max| bytes > max) {
                row.dropped.add(DropReason::Full, messages);
                return false;
            }
            row.buffered_bytes = bytes;
            row.in_flight += messages;
            true
        });
        let has_room = has_room.unwrap_or(true);
        if !has_room {
            self.add_untold(messages);
        }
        has_room
    }

    fn accepted(&self, messages: u64) {
        self.assistant.finished(messages);
        self.sink.book(|row| {
            row.delivered += messages;
            row.in_flight = row.in_flight.wrapping_sub(messages);
        });
    }

    fn refused(&self, messages: u64) {
        self.assistant.finished(messages);
        self.dropped(DropReason::Refused, messages);
    }

    fn dropped(&self, reason: DropReason, messages: u64) {
        self.sink.book(|row| {
            row.dropped.add(reason, messages);
            row.in_flight = row.in_flight.wrapping_sub(messages);
        });
    }

    /// A share is gone; `rest` of its messages were not answered.
    fn left(&self, rest: u64, weight: u64) {
        let reason = match self.is_over() && !self.has_failed() {
            true => DropReason::Shutdown,
            false => DropReason::SinkFailed,
        };
        self.sink.book(|row| row.buffered_bytes -= weight);
        if rest > 0 {
            self.dropped(reason, rest);
        }
    }

    /// Whether the output has more than half of its own buffer before it.
    pub(super) fn is_half_full(&self) -> bool {
        let buffered = self.row().buffered_bytes;
        self.max_bytes.is_some_and(|max| buffered > max / 2)
    }

    /// No time is left for this output.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Ordering::Release);
    }

    /// Whether the sink must return.
    pub(super) fn is_over(&self) -> bool {
        self.is_cut.load(Ordering::Acquire) || self.assistant.is_timed_out()
    }

    pub(super) fn fail(&self, failure: String) {
        *self.failure.lock() = Some(failure);
        self.has_failed.store(true, Ordering::Release);
    }

    pub(super) fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::Acquire)
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.failure.lock().clone()
    }
}
