//! The HTTP output before a peer that fails for a while, or takes few requests: its bodies stay as
//! they are, since a peer that is limited in requests would get more of them.

use std::time::Duration;

use crate::common::http_peer::{HttpPeer, Reply};
use crate::http::{finish, send, start, wait_delivered};
use drainline::ingest::sink::Http;

#[test]
fn what_fails_for_a_while_stays_in_one_body() {
    for fault in ["401 Unauthorized", "503 Service Unavailable"] {
        const FAULTS: usize = 5;
        let peer = HttpPeer::start(move |request| match request.nth < FAULTS {
            true => Reply::status(fault),
            false => Reply::ok(),
        });
        let linger = Duration::from_millis(500);
        let (server, mut stream) = start(Http::to(&peer.url()).requests(1).linger(linger));
        send(&mut stream, 0..100);
        wait_delivered(&server, 100);
        finish(server, stream);
        let requests = peer.requests().into_iter();
        let sizes: Vec<_> = requests.map(|request| request.body.len()).collect();
        assert_eq!(sizes, [sizes[0]; FAULTS + 1], "{fault}");
    }
}

#[test]
fn a_peer_that_takes_few_requests_gets_no_more_of_them() {
    const TAKEN: usize = 4;
    let peer = HttpPeer::start(|request| match request.nth % TAKEN == TAKEN - 1 {
        true => Reply::ok(),
        false => Reply::status("429 Too Many Requests"),
    });
    let (server, mut stream) = start(Http::to(&peer.url()).requests(2).body_bytes(4 << 10));
    send(&mut stream, 0..1000);
    wait_delivered(&server, 1000);
    finish(server, stream);
    let mut bodies: Vec<_> = peer.requests().into_iter().map(|it| it.body).collect();
    bodies.sort_unstable();
    bodies.dedup();
    // Another body for each half of one would have the same messages once more.
    let sent: usize = bodies.iter().map(Vec::len).sum();
    let messages = (0..1000).map(|nth| format!("message {nth}\n").len());
    assert_eq!(sent, messages.sum::<usize>(), "in {} bodies", bodies.len());
}
