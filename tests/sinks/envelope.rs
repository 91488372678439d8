//! The form in which an output gets messages: an envelope, a framing of its own. What a sink
//! answers to the pieces that it is given is told of the messages behind them, and never more is
//! rendered than the limits count.

use std::io::Write;
use std::net::TcpStream;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::{
    Batches, Envelope, Framing, IngestBuilder, Output, OutputFraming, Sink, SinkError, Template,
    sink,
};
use drainline::{DropReason, Listener, Server};
use serde_json::Value;

/// Keeps what it takes, and says how much lay before it.
struct Keep {
    kept: Arc<Mutex<Vec<u8>>>,
    most: Arc<Mutex<usize>>,
}

impl Sink for Keep {
    fn name(&self) -> String {
        "keep".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        // All that it may have at once.
        while batches.first().is_some() && batches.more(1000, Duration::ZERO) {
            let held = batches.batches().count();
            let bytes: usize = batches.batches().map(|batch| batch.as_bytes().len()).sum();
            let mut most = self.most.lock().unwrap();
            *most = bytes.max(*most);
            drop(most);
            if batches.more(1000, Duration::from_millis(20)) && batches.batches().count() > held {
                continue;
            }
            while let Some(batch) = batches.first() {
                self.kept.lock().unwrap().extend(batch.as_bytes());
                batches.ack();
            }
        }
        Ok(())
    }
}

fn kept(builder: IngestBuilder, form: impl Fn(Output) -> Output, bytes: &[u8]) -> (Vec<u8>, usize) {
    let (kept, most) = (Arc::default(), Arc::default());
    let sink = Keep {
        kept: Arc::clone(&kept),
        most: Arc::clone(&most),
    };
    let listener = Listener::on("127.0.0.1:0".parse().unwrap()).named("in");
    let builder = builder
        .listener(listener)
        .output(form(Output::new("out", sink)));
    let server = builder.start_outputs().unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    stream.write_all(bytes).unwrap();
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    assert_eq!(&*report.outputs[0].name, "out");
    let kept = std::mem::take(&mut *kept.lock().unwrap());
    let most = *most.lock().unwrap();
    (kept, most)
}

#[test]
fn each_message_is_an_object_that_says_where_it_came_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let output = Output::new("log", sink::File::open(&path).unwrap()).envelope(Envelope::Json);
    let server = small::ingest()
        .framing(Framing::OctetCounted)
        .listener(Listener::on("127.0.0.1:0".parse().unwrap()).named("in"))
        .output(output)
        .start_outputs()
        .unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    let peer = stream.local_addr().unwrap().to_string();
    let before = SystemTime::now();
    stream.write_all(b"3 one7 two\nt\"o0 2 \xff\n").unwrap();
    client::half_close(stream);
    wait_until("all delivered", DEADLINE, || server.stats().delivered == 4);
    let after = SystemTime::now();
    assert_both_close(&server.shutdown(DEADLINE));
    let text = std::fs::read_to_string(path).unwrap();
    let objects: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let messages: Vec<_> = objects
        .iter()
        .map(|object| {
            (
                object["message"].as_str(),
                object["message_base64"].as_str(),
            )
        })
        .collect();
    let expected = [
        (Some("one"), None),
        (Some("two\nt\"o"), None),
        (Some(""), None),
        (None, Some("/wo=")),
    ];
    assert_eq!(messages, expected);
    for object in &objects {
        assert_eq!(object["listener"], "in");
        assert_eq!(object["peer"], *peer);
        assert_eq!(
            (&object["connection"], object.get("name")),
            (&1.into(), None)
        );
        let received = object["received"].as_str().unwrap();
        let received = time_of(received);
        // Microseconds are cut off.
        let slack = Duration::from_micros(1);
        assert!(
            before <= received + slack && received <= after,
            "{received:?}"
        );
    }
}

#[test]
fn another_framing_is_that_of_the_output_alone() {
    let octets = |output: Output| output.framing(OutputFraming::OctetCounted);
    let template: Template = "<{message}>".parse().unwrap();
    let both = |output| octets(output).envelope(Envelope::Template(template.clone()));
    for (expected, framing) in [("1 a2 bc0 ", Framing::Lines), ("1 a2 bc0 ", Framing::Nul)] {
        let bytes = match framing {
            Framing::Nul => "a\0bc\0\0",
            _ => "a\nbc\n\n",
        };
        let (out, _) = kept(small::ingest().framing(framing), octets, bytes.as_bytes());
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
    let (out, _) = kept(small::ingest(), both, b"a\nbc\n\n");
    assert_eq!(String::from_utf8(out).unwrap(), "3 <a>4 <bc>2 <>");
}

/// A message may hold what ends one: the pieces know better.
#[test]
fn a_rendered_message_that_holds_the_delimiter_is_one() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    struct Each(Arc<Mutex<Vec<String>>>);
    impl Sink for Each {
        fn name(&self) -> String {
            "each".to_owned()
        }

        fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
            while let Some(batch) = batches.first() {
                let texts = batch
                    .iter()
                    .map(|message| String::from_utf8(message.to_vec()));
                self.0.lock().unwrap().extend(texts.map(Result::unwrap));
                batches.ack();
            }
            Ok(())
        }
    }
    let template: Template = "{{{message}}}\n{listener}".parse().unwrap();
    let output = Output::new("each", Each(Arc::clone(&seen)));
    let server = small::ingest()
        .framing(Framing::OctetCounted)
        .listener(Listener::on("127.0.0.1:0".parse().unwrap()).named("in"))
        .output(output.envelope(Envelope::Template(template)))
        .start_outputs()
        .unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    stream.write_all(b"3 o\ne3 two").unwrap();
    client::half_close(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    assert_eq!(*seen.lock().unwrap(), ["{o\ne}\nin", "{two}\nin"]);
}

/// Each control character becomes six bytes, and the buffer holds far more than may be rendered.
#[test]
fn no_more_is_rendered_than_the_limits_count() {
    const LONGEST: usize = 64 << 10;
    let lines: Vec<Vec<u8>> = (0..400usize)
        .map(|nth| vec![1 + (nth % 8) as u8; if nth % 3 == 0 { LONGEST } else { nth * 20 }])
        .collect();
    let bytes = [lines.join(&b'\n'), b"\n".to_vec()].concat();
    let json = |output: Output| output.envelope(Envelope::Json);
    let (out, most) = kept(small::ingest(), json, &bytes);
    let out = String::from_utf8(out).unwrap();
    let messages: Vec<_> = out
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|object| object["message"].as_str().unwrap().as_bytes().to_vec())
        .collect();
    assert!(messages == lines, "{} of {}", messages.len(), lines.len());
    let enough = (4 << 20) + 6 * LONGEST + (72 << 10);
    assert!(most <= enough, "{most} bytes lay there, at most {enough}");
    assert!(
        most > 3 << 20,
        "{most} bytes lay there: the test shows little"
    );
}

/// Takes what its sender says of the pieces that it holds: how many messages of which one.
struct Told {
    answers: mpsc::Receiver<(usize, u64, bool)>,
}

impl Sink for Told {
    fn name(&self) -> String {
        "told".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while batches.first().is_some() && batches.more(8, Duration::from_millis(1)) {
            let held = batches.batches().count();
            let Ok((at, messages, is_refused)) = self.answers.try_recv() else {
                continue;
            };
            let number = batches.first_number() + (at % held.max(1)) as u64;
            match is_refused {
                true => batches.refuse_at(number, messages),
                false => batches.ack_at(number, messages),
            }
        }
        Ok(())
    }
}

/// A server with such a sink behind JSON, a client of it, and who tells the sink.
fn start_told() -> (Server, TcpStream, mpsc::Sender<(usize, u64, bool)>) {
    let (answer, answers) = mpsc::channel();
    let output = Output::new("told", Told { answers }).envelope(Envelope::Json);
    let server = small::ingest()
        .listen("127.0.0.1:0".parse().unwrap())
        .output(output)
        .start_outputs()
        .unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream, answer)
}

/// Whatever order pieces are answered in, each message is counted once, and none is left.
#[test]
fn what_is_answered_of_pieces_is_counted_of_the_messages_behind_them() {
    const MESSAGES: u64 = 3000;
    let (server, mut stream, answer) = start_told();
    let lines: Vec<_> = (0..MESSAGES)
        .map(|nth| vec![b'x'; nth as usize % 700])
        .collect();
    stream.write_all(&lines.join(&b'\n')).unwrap();
    stream.write_all(b"\n").unwrap();
    client::half_close(stream);
    let mut random = 1u64;
    wait_until("all answered", DEADLINE, || {
        for _ in 0..20 {
            random = random
                .wrapping_mul(6364136223846793005)
                .wrapping_add(1442695040888963407);
            let word = random >> 33;
            let messages = if word.is_multiple_of(5) {
                u64::MAX
            } else {
                word / 5 % 50
            };
            answer
                .send((word as usize / 400, messages, word.is_multiple_of(7)))
                .unwrap();
        }
        let report = server.report();
        assert!(report.is_balanced(), "{report:?}");
        let stats = report.stats;
        stats.received == MESSAGES && stats.in_flight == 0
    });
    let report = server.shutdown(DEADLINE);
    let refused = report.stats.dropped.get(DropReason::Refused);
    assert!(refused > 0 && report.stats.delivered > 0, "{report:?}");
    assert_eq!(report.stats.delivered + refused, MESSAGES);
    assert_eq!(report.stats.buffered.bytes, 0);
}

/// What is not answered at the end is lost, rendered or not; a piece that is answered is delivered
/// before the others are.
#[test]
fn what_is_rendered_and_not_answered_is_dropped_at_the_end() {
    let (server, mut stream, answer) = start_told();
    stream.write_all(&[b'\n'; 5000]).unwrap();
    wait_until("all received", DEADLINE, || server.stats().received == 5000);
    answer.send((0, u64::MAX, false)).unwrap();
    wait_until("a piece delivered", DEADLINE, || {
        server.stats().delivered > 0
    });
    let report = server.shutdown(Duration::from_millis(500));
    assert!(report.is_balanced(), "{report:?}");
    let (stats, shutdown) = (&report.stats, DropReason::Shutdown);
    assert!(stats.delivered < 1000, "{report:?}");
    assert_eq!(stats.delivered + stats.dropped.get(shutdown), 5000);
}

#[test]
fn outputs_that_cannot_be_are_told_and_those_that_render_are_counted() {
    fn listening() -> IngestBuilder {
        small::ingest().listen("127.0.0.1:0".parse().unwrap())
    }
    let null = |name: &str| Output::new(name, sink::Null);
    let error = |builder: IngestBuilder| builder.start_outputs().unwrap_err().to_string();
    assert_eq!(
        error(listening()),
        "invalid value '0' for outputs: expected at least one"
    );
    assert_eq!(
        error(listening().output(null("a")).output(null("a"))),
        "invalid value 'a' for name: expected a name that no other output has"
    );
    let mut config = small::config();
    config.buffer_bytes = 2 << 30;
    let long = listening().config(config).max_message(1 << 30);
    assert_eq!(
        error(long.output(null("a").envelope(Envelope::Json))),
        "invalid value '1073741824' for max_message: expected so much that the envelope of output \
         a makes less than 4 GiB of it"
    );
    let limits = |output: Output| {
        let (limits, _) = listening().output(output).check().unwrap();
        limits.memory_bytes
    };
    let raw = limits(null("a"));
    assert!(limits(null("a").envelope(Envelope::Json)) >= raw + (4 << 20) + ((6 * 64) << 10));
    // Whatever the framing of the one output is, handlers make batches of it.
    let nul = listening().output_framing(OutputFraming::Nul);
    let (nul, _) = nul.output(null("a")).check().unwrap();
    let own = limits(null("a").framing(OutputFraming::Nul));
    assert_eq!(own, nul.memory_bytes);
}

/// Of today's, `2026-11-29T11:40:00.123456Z`: by the second of its day.
fn time_of(text: &str) -> SystemTime {
    let number = |at: std::ops::Range<usize>| text[at].parse::<u64>().unwrap();
    let second = number(11..13) * 3600 + number(14..16) * 60 + number(17..19);
    let day = Duration::from_secs(86_400);
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap();
    let midnight = now.as_secs() / day.as_secs() * day.as_secs();
    let mut since = Duration::from_secs(midnight + second) + Duration::from_micros(number(20..26));
    if since > now + day / 2 {
        // Midnight has passed since.
        since -= day;
    }
    SystemTime::UNIX_EPOCH + since
}
