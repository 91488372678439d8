//! What is sent, and when: puts messages into bodies and hands these to the threads.

use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Http;
use super::body::{Body, MAX_MESSAGES, Stop};
use super::parts::Part;
use super::threads::Job;
use crate::ingest::sink::batches::Batches;
use crate::server::Weigh;

/// How long a server that asks for patience gets it when the drain begins, and once the server
/// closes: a last try is made.
const LAST_WAIT: Duration = Duration::from_secs(1);
/// How long a turn waits where nothing but an answer or a batch is worth waking for.
const MAX_WAIT: Duration = Duration::from_secs(1);

/// Where the messages of a body come from.
enum Source {
    /// They were not sent yet.
    New,
    /// They are sent again.
    Again(VecDeque<Part>),
}

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
            let source = match self.again.pop_front() {
                Some(parts) => Source::Again(parts.into()),
                None => match self.until_due(batches, now) {
                    None => return Ok(MAX_WAIT),
                    Some(left) if !left.is_zero() => return Ok(left),
                    Some(_) => Source::New,
                },
            };
            let job = self.render(source, batches)?;
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
        if !is_due && !self.fills_a_body(batches) {
            return Some(left);
        }
        self.waiting_since = None;
        Some(Duration::ZERO)
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

    /// A body of these messages, as many as it takes; `None` if all of them were refused or are not
    /// held any more.
    fn render(&mut self, mut source: Source, batches: &mut Batches<'_>) -> io::Result<Option<Job>> {
        // There is memory for each request that may be on its way.
        let memory = self.free.pop().unwrap_or_default();
        let target = Arc::clone(&self.target);
        let mut body = Body::new(&target.dialect, memory, self.options.body_bytes);
        let mut parts = Vec::new();
        let mut outcome = Ok(());
        while let Some(part) = self.take_from(&mut source, batches) {
            // What is not answered is held.
            let Some(batch) = batches.get(part.batch) else {
                continue;
            };
            let (added, stop) = body.add(batch, part);
            let (front, mut rest) = part.split(added);
            if added > 0 {
                parts.push(front);
            }
            if let Stop::Unfit(why) = &stop {
                let (unfit, behind) = rest.split(1);
                rest = behind;
                outcome = self.refuse(batches, unfit, why);
            }
            self.put_back(&mut source, rest);
            if stop == Stop::Full || outcome.is_err() {
                break;
            }
        }
        if let Source::Again(left) = source
            && !left.is_empty()
        {
            self.again.push_front(left.into());
        }
        let job = self.job(body, parts);
        if outcome.is_ok() {
            return Ok(job);
        }
        // Nothing is sent after an error: what was rendered is rendered again.
        job.into_iter().for_each(|job| self.give_back(job));
        outcome.map(|()| None)
    }

    /// The next messages of a source, all of one batch.
    fn take_from(&mut self, source: &mut Source, batches: &Batches<'_>) -> Option<Part> {
        let (batch, first) = match source {
            Source::Again(parts) => return parts.pop_front(),
            Source::New => self.next,
        };
        let part = Part {
            batch,
            first,
            messages: batches.get(batch)?.messages() - first,
            sequence: self.sequence,
        };
        self.next = (batch + 1, 0);
        self.sequence += part.messages;
        Some(part)
    }

    /// What a body did not take of them.
    fn put_back(&mut self, source: &mut Source, rest: Part) {
        if rest.messages == 0 {
            return;
        }
        match source {
            Source::Again(parts) => parts.push_front(rest),
            Source::New => {
                self.next = (rest.batch, rest.first);
                self.sequence = rest.sequence;
            }
        }
    }

    fn job(&mut self, body: Body<'_>, parts: Vec<Part>) -> Option<Job> {
        let is_empty = body.is_empty();
        let body = body.finish();
        if is_empty {
            self.free.push(body);
            return None;
        }
        Some(Job {
            body,
            messages: parts.iter().map(|part| part.messages).sum(),
            parts,
            target: Arc::clone(&self.target),
            begun: Instant::now(),
        })
    }

    fn give_back(&mut self, job: Job) {
        self.again.push_front(job.parts);
        self.free.push(job.body);
    }
}
