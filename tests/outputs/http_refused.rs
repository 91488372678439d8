//! The HTTP output before a peer that refuses a body for a message in it: that message is lost, and
//! no other one, however many of its kind stand beside it; and what that costs has a limit.

use std::io::Write;
use std::thread;
use std::time::Duration;

use crate::common::http_peer::{HttpPeer, Reply, Request};
use crate::common::wait::{DEADLINE, wait_until};
use crate::http::{finish, refused, send, start};
use drainline::ingest::sink::{Dialect, Http, SplunkFields};
use drainline::{DropReason, Server};

/// Bodies are as full as they can be.
const LINGER: Duration = Duration::from_millis(200);

fn peer() -> HttpPeer {
    HttpPeer::start(|request| match request.text().contains("poison") {
        true => Reply::Answer("400 Bad Request", String::new(), "bad line".to_owned()),
        false => {
            let told = r#"{"text":"Success","code":0}"#.to_owned();
            Reply::Answer("200 OK", String::new(), told)
        }
    })
}

/// The numbers of the messages of a request, whatever stands around them.
fn numbers(request: &Request) -> Vec<u64> {
    let text = request.text();
    let messages = text.split("message ").skip(1);
    let digits = messages.map(|message| message.split(|char: char| !char.is_ascii_digit()).next());
    digits
        .map(|digits| digits.unwrap().parse().unwrap())
        .collect()
}

fn wait_answered(server: &Server, delivered: u64, refused: u64) {
    wait_until("messages answered", DEADLINE, || {
        let stats = server.stats();
        let dropped = stats.dropped.get(DropReason::Refused);
        (stats.delivered, dropped) == (delivered, refused)
    });
}

/// Sends good messages, and so many that are refused before those whose number is a multiple of
/// `every`: the good ones arrive, each once.
fn loses_no_good_one(dialect: Dialect, good: u64, every: u64, poisonous: u64) {
    let peer = peer();
    let what = format!("{dialect:?}");
    let options = Http::to(&peer.url()).dialect(dialect).token("token");
    let (server, mut stream) = start(options.requests(2).linger(LINGER));
    for first in (0..good).step_by(every as usize) {
        for _ in 0..poisonous {
            stream.write_all(b"poison\n").unwrap();
        }
        send(&mut stream, first..first + every);
    }
    let lost = good.div_ceil(every) * poisonous;
    wait_answered(&server, good, lost);
    let report = finish(server, stream);
    assert_eq!(refused(&report), lost);
    let requests = peer.requests();
    let accepted = requests
        .iter()
        .filter(|request| !request.text().contains("poison"));
    let mut arrived: Vec<_> = accepted.flat_map(numbers).collect();
    arrived.sort_unstable();
    assert!(arrived.iter().copied().eq(0..good), "{what}: {arrived:?}");
    assert!(requests.len() as u64 <= 2 * (good + lost), "{what}");
}

#[test]
fn a_message_that_is_refused_costs_no_other_one_in_any_dialect() {
    let label = ("job".to_owned(), "drainline".to_owned());
    let dialects = [
        Dialect::NdJson,
        Dialect::Loki {
            labels: vec![label],
        },
        Dialect::Splunk(SplunkFields::default()),
        Dialect::SplunkRaw(SplunkFields::default()),
    ];
    thread::scope(|scope| {
        for dialect in dialects {
            scope.spawn(|| loses_no_good_one(dialect, 300, 10, 1));
        }
    });
}

#[test]
fn many_that_are_refused_far_from_one_another_cost_no_other_one() {
    loses_no_good_one(Dialect::NdJson, 12_000, 200, 1);
}

/// Neither does a peer that has accepted nothing yet.
#[test]
fn many_that_are_refused_beside_one_another_cost_no_other_one() {
    loses_no_good_one(Dialect::NdJson, 100, 100, 500);
}

/// Each message is asked for alone, once, and there is one more request for each time that some
/// were halved.
#[test]
fn a_peer_that_refuses_everything_gets_two_requests_for_each_message_and_no_more() {
    for status in ["400 Bad Request", "413 Payload Too Large"] {
        let peer = HttpPeer::start(move |_| Reply::status(status));
        let (server, mut stream) = start(Http::to(&peer.url()).requests(1).linger(LINGER));
        send(&mut stream, 0..300);
        wait_answered(&server, 0, 300);
        finish(server, stream);
        let requests = peer.requests();
        let alone = requests.iter().filter(|request| request.lines().len() == 1);
        let alone: Vec<_> = alone.flat_map(numbers).collect();
        assert!(alone.iter().copied().eq(0..300), "{status}: {alone:?}");
        assert!(requests.len() < 600, "{status}: {}", requests.len());
    }
}
