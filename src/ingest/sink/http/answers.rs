//! What the answers mean for the messages that were sent.

use std::io;
use std::time::Instant;

use log::Level;

use super::Http;
use super::answer::{Failure, Fate, Verdict};
use super::parts::{self, Part};
use super::threads::{Done, Job, Threads};
use crate::ingest::sink::batches::Batches;
use crate::server::counted;

impl Http {
    /// Says of each message what the answers that have come say, and returns the first failure that
    /// is news.
    pub(super) fn take_answers(&mut self, batches: &mut Batches<'_>) -> Option<Failure> {
        let mut news = None;
        while let Some(done) = self.threads.as_ref().and_then(Threads::take_done) {
            self.on_their_way -= 1;
            let begun = done.job.begun;
            let Some(failure) = self.answer(done, batches) else {
                continue;
            };
            // What was on its way when another one failed says nothing new.
            if self.failed_at.is_none_or(|failed_at| begun > failed_at) {
                self.hold(&failure);
                news.get_or_insert(failure);
            }
        }
        if let Some(failure) = &news {
            self.failed_at = Some(Instant::now());
            if failure.is_of_login {
                self.renew_refused(batches);
            }
        }
        news
    }

    fn hold(&mut self, failure: &Failure) {
        self.is_failing = true;
        if let Some(after) = failure.after {
            self.held_until = Some(Instant::now() + after);
        }
    }

    fn answer(&mut self, done: Done, batches: &mut Batches<'_>) -> Option<Failure> {
        let Done { job, verdict } = done;
        let Job {
            body,
            parts,
            messages,
            ..
        } = job;
        self.free.push(body);
        match verdict {
            Verdict::Accepted => {
                self.is_failing = false;
                for part in parts {
                    batches.ack_at(part.batch, part.messages);
                }
                None
            }
            Verdict::Each(fates, failure) => self.answer_each(parts, &fates, failure, batches),
            Verdict::Again(failure) => {
                self.again.push_front(parts);
                Some(failure)
            }
            // A message is refused alone, and no other one with it. Whoever answers everything so
            // gets two requests for each message less one for each body, and no more than these.
            Verdict::TooLarge(_) | Verdict::Refused(_) if messages > 1 => {
                self.split(parts, messages);
                None
            }
            Verdict::RefusedAt(at, why) => self.answer_up_to(parts, at, &why, batches),
            Verdict::TooLarge(why) | Verdict::Refused(why) => self.refuse_all(parts, &why, batches),
        }
    }

    /// The messages up to one were accepted, that one is refused, and the others are sent again.
    fn answer_up_to(
        &mut self,
        parts: Vec<Part>,
        at: u64,
        why: &str,
        batches: &mut Batches<'_>,
    ) -> Option<Failure> {
        let (front, back) = parts::split(parts, at);
        let (one, rest) = parts::split(back, 1);
        for part in front {
            batches.ack_at(part.batch, part.messages);
        }
        if !rest.is_empty() {
            self.again.push_front(rest);
        }
        self.refuse_all(one, why, batches)
    }

    /// What is refused may be set aside, or not: that is where its answer may fail.
    fn refuse_all(
        &mut self,
        parts: Vec<Part>,
        why: &str,
        batches: &mut Batches<'_>,
    ) -> Option<Failure> {
        self.is_failing = false;
        let mut failed = None;
        for part in parts {
            if let Err(error) = self.refuse(batches, part, why) {
                failed = Some(Failure::passing(error.to_string()));
            }
        }
        failed
    }

    fn answer_each(
        &mut self,
        parts: Vec<Part>,
        fates: &[Fate],
        failure: Failure,
        batches: &mut Batches<'_>,
    ) -> Option<Failure> {
        let mut again = Vec::new();
        let mut failed = None;
        let mut fates = fates;
        for mut part in parts {
            while part.messages > 0 {
                // A run of one fate, inside the part.
                let Some(&fate) = fates.first() else {
                    again.push(part);
                    break;
                };
                let alike = fates.iter().take(part.messages as usize);
                let run = alike.take_while(|other| **other == fate).count();
                let (front, rest) = part.split(run as u64);
                match fate {
                    Fate::Accepted => batches.ack_at(front.batch, front.messages),
                    Fate::Again => again.push(front),
                    Fate::Refused => {
                        if let Err(error) = self.refuse(batches, front, &failure.why) {
                            failed = Some(Failure::passing(error.to_string()));
                        }
                    }
                }
                fates = &fates[run..];
                part = rest;
            }
        }
        if again.is_empty() {
            self.is_failing = false;
            return failed;
        }
        self.again.push_front(again);
        Some(failure)
    }

    /// Both halves are sent again.
    fn split(&mut self, parts: Vec<Part>, messages: u64) {
        let (front, back) = parts::split(parts, messages / 2);
        self.again.push_front(back);
        self.again.push_front(front);
    }

    /// Sets messages aside, or drops them. After an error those that are not set aside are sent
    /// again, and then refused again.
    pub(super) fn refuse(
        &mut self,
        batches: &mut Batches<'_>,
        part: Part,
        why: &str,
    ) -> io::Result<()> {
        let (written, outcome) = self.set_aside(batches, part, why);
        batches.ack_at(part.batch, written);
        let (_, rest) = part.split(written);
        if outcome.is_err() {
            self.again.push_front(vec![rest]);
        } else if rest.messages > 0 {
            self.drop_refused(batches, rest, why);
        }
        outcome
    }

    /// Writes messages into the file for them, if there is one: how many, and why no more.
    fn set_aside(&mut self, batches: &Batches<'_>, part: Part, why: &str) -> (u64, io::Result<()>) {
        let (Some(aside), Some(batch)) = (&mut self.aside, batches.get(part.batch)) else {
            return (0, Ok(()));
        };
        let (written, outcome) = aside.write_all(part.messages_of(batch));
        if written > 0 {
            let (name, path) = (&self.name, aside.path().display());
            let messages = counted(written, "message");
            let text = || format!("the sink {name} has set {messages} aside in {path}: {why}");
            batches.logger().log_limited("set aside", Level::Warn, text);
        }
        (written, outcome)
    }

    fn drop_refused(&self, batches: &mut Batches<'_>, part: Part, why: &str) {
        let (name, messages) = (&self.name, counted(part.messages, "message"));
        let full = match &self.aside {
            Some(aside) => &format!("; {}", aside.full()),
            None => "",
        };
        let text = || format!("the sink {name} has dropped {messages} (refused{full}): {why}");
        batches.logger().log_limited("refused", Level::Error, text);
        batches.refuse_at(part.batch, part.messages);
    }
}
