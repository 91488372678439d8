//! The ledger closes at every moment whatever a sink of one's own does: fails for a while, takes
//! batches in part, fails for good, panics.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::common::checker::Checker;
use crate::common::client;
use crate::common::exit::Counted;
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::tagged::{Cut, Sent, Tagged};
use crate::common::wait::DEADLINE;
use drainline::ingest::{Batches, Sink, SinkError};
use drainline::{DropReason, Report, Server, ServerError};

const SIZE: usize = 120;
const SENDERS: u32 = 6;
const EACH: u64 = 400;

/// What a sink does at one call.
#[derive(Clone, Copy)]
enum Step {
    /// Takes this many messages of the first batch, or what is left of it.
    Take(u64),
    /// Takes all there is.
    TakeAll,
    Retry,
    Fatal,
    Panic,
}

/// Does what `plan` says for its n-th call, and writes what it accepts.
struct Planned<P> {
    plan: P,
    calls: u32,
    /// Messages of the first batch that it has taken.
    taken: usize,
    written: Arc<Mutex<Vec<u8>>>,
}

impl<P: Fn(u32) -> Step + Send + 'static> Planned<P> {
    fn take(&mut self, batches: &mut Batches<'_>, most: u64) {
        let Some(batch) = batches.first() else { return };
        let mut written = self.written.lock().unwrap();
        let mut messages = batch.iter().skip(self.taken);
        let mut now = 0;
        for message in messages.by_ref().take(most as usize) {
            written.extend_from_slice(message);
            written.push(b'\n');
            now += 1;
        }
        let is_done = messages.next().is_none();
        drop(messages);
        if is_done {
            self.taken = 0;
            batches.ack();
        } else {
            self.taken += now;
            batches.ack_first(now as u64);
        }
    }
}

impl<P: Fn(u32) -> Step + Send + 'static> Sink for Planned<P> {
    fn name(&self) -> String {
        "planned".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.calls += 1;
        match (self.plan)(self.calls) {
            Step::Take(most) => self.take(batches, most),
            Step::TakeAll => {
                while batches.first().is_some() {
                    self.take(batches, u64::MAX);
                }
            }
            Step::Retry => return Err(SinkError::Retry(io::Error::other("not now"))),
            Step::Fatal => return Err(SinkError::Fatal(io::Error::other("never again"))),
            Step::Panic => panic!("as planned"),
        }
        Ok(())
    }
}

/// A run of tagged senders into a planned sink. The ledger is looked at all the while.
struct Run {
    report: Report,
    sent: Vec<Sent>,
    written: Vec<u8>,
}

impl Run {
    /// Sends everything, then shuts down; or waits for the end that the sink brings about.
    fn of(plan: impl Fn(u32) -> Step + Send + 'static, ends_by_itself: bool) -> Run {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = Planned {
            plan,
            calls: 0,
            taken: 0,
            written: Arc::clone(&written),
        };
        let mut config = small::config();
        // Little capacity: senders are held up by a sink that does not take.
        config.buffer_messages = 64;
        let server = small::ingest()
            .config(config)
            .listen("127.0.0.1:0".parse().unwrap())
            .start(sink)
            .unwrap();
        let server = Arc::new(server);
        let is_over = Arc::new(AtomicBool::new(false));
        let looks = look(Arc::clone(&server), Arc::clone(&is_over));

        let streams = client::connect_many(server.local_addrs()[0], SENDERS as usize);
        let senders: Vec<_> = (0..)
            .zip(streams)
            .map(|(connection, mut stream)| {
                let cut = Cut::Random {
                    seed: connection.into(),
                    most: 3000,
                };
                thread::spawn(move || {
                    let sent = Tagged::new(connection).send(&mut stream, 0..EACH, SIZE, cut);
                    client::half_close(stream);
                    sent
                })
            })
            .collect();
        let join = || {
            senders
                .into_iter()
                .map(|sender| sender.join().unwrap())
                .collect()
        };
        let (report, sent) = if ends_by_itself {
            (server.wait(), join())
        } else {
            let sent = join();
            (server.shutdown(DEADLINE), sent)
        };
        is_over.store(true, Ordering::Relaxed);
        looks.join().unwrap();
        let written = written.lock().unwrap().clone();
        let run = Run {
            report,
            sent,
            written,
        };
        assert_both_close(&run.report);
        let lines = run.written.iter().filter(|byte| **byte == b'\n').count() as u64;
        assert_eq!(run.report.stats.delivered, lines, "{:?}", run.report);
        run
    }

    fn counts(&self) -> Vec<(u32, u64)> {
        (0..)
            .zip(self.sent.iter().map(|sent| sent.messages))
            .collect()
    }

    /// Nobody was disconnected and nothing is lost.
    #[track_caller]
    fn assert_whole(&self) {
        let sent: Counted = self.sent.iter().collect();
        let (stats, bytes) = (&self.report.stats, &self.report.bytes);
        let counted = Counted {
            messages: stats.received,
            bytes: bytes.bytes_read,
        };
        assert_eq!(counted, sent, "{:?}", self.report);
        assert_eq!(
            (stats.delivered, stats.unread_bytes),
            (sent.messages, 0),
            "{stats:?}"
        );
        assert_eq!(self.written.len() as u64, sent.bytes, "{:?}", self.report);
        assert!(self.report.error.is_none() && !self.report.timed_out);
        Checker::read(&self.written).expect_exact(&self.counts());
    }

    /// The sink ended it: what it took is a prefix of each connection, and the rest is booked to
    /// it.
    #[track_caller]
    fn assert_ended_by_sink(&self) {
        let sent: Counted = self.sent.iter().collect();
        let (stats, bytes) = (&self.report.stats, &self.report.bytes);
        assert!(
            bytes.bytes_read + stats.unread_bytes <= sent.bytes,
            "{:?}",
            self.report
        );
        let dropped = stats.dropped.get(DropReason::SinkFailed);
        assert_eq!(
            (dropped, stats.dropped.total()),
            (stats.received - stats.delivered, dropped),
            "{stats:?}"
        );
        assert!(dropped > 0, "{stats:?}");
        Checker::read(&self.written).expect_prefix(&self.counts());
    }
}

/// How often the ledger is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// Looks at the ledger until told to stop, and once more: it closes in every reading.
fn look(server: Arc<Server>, is_over: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    thread::spawn(move || {
        loop {
            let is_last = is_over.load(Ordering::Relaxed);
            let report = server.report();
            assert!(report.is_balanced(), "{report:?}");
            if is_last {
                return;
            }
            thread::sleep(LOOK);
        }
    })
}

#[test]
fn a_sink_that_fails_for_a_while_loses_nothing() {
    let run = Run::of(
        |call| match call {
            2..=4 => Step::Retry,
            _ => Step::TakeAll,
        },
        false,
    );
    run.assert_whole();
    assert_eq!(run.report.sink.failures, 3);
}

#[test]
fn a_sink_that_takes_batches_in_part_and_fails_between_loses_and_repeats_nothing() {
    let run = Run::of(
        |call| match call % 400 {
            200 => Step::Retry,
            n => Step::Take(u64::from(n % 3) + 1),
        },
        false,
    );
    run.assert_whole();
    assert!(run.report.sink.failures > 0);
}

#[test]
fn a_sink_that_fails_for_good_inside_a_batch_has_delivered_what_it_took() {
    let run = Run::of(
        |call| match call {
            30 => Step::Fatal,
            _ => Step::Take(3),
        },
        true,
    );
    run.assert_ended_by_sink();
    let error = run.report.error.as_ref().unwrap().to_string();
    assert!(
        error.contains("planned failed for good: never again"),
        "{error}"
    );
}

#[test]
fn a_sink_that_panics_inside_a_batch_has_delivered_what_it_took() {
    let run = Run::of(
        |call| match call {
            30 => Step::Panic,
            _ => Step::Take(3),
        },
        true,
    );
    run.assert_ended_by_sink();
    match &run.report.error {
        Some(ServerError::ConsumerPanicked(text)) => assert_eq!(text, "as planned"),
        error => panic!("{error:?}"),
    }
}
