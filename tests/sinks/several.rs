//! Several outputs at once: a message is delivered when all that are required have accepted it, one
//! that lags or fails costs the others nothing but what the contract says, and each has a row that
//! closes.

use std::collections::HashSet;
use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client;
use crate::common::embedded;
use crate::common::ledger::assert_both_close;
use crate::common::proc;
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until};
use drainline::ingest::{
    Batches, Envelope, IngestBuilder, IngestListener, Output, Sink, SinkError, sink,
};
use drainline::{DropReason, Listener, OutputRow, Report, Server, ServerError};

/// What a [`Told`] does next.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// So many messages of the held batch of this place.
    Accept(usize, u64),
    Refuse(usize, u64),
    /// All there is, from now on.
    AcceptAll,
    Retry,
    RetryForEver,
    Fail,
    Panic,
    /// Never returns.
    Hang,
}

/// A sink that does what it is told, and keeps what it saw.
struct Told {
    answers: mpsc::Receiver<Answer>,
    accepts_all: bool,
    retries_for_ever: bool,
    next: u64,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Default)]
struct Seen {
    messages: Vec<String>,
    /// Where the batches are in memory.
    places: HashSet<usize>,
}

type Tell = (Sender<Answer>, Arc<Mutex<Seen>>);

fn told() -> (Told, Tell) {
    let (tell, answers) = mpsc::channel();
    let seen = Arc::default();
    let sink = Told {
        answers,
        accepts_all: false,
        retries_for_ever: false,
        next: 0,
        seen: Arc::clone(&seen),
    };
    (sink, (tell, seen))
}

impl Sink for Told {
    fn name(&self) -> String {
        "told".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() {
            while let Some(batch) = batches.get(self.next) {
                let mut seen = self.seen.lock().unwrap();
                let texts = batch.iter().map(|text| String::from_utf8(text.to_vec()));
                seen.messages.extend(texts.map(Result::unwrap));
                seen.places.insert(batch.as_bytes().as_ptr() as usize);
                self.next += 1;
            }
            if self.retries_for_ever {
                return Err(SinkError::Retry(io::Error::other("never")));
            }
            if self.accepts_all {
                batches.ack();
                continue;
            }
            let held = batches.batches().count();
            let number = |at: usize| batches.first_number() + (at % held.max(1)) as u64;
            match self.answers.try_recv() {
                Ok(Answer::Accept(at, messages)) => batches.ack_at(number(at), messages),
                Ok(Answer::Refuse(at, messages)) => batches.refuse_at(number(at), messages),
                Ok(Answer::AcceptAll) => self.accepts_all = true,
                Ok(Answer::Retry) => return Err(SinkError::Retry(io::Error::other("not now"))),
                Ok(Answer::RetryForEver) => self.retries_for_ever = true,
                Ok(Answer::Fail) => return Err(SinkError::Fatal(io::Error::other("it is over"))),
                Ok(Answer::Panic) => panic!("as told"),
                Ok(Answer::Hang) => loop {
                    thread::park();
                },
                Err(_) if !batches.more(1000, Duration::from_millis(1)) => return Ok(()),
                Err(_) => {}
            }
        }
        Ok(())
    }
}

fn start(builder: IngestBuilder) -> (Server, TcpStream) {
    let builder = builder.listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start_outputs().unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

fn send(server: &Server, stream: &mut TcpStream, messages: u64) {
    let before = server.stats().received;
    let text: String = (0..messages).map(|nth| format!("{nth}\n")).collect();
    stream.write_all(text.as_bytes()).unwrap();
    wait_until("all received", DEADLINE, || {
        server.stats().received == before + messages
    });
}

fn row(report: &Report, name: &str) -> OutputRow {
    let output = report.outputs.iter().find(|output| &*output.name == name);
    output.unwrap().row
}

fn wait_row(server: &Server, name: &str, is_there: impl Fn(&OutputRow) -> bool) {
    wait_until(&format!("the row of {name}"), DEADLINE, || {
        let report = server.report();
        assert!(report.is_balanced(), "{report:?}");
        is_there(&row(&report, name))
    });
}

#[test]
fn a_message_is_delivered_when_all_required_outputs_have_accepted_it() {
    let ((a, (tell_a, seen_a)), (b, (tell_b, seen_b))) = (told(), told());
    let (server, mut stream) = start(
        small::ingest()
            .output(Output::new("a", a))
            .output(Output::new("b", b)),
    );
    send(&server, &mut stream, 10);
    tell_a.send(Answer::AcceptAll).unwrap();
    wait_row(&server, "a", |row| row.delivered == 10);
    stays("not delivered", Duration::from_millis(200), || {
        let report = server.report();
        assert_eq!(row(&report, "b").in_flight, 10);
        report.stats.delivered == 0 && report.stats.in_flight == 10
    });
    tell_b.send(Answer::AcceptAll).unwrap();
    wait_until("all delivered", DEADLINE, || server.stats().delivered == 10);
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(report.stats.buffered.bytes, 0);
    assert_eq!(row(&report, "b").delivered, 10);
    let (seen_a, seen_b) = (seen_a.lock().unwrap(), seen_b.lock().unwrap());
    assert_eq!(seen_a.messages.len(), 10);
    assert_eq!(seen_a.messages, seen_b.messages);
    // Not a copy of it.
    assert_eq!(seen_a.places, seen_b.places);
}

#[test]
fn what_any_required_output_refuses_is_dropped_and_never_more_is_said_delivered() {
    let ((a, (tell_a, _)), (b, (tell_b, _))) = (told(), told());
    let (server, mut stream) = start(
        small::ingest()
            .output(Output::new("a", a))
            .output(Output::new("b", b)),
    );
    send(&server, &mut stream, 10);
    for (tell, refused) in [(&tell_a, 3), (&tell_b, 4)] {
        tell.send(Answer::Refuse(0, refused)).unwrap();
        tell.send(Answer::AcceptAll).unwrap();
    }
    wait_until("all answered", DEADLINE, || server.stats().in_flight == 0);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    // Nobody says which ones: they may all be different.
    let refused = report.stats.dropped.get(DropReason::Refused);
    assert_eq!((report.stats.delivered, refused), (3, 7));
    let refused = |name| row(&report, name).dropped.get(DropReason::Refused);
    assert_eq!((refused("a"), refused("b")), (3, 4));
}

#[test]
fn an_output_that_nobody_waits_for_drops_what_its_buffer_does_not_hold_in_a_row_of_its_own() {
    let ((a, (tell_a, _)), (dead, _tell)) = (told(), told());
    let dead = Output::new("dead", dead)
        .required(false)
        .buffer_bytes(80 << 10);
    let (server, mut stream) = start(small::ingest().output(Output::new("a", a)).output(dead));
    tell_a.send(Answer::AcceptAll).unwrap();
    for _ in 0..50 {
        send(&server, &mut stream, 1000);
    }
    wait_until("all delivered", DEADLINE, || {
        server.stats().delivered == 50_000
    });
    let report = server.report();
    let of_dead = row(&report, "dead");
    let full = of_dead.dropped.get(DropReason::Full);
    assert!(full > 0 && of_dead.in_flight > 0, "{of_dead:?}");
    assert_eq!(of_dead.received, 50_000);
    assert!(of_dead.buffered_bytes <= 80 << 10, "{of_dead:?}");
    assert_eq!(
        report.stats.buffered.bytes, 0,
        "the server's buffer is free"
    );
    drop(stream);
    // Nobody waits for it at the end, either.
    let begun = Instant::now();
    let report = server.shutdown(DEADLINE * 2);
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert_both_close(&report);
    let of_dead = row(&report, "dead");
    assert_eq!(of_dead.dropped.get(DropReason::Shutdown), 50_000 - full);
    assert_eq!((of_dead.in_flight, of_dead.buffered_bytes), (0, 0));
    assert!(!report.is_lossy() && !report.timed_out, "{report:?}");
}

#[test]
fn an_output_that_nobody_waits_for_may_fail_for_good() {
    for (answer, why) in [
        (Answer::Fail, "it is over"),
        (Answer::Panic, "the sink panicked: as told"),
    ] {
        let ((a, (tell_a, _)), (b, (tell_b, _))) = (told(), told());
        let b = Output::new("b", b).required(false);
        let (server, mut stream) = start(small::ingest().output(b).output(Output::new("a", a)));
        tell_a.send(Answer::AcceptAll).unwrap();
        tell_b.send(answer).unwrap();
        send(&server, &mut stream, 10);
        let failed = |row: &OutputRow| row.dropped.get(DropReason::SinkFailed);
        wait_row(&server, "b", |row| failed(row) == 10);
        send(&server, &mut stream, 10);
        wait_row(&server, "b", |row| failed(row) == 20);
        drop(stream);
        let report = server.shutdown(DEADLINE);
        let of_b = report.outputs.iter().find(|output| &*output.name == "b");
        let of_b = of_b.unwrap();
        assert_eq!(of_b.last_error.as_deref(), Some(why));
        assert_eq!((of_b.unanswered, of_b.retrying_for), (0, None));
        assert_both_close(&report);
        assert_eq!(report.stats.delivered, 20);
        assert!(report.error.is_none() && !report.is_lossy(), "{report:?}");
    }
}

/// The others have what they were handed.
#[test]
fn a_required_output_that_fails_for_good_ends_the_server() {
    for (answer, told_as) in [
        (
            Answer::Fail,
            "output b: the sink told failed for good: it is over",
        ),
        (Answer::Panic, "output b: the sink panicked: as told"),
    ] {
        let ((a, (tell_a, _)), (b, (tell_b, _))) = (told(), told());
        let (server, mut stream) = start(
            small::ingest()
                .output(Output::new("a", a))
                .output(Output::new("b", b)),
        );
        send(&server, &mut stream, 10);
        wait_row(&server, "a", |row| row.received == 10);
        tell_a.send(Answer::Retry).unwrap();
        tell_a.send(Answer::AcceptAll).unwrap();
        tell_b.send(answer).unwrap();
        let report = server.wait();
        assert!(report.is_balanced(), "{report:?}");
        let Some(ServerError::ConsumerFailed { message, .. }) = &report.error else {
            panic!("{:?}", report.error);
        };
        assert_eq!(message, told_as);
        assert_eq!(report.stats.dropped.get(DropReason::SinkFailed), 10);
        assert_eq!(row(&report, "a").delivered, 10);
        assert_eq!(row(&report, "b").dropped.get(DropReason::SinkFailed), 10);
    }
}

#[test]
fn a_listeners_messages_go_to_its_outputs() {
    let ((a, (tell_a, seen_a)), (b, (tell_b, seen_b))) = (told(), told());
    let at = || Listener::on("127.0.0.1:0".parse().unwrap());
    let server = small::ingest()
        .listener(IngestListener::from(at().named("one")).to(["b"]))
        .listener(at().named("two"))
        .output(Output::new("a", a).required(false))
        .output(Output::new("b", b))
        .start_outputs()
        .unwrap();
    for tell in [&tell_a, &tell_b] {
        tell.send(Answer::AcceptAll).unwrap();
    }
    for (addr, text) in server.local_addrs().iter().zip(["one\n", "two\n"]) {
        let mut stream = client::connect(*addr);
        stream.write_all(text.as_bytes()).unwrap();
        client::half_close(stream);
        wait_until("a message delivered", DEADLINE, || {
            let messages = &seen_b.lock().unwrap().messages;
            messages.last().is_some_and(|last| *last == text.trim())
        });
    }
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(seen_a.lock().unwrap().messages, ["two"]);
    assert_eq!(seen_b.lock().unwrap().messages, ["one", "two"]);
}

/// Whatever three outputs answer, in whatever order, all rows close at every look, and nothing is
/// said delivered that a required one has not accepted.
#[test]
fn rows_close_whatever_is_answered() {
    const MESSAGES: u64 = 4000;
    let outputs = [told(), told(), told()];
    let [(a, to_a), (b, to_b), (c, to_c)] = outputs;
    let c = Output::new("c", c).required(false).buffer_bytes(16 << 10);
    let (server, mut stream) = start(
        small::ingest()
            .max_message(1 << 10)
            .output(Output::new("a", a))
            .output(Output::new("b", b).envelope(Envelope::Json))
            .output(c.envelope(Envelope::Json)),
    );
    let sending = thread::spawn(move || {
        for nth in 0..MESSAGES {
            let line = "x".repeat(nth as usize % 300) + "\n";
            stream.write_all(line.as_bytes()).unwrap();
            if nth.is_multiple_of(64) {
                thread::sleep(Duration::from_millis(1));
            }
        }
    });
    let mut random = 7u64;
    let check = |report: &Report| {
        assert!(report.is_balanced(), "{report:?}");
        let stats = &report.stats;
        let refused = |name| row(report, name).dropped.get(DropReason::Refused);
        // Each is read by itself: later ones have seen more.
        let later = server.report();
        let accepted = row(&later, "a").delivered.min(row(&later, "b").delivered);
        assert!(stats.delivered <= accepted, "{report:?}");
        let at_most = refused("a") + refused("b");
        assert!(stats.in_flight > 0 || stats.dropped.get(DropReason::Refused) <= at_most);
    };
    wait_until("all answered", DEADLINE, || {
        for tell in [&to_a.0, &to_b.0, &to_c.0] {
            for _ in 0..10 {
                random = random
                    .wrapping_mul(6364136223846793005)
                    .wrapping_add(1442695040888963407);
                let word = random >> 33;
                let (at, messages) = (word as usize / 997, word / 7 % 60);
                let answer = match word % 7 {
                    0 => Answer::Refuse(at, messages),
                    1 | 2 => Answer::Accept(at, u64::MAX),
                    _ => Answer::Accept(at, messages),
                };
                tell.send(answer).unwrap();
            }
        }
        let report = server.report();
        check(&report);
        report.stats.received == MESSAGES && report.stats.in_flight == 0
    });
    sending.join().unwrap();
    let report = server.shutdown(DEADLINE);
    check(&report);
    let refused = report.stats.dropped.get(DropReason::Refused);
    assert_eq!(report.stats.delivered + refused, MESSAGES);
    assert!(refused > 0 && report.stats.delivered > 0, "{report:?}");
    for name in ["a", "b", "c"] {
        let row = row(&report, name);
        assert_eq!(
            (row.received, row.in_flight, row.buffered_bytes),
            (MESSAGES, 0, 0)
        );
    }
    assert_eq!(report.stats.buffered.bytes, 0);
}

/// The others do not wait for it, nor does the end: one that hangs is abandoned, one that tries
/// again for ever is told to return.
#[test]
fn an_output_that_takes_nothing_holds_up_no_end() {
    for (answer, is_required) in [
        (Answer::Hang, true),
        (Answer::Hang, false),
        (Answer::RetryForEver, true),
        (Answer::RetryForEver, false),
    ] {
        let ((a, (tell_a, _)), (b, (tell_b, _))) = (told(), told());
        let b = Output::new("b", b).required(is_required);
        let (server, mut stream) = start(small::ingest().output(Output::new("a", a)).output(b));
        tell_a.send(Answer::AcceptAll).unwrap();
        tell_b.send(answer).unwrap();
        send(&server, &mut stream, 10);
        wait_row(&server, "a", |row| row.delivered == 10);
        drop(stream);
        let begun = Instant::now();
        let report = server.shutdown(Duration::from_secs(3));
        assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
        assert!(report.is_balanced(), "{report:?}");
        assert_eq!(report.timed_out, is_required, "{answer:?}: {report:?}");
        let delivered = if is_required { 0 } else { 10 };
        assert_eq!(report.stats.delivered, delivered);
        assert_eq!(report.is_lossy(), is_required);
        let row = row(&report, "b");
        let sums = (row.dropped.get(DropReason::Shutdown), row.in_flight);
        assert_eq!(sums, (10, 0), "{answer:?}: {report:?}");
        assert_eq!(report.stats.in_flight, 0);
        assert!(report.outputs.iter().all(|output| output.unanswered == 0));
    }
}

/// Fails for good when it is told to, and its drop lasts until it is told to.
struct EndsSlowly {
    fail: mpsc::Receiver<()>,
    end: mpsc::Receiver<()>,
}

impl Sink for EndsSlowly {
    fn name(&self) -> String {
        "ends slowly".to_owned()
    }

    fn write(&mut self, _: &mut Batches<'_>) -> Result<(), SinkError> {
        let _ = self.fail.recv();
        Err(SinkError::Fatal(io::Error::other("it is over")))
    }
}

impl Drop for EndsSlowly {
    fn drop(&mut self) {
        let _ = self.end.recv();
    }
}

/// What it was handed is in no one's hands then.
#[test]
fn what_an_output_that_fails_had_before_it_is_booked_before_its_sink_has_ended() {
    let ((fail, failed), (end, ended)) = (mpsc::channel(), mpsc::channel());
    let (a, (tell_a, _)) = told();
    tell_a.send(Answer::AcceptAll).unwrap();
    let slow = EndsSlowly {
        fail: failed,
        end: ended,
    };
    let slow = Output::new("slow", slow).required(false);
    let (server, mut stream) = start(small::ingest().output(Output::new("a", a)).output(slow));
    for nth in 1..=10 {
        send(&server, &mut stream, 1);
        wait_row(&server, "slow", |row| row.received == nth);
    }
    fail.send(()).unwrap();
    wait_row(&server, "slow", |row| {
        (row.dropped.get(DropReason::SinkFailed), row.in_flight) == (10, 0)
    });
    end.send(()).unwrap();
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert!(!report.is_lossy(), "{report:?}");
}

/// Both outputs hold all that they may, in their worst form, and nothing is answered.
#[test]
fn two_dead_outputs_stay_within_the_limits() {
    let name = "several::two_dead_outputs_stay_within_the_limits";
    embedded::alone(name, || {
        for (size, own_bytes) in [(1, 1 << 20), (100, 8 << 20), (60_000, 8 << 20)] {
            let ((a, (_tell_a, _)), (b, (_tell_b, _))) = (told(), told());
            let mut config = small::config();
            config.buffer_bytes = 8 << 20;
            let b = Output::new("b", b).required(false).buffer_bytes(own_bytes);
            let builder = small::ingest().config(config);
            let (server, stream) = start(
                builder
                    .output(Output::new("a", a).envelope(Envelope::Json))
                    .output(b.envelope(Envelope::Json)),
            );
            let line = [vec![1; size], b"\n".to_vec()].concat();
            let lines = line.repeat((64 << 10) / line.len() + 1);
            let clients = client::connect_many(server.local_addrs()[0], 3);
            for mut stream in clients.into_iter().chain([stream]) {
                let lines = lines.clone();
                thread::spawn(move || while stream.write_all(&lines).is_ok() {});
            }
            wait_until("senders that wait", DEADLINE, || {
                server.stats().senders_waiting == 4
            });
            stays("standing still", Duration::from_millis(500), || {
                server.stats().senders_waiting == 4
            });
            let (limits, peak) = (server.limits(), proc::peak_rss_bytes(std::process::id()));
            let bound = limits.memory_with_malloc_bytes();
            assert!(peak <= bound, "{peak} of {bound} bytes, messages of {size}");
            let report = server.shutdown(Duration::ZERO);
            assert!(report.is_balanced(), "{report:?}");
        }
    });
}

/// In a process of its own: the limits count the threads that a process has.
#[test]
fn several_outputs_are_counted_in_the_limits() {
    let name = "several::several_outputs_are_counted_in_the_limits";
    embedded::alone(name, || {
        let null = |name: &str| Output::new(name, sink::Null);
        let limits = |outputs: Vec<Output>| {
            let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
            let builder = outputs.into_iter().fold(builder, IngestBuilder::output);
            builder.check().unwrap().0
        };
        let one = limits(vec![null("a")]);
        let b = null("b").required(false).buffer_bytes(1 << 30);
        let two = limits(vec![null("a"), b]);
        assert_eq!(two.threads, one.threads + 2);
        assert!(two.memory_bytes >= one.memory_bytes + (1 << 30));
    });
}

#[test]
fn contradictions_of_outputs_are_told() {
    let listener = || Listener::on("127.0.0.1:0".parse().unwrap()).named("in");
    let null = |name: &str| Output::new(name, sink::Null);
    let error = |builder: IngestBuilder| builder.start_outputs().unwrap_err().to_string();
    let to = |names: &[&str]| {
        let listener = IngestListener::from(listener()).to(names.iter().copied());
        let outputs = small::ingest().output(null("a").required(false));
        outputs.output(null("b")).listener(listener)
    };
    assert_eq!(
        error(to(&["c"])),
        "invalid value 'c' for to of listener in: expected the name of an output: a, b"
    );
    let unwaited = "invalid value 'false' for required of listener in: expected true of one output \
                    at least that its messages go to";
    assert_eq!(error(to(&["a"])), unwaited);
    assert_eq!(error(to(&[])), unwaited);
    let alone = small::ingest().output(null("a").required(false));
    assert_eq!(error(alone.listener(listener())), unwaited);
}

/// As the program does, which has the same rules for tables.
#[test]
fn an_output_that_cannot_be_is_told_before_anything_starts() {
    let error = |output: Output| {
        let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
        let started = builder
            .output(Output::new("first", sink::Null))
            .output(output);
        started.start_outputs().unwrap_err().to_string()
    };
    let null = |name: &str| Output::new(name, sink::Null);
    for (name, shown) in [("", ""), ("a\nb", "a\\nb")] {
        let told = format!("invalid value '{shown}' for name: expected a name of one character");
        let found = error(null(name));
        assert!(found.starts_with(&told), "{found}");
    }
    assert_eq!(
        error(null("b").buffer_bytes(1)),
        "invalid value '1' for buffer_bytes: expected none for output b: what is required has no \
         buffer of its own"
    );
    let small = error(null("b").required(false).buffer_bytes(1));
    assert!(
        small.starts_with("invalid value '1' for buffer_bytes: expected at least ")
            && small.contains(" for output b: a message of max_message ("),
        "{small}"
    );
    let large = error(null("b").required(false).buffer_bytes(usize::MAX));
    assert!(
        large.ends_with("expected 4096 to 1099511627776 for output b"),
        "{large}"
    );
    #[cfg(feature = "redis")]
    {
        let redis = |host: &str, port, stream: &str, client: &str| {
            let redis = sink::Redis::new(host, port, stream).client_name(client);
            error(Output::new("b", redis))
        };
        for (found, what) in [
            (redis("", 1, "s", "c"), "a host of Redis"),
            (redis("a b", 1, "s", "c"), "a host of Redis"),
            (redis("h", 0, "s", "c"), "a port of Redis"),
            (redis("h", 1, "", "c"), "a stream of Redis"),
            (redis("h", 1, "s", "a b"), "a client_name of"),
        ] {
            let told = format!("invalid value 'b' for sink: expected {what} ");
            assert!(found.starts_with(&told), "{found}");
        }
    }
}
