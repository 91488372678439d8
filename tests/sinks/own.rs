//! What the trait `Sink` promises to a sink of one's own: when it is reopened, what it is offered
//! again, how it waits, and where it ends.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::{Batches, Output, Sink, SinkError};
use drainline::{DropReason, Listener, Peer, Server};

fn start(sink: impl Sink) -> (Server, TcpStream) {
    let server = small::ingest()
        .listen("127.0.0.1:0".parse().unwrap())
        .start(sink)
        .unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

/// What happened to a sink, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Event {
    /// A first batch of so many messages was offered.
    Offered(usize),
    /// It went to the place of this number.
    Took(usize, String),
    Reopened,
}

/// Takes `most` messages at each call and fails then, until it was reopened.
struct Halting {
    most: usize,
    taken: usize,
    place: usize,
    /// What the next reopens say.
    reopens: Vec<io::Result<bool>>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Halting {
    fn tell(&self, event: Event) {
        self.events.lock().unwrap().push(event);
    }
}

impl Sink for Halting {
    fn name(&self) -> String {
        "halting".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while let Some(batch) = batches.first() {
            self.tell(Event::Offered(batch.iter().count()));
            let mut taken = 0;
            let most = if self.place == 0 {
                self.most - self.taken
            } else {
                usize::MAX
            };
            for message in batch.iter().skip(self.taken).take(most) {
                let text = String::from_utf8(message.to_vec()).unwrap();
                self.tell(Event::Took(self.place, text));
                taken += 1;
            }
            if self.place == 0 {
                self.taken += taken;
                batches.ack_first(taken as u64);
                return Err(SinkError::Retry(io::Error::other("full")));
            }
            self.taken = 0;
            batches.ack();
        }
        Ok(())
    }

    fn reopen(&mut self) -> io::Result<bool> {
        self.tell(Event::Reopened);
        let outcome = self.reopens.remove(0);
        self.place += usize::from(matches!(outcome, Ok(true)));
        outcome
    }
}

#[test]
fn a_sink_is_reopened_while_nothing_flows_and_in_the_middle_of_a_batch() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let reopened = || {
        let events = events.lock().unwrap();
        events.iter().filter(|it| **it == Event::Reopened).count()
    };
    let (server, mut stream) = start(Halting {
        most: 2,
        taken: 0,
        place: 0,
        reopens: vec![Ok(false), Err(io::Error::other("not now")), Ok(true)],
        events: Arc::clone(&events),
    });
    // It has no name; then its name cannot be opened.
    for count in 1..=2 {
        server.reopen();
        wait_until("a reopen while nothing flows", DEADLINE, || {
            reopened() == count
        });
    }
    stream.write_all(b"a\nb\nc\nd\n").unwrap();
    wait_until("half of the batch taken", DEADLINE, || {
        server.report().stats.delivered == 2
    });
    // It is tried for ever, and offered the same.
    wait_until("two more tries", DEADLINE, || {
        server.report().sink.failures >= 3
    });
    server.reopen();
    wait_until("the other half", DEADLINE, || {
        server.report().stats.delivered == 4
    });
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.sink.failed_reopens, 1);

    let events = events.lock().unwrap().clone();
    let is_offer = |event: &&Event| matches!(event, Event::Offered(_));
    assert!(
        events
            .iter()
            .filter(is_offer)
            .all(|it| *it == Event::Offered(4)),
        "{events:?}"
    );
    let others: Vec<_> = events.into_iter().filter(|it| !is_offer(&it)).collect();
    let took = |place, text: &str| Event::Took(place, text.to_owned());
    let expected = [
        Event::Reopened,
        Event::Reopened,
        took(0, "a"),
        took(0, "b"),
        Event::Reopened,
        took(1, "c"),
        took(1, "d"),
    ];
    assert_eq!(others, expected);
}

/// Takes nothing, and waits as the trait has it.
struct Waiting {
    /// What each wait said, and whether the sink was timed out.
    waits: mpsc::Sender<(bool, bool)>,
    /// The thread that it was dropped on.
    dropped: mpsc::Sender<String>,
}

impl Sink for Waiting {
    fn name(&self) -> String {
        "waiting".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        loop {
            // Longer than the test takes, unless something ends it.
            let goes_on = batches.wait(Duration::from_secs(3600));
            self.waits.send((goes_on, batches.is_timed_out())).unwrap();
            if !goes_on {
                return Ok(());
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let name = thread::current().name().unwrap_or_default().to_owned();
        // Nobody listens where the test has failed.
        let _ = self.dropped.send(name);
    }
}

#[test]
fn a_sink_that_waits_is_woken_when_the_server_closes_and_ended_at_its_last_deadline() {
    let ((waits, waited), (dropped, drops)) = (mpsc::channel(), mpsc::channel());
    let (server, mut stream) = start(Waiting { waits, dropped });
    stream.write_all(b"one\ntwo\n").unwrap();
    wait_until("both received", DEADLINE, || {
        server.report().stats.received == 2
    });
    client::half_close(stream);
    let report = server.shutdown(Duration::from_secs(2));
    assert_both_close(&report);
    assert!(report.timed_out && report.stuck.is_empty());
    let dropped = report.stats.dropped.get(DropReason::Shutdown);
    assert_eq!((dropped, report.sink.failures), (2, 0));
    let waits: Vec<_> = waited.try_iter().collect();
    let (last, before) = waits.split_last().unwrap();
    assert_eq!(*last, (false, true));
    // For the drain's beginning and for the close behind it, or for both at once.
    assert!((1..=2).contains(&before.len()), "{waits:?}");
    assert!(before.iter().all(|it| *it == (true, false)), "{waits:?}");
    // It was dropped before the server had ended, by the thread that drove it.
    assert_eq!(drops.try_recv().as_deref(), Ok("consumer"));
}

/// Waits once, for longer than the test takes, and then takes all.
struct Late {
    has_waited: bool,
}

impl Sink for Late {
    fn name(&self) -> String {
        "late".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        if !std::mem::replace(&mut self.has_waited, true) {
            batches.wait(Duration::from_secs(3600));
        }
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }
}

/// Senders have three quarters of the drain's time: a sink that waited until nobody sends any more
/// would have taken none of it for them.
#[test]
fn a_sink_that_waits_is_woken_by_the_drain_in_time_for_senders_that_wait() {
    for outputs in [1, 2] {
        let mut config = small::config();
        config.buffer_messages = 10;
        let mut ingest = small::ingest()
            .config(config)
            .listen("127.0.0.1:0".parse().unwrap());
        for nth in 0..outputs {
            ingest = ingest.output(Output::new(
                format!("late {nth}"),
                Late { has_waited: false },
            ));
        }
        let server = ingest.start_outputs().unwrap();
        let mut stream = client::connect(server.local_addrs()[0]);
        stream.write_all(&b"message\n".repeat(100)).unwrap();
        wait_until("a sender that waits", DEADLINE, || {
            server.stats().senders_waiting == 1
        });
        drop(stream);
        let report = server.shutdown(Duration::from_secs(30));
        assert_both_close(&report);
        assert_eq!(report.stats.delivered, 100, "{outputs} outputs");
    }
}

/// Fails until it is to take all, which the sixth try in the drain does.
struct Down {
    is_draining: Arc<AtomicBool>,
    tries_in_drain: u32,
}

impl Sink for Down {
    fn name(&self) -> String {
        "down".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        self.tries_in_drain += u32::from(self.is_draining.load(Ordering::Relaxed));
        if self.tries_in_drain < 6 {
            return Err(SinkError::Retry(io::Error::other("down")));
        }
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }
}

/// By the eighth failure in a row tries are 2.5 s apart at least: six of them would be no drain's.
#[test]
fn a_sink_that_fails_is_tried_each_second_in_the_drain_however_long_it_has_failed() {
    let is_draining = Arc::new(AtomicBool::new(false));
    let (server, mut stream) = start(Down {
        is_draining: Arc::clone(&is_draining),
        tries_in_drain: 0,
    });
    stream.write_all(b"message\n").unwrap();
    drop(stream);
    wait_until("many failures", DEADLINE, || {
        server.report().sink.failures == 8
    });
    is_draining.store(true, Ordering::Relaxed);
    let report = server.shutdown(Duration::from_secs(10));
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 1);
}

/// Says in turn what it was told to, each time that it is to look after what it writes to; delivers
/// everything.
struct Maintained(mpsc::Receiver<Result<(), SinkError>>, mpsc::Sender<()>);

impl Sink for Maintained {
    fn name(&self) -> String {
        "maintained".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() {
            batches.ack();
        }
        Ok(())
    }

    fn maintain(&mut self, _work: &mut Batches<'_>) -> Result<(), SinkError> {
        let _ = self.1.send(());
        self.0.try_recv().unwrap_or(Ok(()))
    }
}

#[test]
fn a_sink_looks_after_its_place_while_nothing_flows_and_once_more_at_the_end() {
    let ((say, said), (looks, looked)) = (mpsc::channel(), mpsc::channel());
    let (server, stream) = start(Maintained(said, looks));
    say.send(Err(SinkError::Retry(io::Error::other("not well"))))
        .unwrap();
    wait_until("what may pass counted", DEADLINE, || {
        server.report().sink.failures == 1
    });
    looked.recv_timeout(DEADLINE).unwrap();
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert!(report.error.is_none());
    assert!(looked.try_iter().count() >= 1, "not at the end");
}

#[test]
fn a_sink_that_finds_its_place_gone_ends_the_server_although_nothing_flows() {
    let ((say, said), (looks, _looked)) = (mpsc::channel(), mpsc::channel());
    let (server, mut stream) = start(Maintained(said, looks));
    stream.write_all(b"one\n").unwrap();
    wait_until("the message", DEADLINE, || {
        server.report().stats.delivered == 1
    });
    say.send(Err(SinkError::Fatal(io::Error::other("gone"))))
        .unwrap();
    let report = server.wait();
    assert_both_close(&report);
    let error = report.error.unwrap().to_string();
    assert!(
        error.contains("maintained failed for good: gone"),
        "{error}"
    );
    assert_eq!(report.stats.dropped.total(), 0);
}

/// Peer, connection, index and name of the listener, time, and messages of a batch.
type Told = (Peer, u64, (usize, String), SystemTime, Vec<u8>);

/// Tells of each batch where it came from, when, and what its messages are.
struct Origins {
    tell: mpsc::Sender<Told>,
    needs_exact_times: bool,
}

impl Sink for Origins {
    fn name(&self) -> String {
        "origins".to_owned()
    }

    fn needs_exact_times(&self) -> bool {
        self.needs_exact_times
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while let Some(batch) = batches.first() {
            let (peer, id) = (batch.peer(), batch.connection_id());
            let listener = (batch.listener_index(), batch.listener().to_owned());
            let at = batch.received_at();
            let bytes = batch.as_bytes().to_vec();
            self.tell.send((peer, id, listener, at, bytes)).unwrap();
            batches.ack();
        }
        Ok(())
    }
}

#[test]
fn a_batch_says_where_it_came_from_and_when() {
    for needs_exact_times in [false, true] {
        let (tell, told) = mpsc::channel();
        let spawned = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&spawned);
        let server = small::ingest()
            .listen("127.0.0.1:0".parse().unwrap())
            .listener(Listener::on("127.0.0.1:0".parse().unwrap()).named("second"))
            .spawner(move |builder, body| {
                counter.fetch_add(1, Ordering::Relaxed);
                builder.spawn(body)
            })
            .start(Origins {
                tell,
                needs_exact_times,
            })
            .unwrap();
        let mut ids = Vec::new();
        for (listener, message) in [(1, "a"), (0, "b"), (1, "c")] {
            let mut client = client::connect(server.local_addrs()[listener]);
            let before = SystemTime::now();
            client.write_all(message.as_bytes()).unwrap();
            let addr = client.local_addr().unwrap();
            // Its last message ends with the stream: that batch, too, knows where it is from.
            client::half_close(client);
            let (peer, id, index, at, bytes) = told.recv_timeout(DEADLINE).unwrap();
            let name = match listener {
                0 => server.local_addrs()[0].to_string(),
                _ => "second".to_owned(),
            };
            assert_eq!(
                (peer, index, bytes),
                (
                    addr.into(),
                    (listener, name),
                    format!("{message}\n").into_bytes()
                )
            );
            assert!(at <= SystemTime::now(), "{at:?}");
            // A tick may be late where others use the processors.
            let early = if needs_exact_times {
                Duration::ZERO
            } else {
                DEADLINE
            };
            assert!(at >= before - early, "{at:?} {before:?}");
            ids.push(id);
        }
        assert_eq!(ids, [1, 2, 3]);
        assert!(spawned.load(Ordering::Relaxed) > 0);
        assert!(server.shutdown(DEADLINE).is_balanced());
    }
}
