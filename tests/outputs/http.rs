//! The HTTP output before a peer that answers well, badly, late, in part, or not at all: the ledger
//! closes, nothing counts as delivered that no answer accepted, and no end is held up.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client;
use crate::common::http_peer::{HttpPeer, Reply, Request, bulk_items};
use crate::common::ledger::assert_both_close;
pub(crate) use crate::common::ledger::wait_delivered;
use crate::common::port::free_port;
use crate::common::small;
use crate::common::wait::{DEADLINE, wait_until};
use crate::forward::wait_error;
use drainline::ingest::sink::{BulkAction, Dialect, Http, HttpOptions, SplunkFields};
use drainline::{DropReason, Report, Server};

/// Longer than a peer that answers takes, and short enough to be waited for.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(2);

pub(crate) fn start(options: HttpOptions) -> (Server, TcpStream) {
    let builder = small::ingest().listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(options.open().unwrap()).unwrap();
    let stream = client::connect(server.local_addrs()[0]);
    (server, stream)
}

pub(crate) fn send(stream: &mut TcpStream, range: std::ops::Range<u64>) {
    let lines: String = range.map(|nth| format!("message {nth}\n")).collect();
    stream.write_all(lines.as_bytes()).unwrap();
}

pub(crate) fn finish(server: Server, stream: TcpStream) -> Report {
    drop(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    report
}

pub(crate) fn refused(report: &Report) -> u64 {
    report.stats.dropped.get(DropReason::Refused)
}

fn bulk() -> Dialect {
    Dialect::Bulk {
        index: Some("logs".to_owned()),
        action: BulkAction::Create,
    }
}

/// What the peer answered with 200, by message.
fn accepted(peer: &HttpPeer, failed: &BTreeSet<usize>) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    let requests = peer.requests().into_iter();
    for request in requests.filter(|request| !failed.contains(&request.nth)) {
        for line in request.lines() {
            *all.entry(line).or_default() += 1;
        }
    }
    all
}

/// A name may have several addresses.
#[test]
fn a_server_that_is_away_is_told_with_the_address_that_was_tried() {
    let port = free_port();
    let (server, mut stream) = start(Http::to(&format!("http://localhost:{port}")));
    send(&mut stream, 0..1);
    let error = || server.report().outputs[0].last_error.clone();
    wait_until("a failure", DEADLINE, || error().is_some());
    let error = error().unwrap();
    assert!(
        error.starts_with("connecting to ") && error.contains(&format!(":{port} failed: ")),
        "{error}"
    );
    drop(stream);
    let report = server.shutdown(Duration::from_millis(100));
    assert_both_close(&report);
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 1);
}

/// Each fault is what two of the first requests meet; then all is well.
#[test]
fn nothing_counts_as_delivered_that_no_answer_has_accepted() {
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let after = |status, wait: &str| {
        Reply::Answer(status, format!("retry-after: {wait}\r\n"), String::new())
    };
    let faults: Vec<(&str, Reply)> = vec![
        ("500", Reply::status("500 Internal Server Error")),
        ("503", after("503 Service Unavailable", "1")),
        ("429", after("429 Too Many Requests", "1")),
        (
            "429, since long",
            after("429 Too Many Requests", "Sun, 06 Nov 1994 08:49:37 GMT"),
        ),
        ("429, unreadable", after("429 Too Many Requests", "soon")),
        ("401", Reply::status("401 Unauthorized")),
        ("403", Reply::status("403 Forbidden")),
        ("404", Reply::status("404 Not Found")),
        (
            "a redirect",
            Reply::Answer("302 Found", "location: /else\r\n".to_owned(), String::new()),
        ),
        ("no answer, and the end", Reply::Close),
        ("garbage", raw("\x16\x03\x01 this is no HTTP\r\n\r\n")),
        ("half a head", raw("HTTP/1.1 200 OK\r\ncontent-le")),
        (
            "half a body",
            raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf"),
        ),
        (
            "half a chunk",
            raw("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n50\r\nhalf"),
        ),
        ("a status that is none", raw("HTTP/1.1 999999 What\r\n\r\n")),
        ("no answer within the timeout", Reply::Never),
    ];
    thread::scope(|scope| {
        for (what, fault) in faults {
            scope.spawn(move || fails_twice(what, fault));
        }
    });
}

fn fails_twice(what: &str, fault: Reply) {
    let peer = HttpPeer::start(move |request| match request.nth {
        1 | 2 => fault.clone(),
        _ => Reply::ok(),
    });
    let options = Http::to(&peer.url()).requests(2).timeout(TIMEOUT);
    let (server, mut stream) = start(options.connect_timeout(TIMEOUT));
    for nth in 0..6 {
        send(&mut stream, nth * 50..nth * 50 + 50);
        // In requests of their own.
        wait_until("a request", DEADLINE, || peer.requests().len() as u64 > nth);
    }
    wait_delivered(&server, 300);
    let failures = server.report().sink.failures;
    assert!((1..=2).contains(&failures), "{what}: {failures}");
    let report = finish(server, stream);
    let accepted = accepted(&peer, &BTreeSet::from([1, 2]));
    let all: BTreeSet<_> = (0..300).map(|nth| format!("message {nth}")).collect();
    let found: BTreeSet<_> = accepted.keys().cloned().collect();
    assert_eq!(found, all, "{what}");
    assert!(
        accepted.values().all(|count| *count == 1),
        "{what}: {accepted:?}"
    );
    assert!(report.outputs[0].last_error.is_some(), "{what}");
    assert_eq!(
        (report.stats.delivered, refused(&report)),
        (300, 0),
        "{what}"
    );
}

#[test]
fn a_request_has_its_own_time_whatever_connecting_may_take() {
    let peer = HttpPeer::start(|request| match request.nth {
        0 => Reply::Never,
        _ => Reply::ok(),
    });
    let options = Http::to(&peer.url()).connect_timeout(Duration::from_secs(600));
    let (server, mut stream) = start(options.timeout(Duration::from_millis(100)));
    send(&mut stream, 0..1);
    wait_delivered(&server, 1);
    let report = finish(server, stream);
    let error = report.outputs[0].last_error.as_deref().unwrap();
    assert!(
        error.contains("no whole answer within 100ms (timeout)"),
        "{error}"
    );
}

/// Whoever closes a connection that was kept open cannot say so to a request that is on its way.
#[test]
fn a_connection_that_was_closed_meanwhile_is_no_failure() {
    let peer = HttpPeer::start(|_| Reply::AnswerAndClose("200 OK"));
    let (server, mut stream) = start(Http::to(&peer.url()).requests(1));
    for nth in 0..20 {
        send(&mut stream, nth..nth + 1);
        wait_delivered(&server, nth + 1);
    }
    assert_eq!(server.report().sink.failures, 0);
    finish(server, stream);
    assert_eq!(peer.connections(), 20);
}

/// The end comes after the request was sent: whether a connection is open cannot be known before.
#[test]
fn a_connection_that_closes_on_a_request_is_no_failure_if_it_was_kept_open() {
    let seen = Mutex::new(BTreeMap::<usize, u64>::new());
    let peer = HttpPeer::start(move |request| {
        let mut seen = seen.lock().unwrap();
        let of_connection = seen.entry(request.connection).or_default();
        *of_connection += 1;
        match *of_connection {
            1 => Reply::ok(),
            _ => Reply::Close,
        }
    });
    let (server, mut stream) = start(Http::to(&peer.url()).requests(1));
    for nth in 0..20 {
        send(&mut stream, nth..nth + 1);
        wait_delivered(&server, nth + 1);
    }
    assert_eq!(server.report().sink.failures, 0);
    finish(server, stream);
    // Each but the first was sent twice.
    assert_eq!((peer.requests().len(), peer.connections()), (39, 20));
}

#[test]
fn connections_are_kept_open_and_there_are_no_more_than_requests_at_once() {
    let peer = HttpPeer::start(|_| Reply::ok());
    let (server, mut stream) = start(Http::to(&peer.url()).requests(3).linger(Duration::ZERO));
    for nth in 0..50 {
        send(&mut stream, nth..nth + 1);
        wait_delivered(&server, nth + 1);
    }
    assert!(peer.connections() <= 3, "{}", peer.connections());
    finish(server, stream);
    wait_until("all connections closed", DEADLINE, || peer.open() == 0);
}

/// None is answered before all have come, and then in the wrong order.
#[test]
fn several_requests_are_on_their_way_and_are_answered_in_any_order() {
    let (arrived, turn) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(3)));
    let peer = HttpPeer::start({
        let arrived = Arc::clone(&arrived);
        move |request| {
            if request.nth < 4 {
                arrived.fetch_add(1, Ordering::Relaxed);
                let begun = Instant::now();
                let is_next = || {
                    let have_all = arrived.load(Ordering::Relaxed) == 4;
                    have_all && turn.load(Ordering::Relaxed) == request.nth
                };
                while !is_next() && begun.elapsed() < DEADLINE {
                    thread::sleep(Duration::from_millis(1));
                }
                turn.store(request.nth.wrapping_sub(1), Ordering::Relaxed);
            }
            Reply::ok()
        }
    });
    let (server, mut stream) = start(Http::to(&peer.url()).linger(Duration::ZERO));
    for nth in 0..4 {
        send(&mut stream, nth..nth + 1);
        // Else a sink that gets no processor puts several into one request.
        wait_until("a request of its own", DEADLINE, || {
            arrived.load(Ordering::Relaxed) as u64 == nth + 1
        });
    }
    send(&mut stream, 4..8);
    wait_delivered(&server, 8);
    assert_eq!(server.report().sink.failures, 0);
    finish(server, stream);
}

#[test]
fn one_request_at_a_time_keeps_the_order_through_failures() {
    let peer = HttpPeer::start(|request| match request.nth % 3 {
        1 => Reply::status("503 Service Unavailable"),
        _ => Reply::ok(),
    });
    // Bodies of a hundred messages: while one fails, others are there to be sent.
    let options = Http::to(&peer.url()).requests(1).body_bytes(1 << 10);
    let (server, mut stream) = start(options);
    send(&mut stream, 0..1000);
    wait_delivered(&server, 1000);
    finish(server, stream);
    let requests = peer
        .requests()
        .into_iter()
        .filter(|request| request.nth % 3 != 1);
    let lines: Vec<_> = requests.flat_map(|request| request.lines()).collect();
    let expected: Vec<_> = (0..1000).map(|nth| format!("message {nth}")).collect();
    assert_eq!(lines, expected);
}

/// The documents of a body of `_bulk`.
fn documents(request: &Request) -> Vec<String> {
    let lines = request.lines();
    let pairs = lines.chunks(2);
    pairs
        .map(|pair| {
            assert_eq!(pair[0], r#"{"create":{"_index":"logs"}}"#);
            let document: serde_json::Value = serde_json::from_str(&pair[1]).unwrap();
            document["message"].as_str().unwrap().to_owned()
        })
        .collect()
}

fn bulk_answer(statuses: &[u16]) -> Reply {
    Reply::Answer("200 OK", String::new(), bulk_items(statuses))
}

/// Each tenth document is answered with 429 at first, each seventh never accepted.
#[test]
fn of_a_bulk_request_only_what_failed_is_sent_again() {
    let seen = Mutex::new(BTreeSet::new());
    let indexed = Arc::new(Mutex::new(Vec::new()));
    let peer = HttpPeer::start({
        let indexed = Arc::clone(&indexed);
        move |request| {
            let (mut seen, mut indexed) = (seen.lock().unwrap(), indexed.lock().unwrap());
            let statuses: Vec<u16> = documents(request)
                .into_iter()
                .map(|document| {
                    let number: u64 = document["message ".len()..].parse().unwrap();
                    match number {
                        _ if number % 7 == 3 => 400,
                        _ if number.is_multiple_of(10) && seen.insert(number) => 429,
                        _ => {
                            indexed.push(number);
                            201
                        }
                    }
                })
                .collect();
            bulk_answer(&statuses)
        }
    });
    let (server, mut stream) = start(Http::to(&peer.url()).dialect(bulk()).requests(2));
    send(&mut stream, 0..500);
    let expected: Vec<u64> = (0..500).filter(|number| number % 7 != 3).collect();
    wait_delivered(&server, expected.len() as u64);
    let report = finish(server, stream);
    assert_eq!(refused(&report), 500 - expected.len() as u64);
    let mut indexed = indexed.lock().unwrap().clone();
    indexed.sort_unstable();
    assert_eq!(indexed, expected, "each once");
    assert!(
        peer.requests()[0]
            .head
            .starts_with("POST /_bulk?filter_path=errors,")
    );
}

/// A body of so many bytes is too large: halves of it are not, at last.
#[test]
fn a_body_that_is_too_large_is_sent_in_halves() {
    const MOST: usize = 300;
    let peer = HttpPeer::start(|request| match request.body.len() > MOST {
        true => Reply::status("413 Content Too Large"),
        false => Reply::ok(),
    });
    let (server, mut stream) = start(Http::to(&peer.url()).requests(2));
    send(&mut stream, 0..100);
    let long = format!("{}\n", "long ".repeat(100));
    stream.write_all(long.as_bytes()).unwrap();
    send(&mut stream, 100..200);
    wait_delivered(&server, 200);
    let report = finish(server, stream);
    assert_eq!(refused(&report), 1, "the long one");
    let requests = peer.requests().into_iter();
    let small = requests.filter(|request| request.body.len() <= MOST);
    let lines: BTreeSet<_> = small.flat_map(|request| request.lines()).collect();
    assert_eq!(lines.len(), 200);
}

#[test]
fn splunk_refuses_one_event_and_takes_those_before_it() {
    let indexed = Arc::new(Mutex::new(Vec::new()));
    let peer = HttpPeer::start({
        let indexed = Arc::clone(&indexed);
        move |request| {
            assert_eq!(request.header("authorization"), Some("Splunk token"));
            let mut indexed = indexed.lock().unwrap();
            for (nth, line) in request.lines().iter().enumerate() {
                let event: serde_json::Value = serde_json::from_str(line).unwrap();
                let event = match &event["event"] {
                    serde_json::Value::String(text) => text,
                    object => object["message"].as_str().unwrap(),
                };
                let is_blank_text = line.contains(r#""event":"""#);
                if event == "poison" || is_blank_text {
                    let told = format!(
                        r#"{{"text":"Invalid data format","code":6,"invalid-event-number":{nth}}}"#
                    );
                    return Reply::Answer("400 Bad Request", String::new(), told);
                }
                indexed.push(event.to_owned());
            }
            let told = r#"{"text":"Success","code":0}"#;
            Reply::Answer("200 OK", String::new(), told.to_owned())
        }
    });
    let options = Http::to(&peer.url()).dialect(Dialect::Splunk(SplunkFields::default()));
    let (server, mut stream) = start(options.token("token").requests(1));
    send(&mut stream, 0..100);
    // A blank line is no string to Splunk, but an event, too.
    stream.write_all(b"poison\n\n").unwrap();
    send(&mut stream, 100..200);
    wait_delivered(&server, 201);
    let report = finish(server, stream);
    assert_eq!(refused(&report), 1);
    let mut expected: Vec<_> = (0..200).map(|nth| format!("message {nth}")).collect();
    expected.insert(100, String::new());
    assert_eq!(*indexed.lock().unwrap(), expected, "each once, in order");
    assert!(
        peer.requests()[0]
            .head
            .starts_with("POST /services/collector/event ")
    );
}

/// A body without an end, whose status is 200: it is not whole, however much of it comes in time.
#[test]
fn an_answer_without_an_end_is_none() {
    let head = "HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n";
    let endless = [head.as_bytes(), &[b' '; 17 << 20]].concat();
    let peer = HttpPeer::start(move |_| Reply::RawAndNever(endless.clone()));
    let (server, mut stream) = start(Http::to(&peer.url()).timeout(DEADLINE));
    send(&mut stream, 0..10);
    wait_until("it is told", DEADLINE, || {
        let report = server.report();
        let error = report.outputs[0].last_error.as_deref().unwrap_or_default();
        error.contains("more than 16 MiB")
    });
    drop(stream);
    let report = server.shutdown(Duration::from_millis(500));
    assert_eq!(report.stats.delivered, 0, "{report:?}");
    assert_both_close(&report);
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), 10);
}

#[test]
fn loki_gets_the_same_entry_again_when_it_did_not_answer() {
    let peer = HttpPeer::start(|request| match request.nth {
        0 => Reply::Close,
        _ => Reply::status("204 No Content"),
    });
    let labels = vec![("job".to_owned(), "drainline".to_owned())];
    let (server, mut stream) = start(Http::to(&peer.url()).dialect(Dialect::Loki { labels }));
    stream.write_all(b"same\nsame\n").unwrap();
    wait_delivered(&server, 2);
    finish(server, stream);
    let values = |request: &Request| {
        let body: serde_json::Value = serde_json::from_slice(&request.body).unwrap();
        let values = body["streams"][0]["values"].as_array().unwrap().clone();
        values
            .iter()
            .map(ToString::to_string)
            .collect::<BTreeSet<_>>()
    };
    let all: Vec<_> = peer.requests().iter().map(values).collect();
    assert!(
        peer.requests()[0]
            .head
            .starts_with("POST /loki/api/v1/push ")
    );
    // Both are in each, or one of them alone in one, and they differ in their times.
    let union: BTreeSet<_> = all.iter().flatten().collect();
    assert_eq!(union.len(), 2, "{all:?}");
}

#[test]
fn a_name_that_has_no_address_is_told() {
    let (server, mut stream) = start(Http::to("http://nosuch.invalid"));
    send(&mut stream, 0..1);
    wait_error(&server, "nosuch.invalid could not be resolved: ");
    assert!(server.shutdown(Duration::from_secs(1)).is_balanced());
}

#[test]
fn what_is_refused_is_set_aside_up_to_a_limit() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("refused");
    let peer = HttpPeer::start(|request| {
        let documents = documents(request).len();
        bulk_answer(&vec![400; documents])
    });
    let options = Http::to(&peer.url()).dialect(bulk()).refused_to(&path, 60);
    let (server, mut stream) = start(options);
    // 10 bytes each, with their line feeds.
    send(&mut stream, 0..10);
    wait_until("all answered", DEADLINE, || {
        let stats = server.stats();
        stats.delivered + stats.dropped.get(DropReason::Refused) == 10
    });
    let report = finish(server, stream);
    assert_eq!((report.stats.delivered, refused(&report)), (6, 4));
    let expected: String = (0..6).map(|nth| format!("message {nth}\n")).collect();
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

/// The server says what it was sent, in full.
#[test]
fn secrets_are_shown_nowhere() {
    let peer = HttpPeer::start(|request| {
        let told = request.header("authorization").unwrap().to_owned();
        Reply::Answer(
            "401 Unauthorized",
            String::new(),
            format!("no: {told} hunter2 tok3n"),
        )
    });
    let login = Http::to(&peer.url()).basic_auth("user", "hunter2");
    let token = Http::to(&peer.url()).token("tok3n");
    for options in [login, token] {
        assert!(!format!("{options:?}").contains("hunter2"));
        let sink = options.clone().open().unwrap();
        let shown = format!("{sink:?} {}", drainline::ingest::Sink::name(&sink));
        let (server, mut stream) = start(options);
        send(&mut stream, 0..1);
        wait_until("a failure", DEADLINE, || server.report().sink.failures > 0);
        drop(stream);
        let report = server.shutdown(Duration::from_millis(100));
        let error = report.outputs[0].last_error.clone().unwrap();
        assert!(
            error.contains("it answers 401 Unauthorized: no: "),
            "{error}"
        );
        let login = "dXNlcjpodW50ZXIy";
        let secrets = match error.contains("Basic ***") {
            true => ["hunter2", login],
            false => ["tok3n", "tok3n"],
        };
        for secret in secrets {
            let all = format!("{shown} {error} {report:?}");
            assert!(!all.contains(secret), "{all}");
        }
    }
}

/// A body that is not full waits, though not for long, and not while somebody waits for the buffer.
#[test]
fn a_body_that_gathers_lets_no_sender_wait() {
    let mut config = small::config();
    config.buffer_messages = 8;
    let peer = HttpPeer::start(|_| Reply::ok());
    let options = Http::to(&peer.url()).linger(HttpOptions::MAX_LINGER);
    let builder = small::ingest().config(config);
    let builder = builder.listen("127.0.0.1:0".parse().unwrap());
    let server = builder.start(options.open().unwrap()).unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    // 250 bodies: with a second for each, this would take longer than the deadline.
    send(&mut stream, 0..2000);
    wait_delivered(&server, 2000);
    finish(server, stream);
    let requests = peer.requests();
    assert!(requests.len() >= 250, "{}", requests.len());
}

/// With a message alone, there is nothing else to end the wait.
#[test]
fn a_message_alone_is_sent_when_it_has_lingered() {
    let peer = HttpPeer::start(|_| Reply::ok());
    let linger = Duration::from_millis(700);
    let (server, mut stream) = start(Http::to(&peer.url()).linger(linger));
    let begun = Instant::now();
    send(&mut stream, 0..1);
    wait_delivered(&server, 1);
    assert!(begun.elapsed() >= linger, "{:?}", begun.elapsed());
    finish(server, stream);
}
