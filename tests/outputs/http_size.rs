//! The HTTP output before a peer that takes less at once than a body has, and does not say so: it
//! answers that it failed, that it is busy, or not at all, to each body that is too large for it.

use std::thread;
use std::time::Duration;

use crate::common::http_peer::{HttpPeer, Reply, Request};
use crate::http::{finish, send, start, wait_delivered};
use drainline::ingest::sink::{BulkAction, Dialect, Http};

/// A body of ten messages or so.
const MOST: usize = 150;
/// Long enough for a peer that answers, and waited for some ten times.
const TIMEOUT: Duration = Duration::from_millis(500);

fn sizes(peer: &HttpPeer) -> Vec<usize> {
    let requests = peer.requests().into_iter();
    requests.map(|request| request.body.len()).collect()
}

fn takes_it_in_parts(what: &str, fault: Reply) {
    let peer = HttpPeer::start(move |request| match request.body.len() > MOST {
        true => fault.clone(),
        false => Reply::ok(),
    });
    let options = Http::to(&peer.url()).requests(2).timeout(TIMEOUT);
    let (server, mut stream) = start(options);
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    finish(server, stream);
    let requests = peer.requests().into_iter();
    let small = requests.filter(|request| request.body.len() <= MOST);
    let mut lines: Vec<_> = small.flat_map(|request| request.lines()).collect();
    lines.sort_unstable();
    let mut all: Vec<_> = (0..100).map(|nth| format!("message {nth}")).collect();
    all.sort_unstable();
    assert_eq!(lines, all, "{what}");
}

#[test]
fn what_a_peer_cannot_take_at_once_is_sent_in_halves_whatever_it_says() {
    let limit = "Ingestion rate limit exceeded while attempting to ingest '100' lines";
    let grpc = "rpc error: code = ResourceExhausted desc = grpc: received message larger than max";
    let answer = |status, body: &str| Reply::Answer(status, String::new(), body.to_owned());
    let faults = [
        ("429", answer("429 Too Many Requests", limit)),
        ("500", answer("500 Internal Server Error", grpc)),
        ("504", Reply::status("504 Gateway Timeout")),
        ("no answer", Reply::Never),
        ("a connection that is closed", Reply::Close),
    ];
    thread::scope(|scope| {
        for (what, fault) in faults {
            scope.spawn(move || takes_it_in_parts(what, fault));
        }
    });
}

/// The documents of one request share a queue that has room for ten.
#[test]
fn documents_that_are_rejected_together_are_sent_in_halves() {
    let documents = |request: &Request| request.lines().len() / 2;
    let peer = HttpPeer::start(move |request| {
        let item = match documents(request) > 10 {
            true => r#"{"create":{"status":429,"error":{"type":"kind","reason":"why"}}}"#,
            false => r#"{"create":{"status":201}}"#,
        };
        let items = vec![item; documents(request)].join(",");
        let body = format!(r#"{{"errors":true,"items":[{items}]}}"#);
        Reply::Answer("200 OK", String::new(), body)
    });
    let dialect = Dialect::Bulk {
        index: Some("logs".to_owned()),
        action: BulkAction::Create,
    };
    let (server, mut stream) = start(Http::to(&peer.url()).dialect(dialect).requests(2));
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    finish(server, stream);
}

/// What is no matter of size stays in one body: a login that is wrong, and a server that was away
/// for a moment.
#[test]
fn what_less_at_once_does_not_mend_stays_whole() {
    for (fault, faults) in [("401 Unauthorized", 5), ("503 Service Unavailable", 1)] {
        let peer = HttpPeer::start(move |request| match request.nth < faults {
            true => Reply::status(fault),
            false => Reply::ok(),
        });
        let linger = Duration::from_millis(500);
        let (server, mut stream) = start(Http::to(&peer.url()).requests(1).linger(linger));
        send(&mut stream, 0..100);
        wait_delivered(&server, 100);
        finish(server, stream);
        let sizes = sizes(&peer);
        let whole = vec![sizes[0]; faults + 1];
        assert_eq!(sizes, whole, "{fault}");
    }
}

/// A server that was away for long gets a few small requests first, and no flood of them.
#[test]
fn an_outage_costs_a_few_small_requests_more() {
    const FAULTS: usize = 5;
    let peer = HttpPeer::start(|request| match request.nth < FAULTS {
        true => Reply::status("503 Service Unavailable"),
        false => Reply::ok(),
    });
    let linger = Duration::from_millis(500);
    let (server, mut stream) = start(Http::to(&peer.url()).requests(1).linger(linger));
    send(&mut stream, 0..100);
    wait_delivered(&server, 100);
    finish(server, stream);
    let sizes = sizes(&peer);
    // One more for each time that the first of them was halved.
    assert!(sizes[FAULTS] <= 100, "{sizes:?}");
    assert!(sizes.len() <= FAULTS + 1 + 4, "{sizes:?}");
}
