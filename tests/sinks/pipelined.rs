//! A sink that goes on taking while answers are out: how much it may hold, what ends its waits, and
//! that none of them spins, is missed, or keeps the sink from being looked after.

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client;
use crate::common::embedded;
use crate::common::ledger::{assert_both_close, wait_delivered};
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::{Batches, IngestBuilder, Notifier, Output, Resources, Sink, SinkError};
use drainline::{DropReason, Server};

/// A sink of one function.
struct By<W>(W);

impl<W> Sink for By<W>
where
    W: FnMut(&mut Batches<'_>) -> Result<(), SinkError> + Send + 'static,
{
    fn name(&self) -> String {
        "by".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        (self.0)(batches)
    }
}

fn start(builder: IngestBuilder, sink: impl Sink) -> (Server, TcpStream) {
    let builder = builder.listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(sink).unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

fn start_by<W>(write: W) -> (Server, TcpStream)
where
    W: FnMut(&mut Batches<'_>) -> Result<(), SinkError> + Send + 'static,
{
    start(small::ingest(), By(write))
}

/// Sends messages of which each is a batch of its own.
fn send_alone(server: &Server, stream: &mut TcpStream, messages: u64) {
    let before = server.stats().received;
    for nth in 1..=messages {
        stream.write_all(b"message\n").unwrap();
        wait_until("a message received", DEADLINE, || {
            server.stats().received == before + nth
        });
    }
}

/// Passes the numbers of batches to another thread and accepts what that answers, in whatever
/// order.
struct Pipe {
    window: usize,
    next: u64,
    to: Sender<(u64, Notifier)>,
    answers: Receiver<u64>,
    turns: Arc<AtomicU64>,
}

/// The other side of a [`Pipe`].
struct Peer {
    asked: Receiver<(u64, Notifier)>,
    answer: Sender<u64>,
    turns: Arc<AtomicU64>,
}

impl Pipe {
    fn new(window: usize) -> (Pipe, Peer) {
        let ((to, asked), (answer, answers)) = (mpsc::channel(), mpsc::channel());
        let turns = Arc::new(AtomicU64::new(0));
        let pipe = Pipe {
            window,
            next: 0,
            to,
            answers,
            turns: Arc::clone(&turns),
        };
        let peer = Peer {
            asked,
            answer,
            turns,
        };
        (pipe, peer)
    }
}

impl Sink for Pipe {
    fn name(&self) -> String {
        "pipe".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() {
            while batches.get(self.next).is_some() {
                let _ = self.to.send((self.next, batches.notifier()));
                self.next += 1;
            }
            for number in self.answers.try_iter() {
                batches.ack_at(number, u64::MAX);
            }
            self.turns.fetch_add(1, Ordering::Relaxed);
            if batches.first().is_some() && !batches.more(self.window, DEADLINE) {
                break;
            }
        }
        Ok(())
    }
}

#[test]
fn far_more_is_out_than_is_offered_at_first_up_to_the_window_and_the_bound() {
    const WINDOW: usize = 200;
    let (pipe, peer) = Pipe::new(WINDOW);
    let (server, mut stream) = start(small::ingest(), pipe);
    send_alone(&server, &mut stream, WINDOW as u64 + 50);
    let asked = |count| -> Vec<_> {
        let next = || peer.asked.recv_timeout(DEADLINE).unwrap();
        (0..count).map(|_| next()).collect()
    };
    let out = asked(WINDOW);
    wait_until("the window unanswered", DEADLINE, || {
        server.report().outputs[0].unanswered == WINDOW as u64
    });
    // What is held is a part of the buffer, and nothing beyond the window was taken.
    let stats = server.stats();
    assert_eq!((stats.delivered, stats.in_flight), (0, WINDOW as u64 + 50));
    assert_eq!(stats.buffered.messages, WINDOW as u64 + 50);
    assert!(peer.asked.try_recv().is_err());

    // The last ones first: they are delivered, and leave when those in front of them do.
    for (number, notifier) in out[1..].iter().rev() {
        peer.answer.send(*number).unwrap();
        notifier.notify();
    }
    wait_delivered(&server, WINDOW as u64 - 1);
    assert!(
        peer.asked.try_recv().is_err(),
        "the first one holds the window"
    );
    let (number, notifier) = &out[0];
    // An answer that comes twice is one.
    peer.answer.send(*number).unwrap();
    peer.answer.send(*number).unwrap();
    notifier.notify();
    for (number, notifier) in asked(50) {
        peer.answer.send(number).unwrap();
        notifier.notify();
    }
    wait_delivered(&server, WINDOW as u64 + 50);
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.outputs[0].unanswered, 0);
}

/// A sender that waits, and answers that do not come, wake the sink a few times a second.
#[test]
fn a_sink_with_all_of_the_buffer_out_does_not_spin_while_a_sender_waits() {
    let mut config = small::config();
    config.buffer_messages = 8;
    let (pipe, peer) = Pipe::new(1000);
    let (server, mut stream) = start(small::ingest().config(config), pipe);
    send_alone(&server, &mut stream, 9);
    wait_until("a sender that waits", DEADLINE, || {
        server.stats().senders_waiting == 1
    });
    let before = peer.turns.load(Ordering::Relaxed);
    let begun = Instant::now();
    thread::sleep(Duration::from_secs(1));
    let turns = peer.turns.load(Ordering::Relaxed) - before;
    // Ten times a second for the sender, once to be looked after.
    let most = 12 * (begun.elapsed().as_secs() + 2);
    assert!(turns <= most, "{turns} turns, expected at most {most}");
    let answering = thread::spawn(move || {
        for (number, notifier) in peer.asked {
            peer.answer.send(number).unwrap();
            notifier.notify();
        }
    });
    wait_delivered(&server, 9);
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    answering.join().unwrap();
}

/// Gathers until a wait ends because a sender waits or the server closes. What it finds without
/// having waited is not enough, nor is being asked to return.
fn gather(batches: &mut Batches<'_>) -> Result<(), SinkError> {
    loop {
        if !batches.more(1000, DEADLINE) {
            return Ok(());
        }
        if batches.is_room_wanted() || batches.is_closing() {
            break;
        }
    }
    while batches.first().is_some() {
        batches.ack();
    }
    Ok(())
}

#[test]
fn a_sink_that_gathers_sees_a_sender_that_waits() {
    let mut config = small::config();
    config.buffer_messages = 8;
    let (server, mut stream) = start(small::ingest().config(config), By(gather));
    send_alone(&server, &mut stream, 100);
    // The last of the first 96 were let go of by the sender of the next one.
    wait_until("all but what fits", DEADLINE, || {
        server.stats().delivered >= 92
    });
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 100);
}

#[test]
fn a_sink_that_gathers_sees_the_server_close() {
    let (server, mut stream) = start_by(gather);
    send_alone(&server, &mut stream, 3);
    wait_until("all held", DEADLINE, || {
        server.report().outputs[0].unanswered == 3
    });
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!((report.stats.delivered, report.timed_out), (3, false));
}

/// A notice that is given between a look at the answers and the wait ends that wait.
#[test]
fn a_notice_from_before_the_wait_is_not_lost() {
    let ended = Arc::new(Mutex::new(None));
    let (server, mut stream) = start_by({
        let ended = Arc::clone(&ended);
        move |batches| {
            batches.notifier().notify();
            batches.notifier().notify();
            // Without the notice the sink is asked to return, after a second.
            *ended.lock().unwrap() = Some(batches.more(1, DEADLINE));
            batches.ack();
            Ok(())
        }
    });
    send_alone(&server, &mut stream, 1);
    wait_delivered(&server, 1);
    assert_eq!(*ended.lock().unwrap(), Some(true));
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// A wait that no notice ended would take a second, and hundreds of them too long.
#[test]
fn each_answer_ends_the_wait_for_it() {
    let (pipe, peer) = Pipe::new(1000);
    let (server, mut stream) = start(small::ingest(), pipe);
    let answering = thread::spawn(move || {
        for (number, notifier) in peer.asked {
            // Before the wait begins, while it does, and in it.
            (0..number % 7).for_each(|_| thread::yield_now());
            if number % 3 == 0 {
                thread::sleep(Duration::from_micros(number % 5 * 50));
            }
            peer.answer.send(number).unwrap();
            notifier.notify();
        }
    });
    for nth in 1..=300 {
        stream.write_all(b"message\n").unwrap();
        wait_delivered(&server, nth);
    }
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    answering.join().unwrap();
}

/// Without answers the drain's deadline ends the wait, and what is out is dropped.
#[test]
fn a_sink_whose_answers_do_not_come_is_ended_by_the_deadline() {
    let (pipe, _peer) = Pipe::new(1000);
    let (server, mut stream) = start(small::ingest(), pipe);
    send_alone(&server, &mut stream, 3);
    let begun = Instant::now();
    let report = server.shutdown(Duration::from_secs(2));
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 3);
    assert!(report.timed_out && report.is_balanced(), "{report:?}");
}

/// A sink that always has answers out, and never comes out by itself, is looked after all the same.
#[test]
fn a_sink_that_never_has_all_answered_is_maintained_and_reopened() {
    struct Busy {
        maintained: Arc<AtomicU64>,
        reopened: Arc<AtomicBool>,
    }
    impl Sink for Busy {
        fn name(&self) -> String {
            "busy".to_owned()
        }

        fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
            loop {
                // The last one stays unanswered until the next one comes.
                while batches.batches().count() > 1 || batches.is_closing() {
                    if batches.first().is_none() {
                        return Ok(());
                    }
                    batches.ack();
                }
                if !batches.more(1000, DEADLINE) {
                    return Ok(());
                }
            }
        }

        fn maintain(&mut self, _: &mut Batches<'_>) -> Result<(), SinkError> {
            self.maintained.fetch_add(1, Ordering::Relaxed);
            Ok(())
        }

        fn reopen(&mut self) -> io::Result<bool> {
            self.reopened.store(true, Ordering::Relaxed);
            Ok(true)
        }
    }
    let (maintained, reopened) = (Arc::default(), Arc::default());
    let busy = Busy {
        maintained: Arc::clone(&maintained),
        reopened: Arc::clone(&reopened),
    };
    let (server, mut stream) = start(small::ingest(), busy);
    send_alone(&server, &mut stream, 1);
    wait_until("two looks after it", DEADLINE, || {
        maintained.load(Ordering::Relaxed) >= 2
    });
    server.reopen();
    wait_until("a reopen", DEADLINE, || reopened.load(Ordering::Relaxed));
    send_alone(&server, &mut stream, 10);
    assert_eq!(server.report().sink.failures, 0, "it did not fail");
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 11);
}

/// What is unanswered is offered again as it stands, under its numbers; what was answered is not.
#[test]
fn after_an_error_the_same_batches_stand_under_the_same_numbers() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (server, mut stream) = start_by({
        let seen = Arc::clone(&seen);
        move |batches| {
            let mut seen = seen.lock().unwrap();
            let numbers = batches.first_number()..batches.first_number() + 3;
            let held = numbers.map(|number| batches.remaining(number)).collect();
            let call: (u64, Vec<u64>) = (batches.first_number(), held);
            match seen.len() {
                0 if call.1 == [1, 0, 0] => {
                    // It takes all three before it fails.
                    while batches.batches().count() < 3 {
                        batches.more(3, DEADLINE);
                    }
                    batches.ack_at(1, 1);
                }
                1 => batches.refuse_first(1),
                _ => {
                    while batches.first().is_some() {
                        batches.ack();
                    }
                    // Answers to what has left, and to what never came.
                    batches.ack_at(0, 1);
                    batches.refuse_at(1, 1);
                    batches.ack_at(1000, 1);
                    seen.push(call);
                    return Ok(());
                }
            }
            seen.push(call);
            Err(SinkError::Retry(io::Error::other("not now")))
        }
    });
    send_alone(&server, &mut stream, 3);
    wait_delivered(&server, 2);
    let output = server.report().outputs[0].clone();
    assert_eq!(output.last_error.as_deref(), Some("not now"));
    assert_eq!((output.retrying_for, output.unanswered), (None, 0));
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.dropped.get(DropReason::Refused), 1);
    let expected = [(0, vec![1, 0, 0]), (0, vec![1, 0, 1]), (2, vec![1, 0, 0])];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn how_an_output_stands_is_told_while_it_fails() {
    let is_healed = Arc::new(AtomicBool::new(false));
    let (server, mut stream) = start_by({
        let is_healed = Arc::clone(&is_healed);
        move |batches| {
            if !is_healed.load(Ordering::Relaxed) {
                return Err(SinkError::Retry(io::Error::other("no route")));
            }
            while batches.first().is_some() {
                batches.ack();
            }
            Ok(())
        }
    });
    assert!(server.report().outputs[0].last_error.is_none());
    send_alone(&server, &mut stream, 2);
    let told = || server.report().outputs[0].clone();
    wait_until("two failures", DEADLINE, || told().counts.failures >= 2);
    let output = told();
    assert_eq!((&*output.name, output.unanswered > 0), ("by", true));
    assert_eq!(output.last_error.as_deref(), Some("no route"));
    assert!(output.retrying_for.is_some_and(|time| !time.is_zero()));
    is_healed.store(true, Ordering::Relaxed);
    wait_delivered(&server, 2);
    wait_until("no word of a retry", DEADLINE, || {
        told().retrying_for.is_none()
    });
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
}

/// A boxed sink is the sink: none of its methods is the trait's default.
#[test]
fn a_boxed_sink_is_asked_everything_that_the_sink_is() {
    struct Own(Arc<Mutex<Vec<&'static str>>>);
    impl Own {
        fn tell(&self, what: &'static str) {
            self.0.lock().unwrap().push(what);
        }
    }
    impl Sink for Own {
        fn name(&self) -> String {
            "own".to_owned()
        }

        fn delivered_means(&self) -> String {
            self.tell("means");
            "it is told".to_owned()
        }

        fn resources(&self) -> Resources {
            self.tell("resources");
            Resources::default()
        }

        fn check(&self) -> Result<(), String> {
            self.tell("check");
            Ok(())
        }

        fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
            self.tell("write");
            // It stays inside a message.
            match batches.wait(Duration::from_millis(10)) {
                true => Err(SinkError::Retry(io::Error::other("not now"))),
                false => Ok(()),
            }
        }

        fn uses_output_framing(&self) -> bool {
            self.tell("framing");
            false
        }

        fn needs_exact_times(&self) -> bool {
            self.tell("times");
            true
        }

        fn reopen(&mut self) -> io::Result<bool> {
            self.tell("reopen");
            Ok(true)
        }

        fn maintain(&mut self, _: &mut Batches<'_>) -> Result<(), SinkError> {
            self.tell("maintain");
            Ok(())
        }

        fn finish(&mut self, _: &mut Batches<'_>) {
            self.tell("finish");
        }

        fn is_inside_message(&self, _: &Batches<'_>) -> bool {
            self.tell("inside");
            true
        }
    }
    let told = Arc::default();
    let own = || Own(Arc::clone(&told));
    let sink: Box<dyn Sink> = Box::new(own());
    let (server, mut stream) = start(small::ingest(), sink);
    stream.write_all(b"one\n").unwrap();
    server.reopen();
    let all = "means resources check write framing times reopen maintain inside".split(' ');
    let all: Vec<_> = all.collect();
    let has = |what: &&str| told.lock().unwrap().contains(what);
    wait_until("each asked while it runs", DEADLINE, || {
        all[..8].iter().all(has)
    });
    let report = server.shutdown(Duration::from_millis(200));
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 1);
    assert!(all.iter().all(has), "{told:?}");
    // Only where all is accepted in time.
    assert!(!has(&"finish"), "{told:?}");
    let sink: Box<dyn Sink> = Box::new(own());
    let (server, stream) = start(small::ingest(), sink);
    drop(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    assert!(has(&"finish"), "{told:?}");
}

/// In a process of its own: the limits count the threads and descriptors that a process has.
#[test]
fn what_a_sink_takes_is_counted_in_the_limits() {
    struct Takes(Resources);
    impl Sink for Takes {
        fn name(&self) -> String {
            "takes".to_owned()
        }

        fn resources(&self) -> Resources {
            self.0
        }

        fn write(&mut self, _: &mut Batches<'_>) -> Result<(), SinkError> {
            Ok(())
        }
    }
    let name = "pipelined::what_a_sink_takes_is_counted_in_the_limits";
    embedded::alone(name, || {
        let limits = |resources| {
            let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
            let builder = builder.output(Output::new("takes", Takes(resources)));
            builder.check().unwrap().0
        };
        let without = limits(Resources::default());
        let with = limits(Resources {
            threads: 3,
            descriptors: 5,
            memory_bytes: 1 << 30,
        });
        assert_eq!(with.threads, without.threads + 3);
        assert_eq!(with.descriptors, without.descriptors + 5);
        let bytes = (1 << 30) + 3 * (16 << 10);
        assert_eq!(with.memory_bytes, without.memory_bytes + bytes);
    });
}
