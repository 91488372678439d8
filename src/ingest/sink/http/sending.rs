//! What is sent, and when: puts messages into bodies and hands these to the threads.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Http;
use super::body::{Body, MAX_MESSAGES, Stop};
use super::parts::{Part, Work};
use super::threads::Job;
use crate::ingest::sink::batches::Batches;
use crate::server::Weigh;

/// How long a server that asks for patience gets it when the drain begins, and once the server
/// closes: a last try is made.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long a turn waits where nothing but an answer or a batch is worth waking for.
const MAX_WAIT: Duration = Duration::from_secs(1);

impl Http {
    /// Sends what may be sent now, and says how long to wait for something else to do.
    pub(super) fn send(&mut self, batches: &mut Batches<'_>) -> io::Result<Duration> {
        let now = Instant::now();
        if let Some(until) = self.held_until {
            // Senders that wait for the buffer have little time once the drain has begun: one more
            // try is made for them.
            let is_first = batches.is_draining() && !mem::replace(&mut self.has_hurried, true);
            let most = match is_first || batches.is_closing() {
                true => LAST_WAIT,
                false => Duration::MAX,
            };
            let left = until.saturating_duration_since(now).min(most);
            if !left.is_zero() {
                self.held_until = Some(now + left);
                return Ok(left.min(MAX_WAIT));
            }
            self.held_until = None;
        }
        let most = if self.is_failing {
            1
        } else {
            self.options.requests
        };
        // A body of many megabytes takes its time, and after the last deadline nothing is sent.
        while self.on_their_way < most && !batches.is_timed_out() {
            let job = match self.again.pop_front() {
                Some(work) => self.render_again(work, batches)?,
                None => match self.until_due(batches, now) {
                    None => return Ok(MAX_WAIT),
                    Some(left) if !left.is_zero() => return Ok(left),
                    Some(_) => self.render_new(batches)?,
                },
            };
            let (Some(job), Some(threads)) = (job, &self.threads) else {
                continue;
            };
            match threads.send(job) {
                Ok(()) => self.on_their_way += 1,
                Err(job) => {
                    self.give_back(job);
                    return Err(io::Error::other("its threads have ended"));
                }
            }
        }
        Ok(MAX_WAIT)
    }

    /// How long what is new still waits for company; `None` if there is nothing new.
    fn until_due(&mut self, batches: &Batches<'_>, now: Instant) -> Option<Duration> {
        batches.get(self.next.0)?;
        let since = *self.waiting_since.get_or_insert(now);
        let left = (since + self.options.linger).saturating_duration_since(now);
        let is_due = left.is_zero() || batches.is_closing() || batches.is_room_wanted();
        match is_due || self.fills_a_body(batches) {
            true => Some(Duration::ZERO),
            false => Some(left),
        }
    }

    fn fills_a_body(&self, batches: &Batches<'_>) -> bool {
        let (mut bytes, mut messages) = (0, 0);
        let skipped = self.next.0 - batches.first_number();
        for batch in batches.batches().skip(skipped as usize) {
            bytes += batch.as_bytes().len();
            messages += batch.messages();
            if bytes >= self.options.body_bytes || messages >= MAX_MESSAGES {
                return true;
            }
        }
        false
    }

    /// A body of what was not sent yet; `None` if there is nothing that can be sent.
    fn render_new(&mut self, batches: &mut Batches<'_>) -> io::Result<Option<Job>> {
        self.waiting_since = None;
        let Some(memory) = self.free.pop() else {
            return Ok(None);
        };
        let target = Arc::clone(&self.target);
        let mut body = Body::new(&target.dialect, memory, self.options.body_bytes);
        let mut parts = Vec::new();
        let mut outcome = Ok(());
        while let Some(batch) = batches.get(self.next.0) {
            let of_batch = batch.messages();
            let part = Part {
                batch: self.next.0,
                first: self.next.1,
                messages: of_batch - self.next.1,
                sequence: self.sequence,
            };
            let (added, stop) = body.add(batch, part);
            let (front, rest) = part.split(added);
            if added > 0 {
                parts.push(front);
            }
            self.advance(added, of_batch);
            match stop {
                Stop::End => {}
                Stop::Full => break,
                Stop::Unfit(why) => {
                    self.advance(1, of_batch);
                    outcome = self.refuse(batches, rest.split(1).0, why);
                    if outcome.is_err() {
                        break;
                    }
                }
            }
        }
        let job = self.job(body, Work::new(parts));
        self.or_again(job, outcome)
    }

    /// A body of what is sent again.
    fn render_again(&mut self, work: Work, batches: &mut Batches<'_>) -> io::Result<Option<Job>> {
        let Some(memory) = self.free.pop() else {
            self.again.push_front(work);
            return Ok(None);
        };
        let target = Arc::clone(&self.target);
        let mut body = Body::new(&target.dialect, memory, self.options.body_bytes);
        let mut parts = Vec::with_capacity(work.parts.len());
        let mut left: VecDeque<_> = work.parts.into();
        let mut outcome = Ok(());
        while let Some(part) = left.pop_front() {
            // What is not answered is held.
            let Some(batch) = batches.get(part.batch) else {
                continue;
            };
            let (added, stop) = body.add(batch, part);
            let (front, mut rest) = part.split(added);
            if added > 0 {
                parts.push(front);
            }
            if let Stop::Unfit(why) = stop {
                let (unfit, behind) = rest.split(1);
                rest = behind;
                outcome = self.refuse(batches, unfit, why);
            }
            if rest.messages > 0 {
                left.push_front(rest);
            }
            if stop == Stop::Full || outcome.is_err() {
                break;
            }
        }
        if !left.is_empty() {
            self.again.push_front(Work::new(left.into()));
        }
        let job = self.job(body, Work::new(parts));
        self.or_again(job, outcome)
    }

    fn job(&mut self, body: Body<'_>, work: Work) -> Option<Job> {
        let is_empty = body.is_empty();
        let body = body.finish();
        if is_empty {
            self.free.push(body);
            return None;
        }
        Some(Job {
            body,
            messages: work.parts.iter().map(|part| part.messages).sum(),
            work,
            target: Arc::clone(&self.target),
            begun: Instant::now(),
        })
    }

    /// After an error nothing is sent: what was rendered is rendered again.
    fn or_again(&mut self, job: Option<Job>, outcome: io::Result<()>) -> io::Result<Option<Job>> {
        if let (Err(error), job) = (outcome, &job) {
            if let Some(job) = job {
                self.again.push_front(job.work.clone());
            }
            return Err(error);
        }
        Ok(job)
    }

    fn advance(&mut self, messages: u64, of_batch: u64) {
        self.sequence += messages;
        self.next.1 += messages;
        if self.next.1 >= of_batch {
            self.next = (self.next.0 + 1, 0);
        }
    }

    fn give_back(&mut self, job: Job) {
        self.again.push_front(job.work);
        self.free.push(job.body);
    }
}
