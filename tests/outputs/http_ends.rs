//! The end before an HTTP peer that never answers, accepts, shakes hands or is ready: it comes in
//! time.

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::common::certificates::Certificates;
use crate::common::client;
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::ledger::assert_both_close;
use crate::common::small;
use crate::common::wait::{DEADLINE, stays, wait_until};
use crate::http::{send, start};
use drainline::ingest::sink::Http;
use drainline::{DropReason, Server, TlsClient};

/// Four connections are in each state that a wait can be in, and the drain has half a second.
#[test]
fn a_peer_that_never_answers_does_not_hold_up_the_end() {
    let half = b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf".to_vec();
    for fault in [Reply::Never, Reply::RawAndNever(half)] {
        let peer = HttpPeer::start(move |_| fault.clone());
        let (server, mut stream) = start(Http::to(&peer.url()).timeout(Duration::from_secs(600)));
        send(&mut stream, 0..10);
        wait_until("a request", DEADLINE, || !peer.requests().is_empty());
        ends_in_time(server, stream, 10);
        wait_until("its connections closed", DEADLINE, || peer.open() == 0);
    }
}

#[test]
fn a_peer_that_does_not_accept_or_shake_hands_does_not_hold_up_the_end() {
    // Nobody accepts, and the kernel shakes hands: a request goes nowhere, and so does TLS.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = deaf.local_addr().unwrap();
    let certificates = Certificates::new();
    let tls = TlsClient::new().ca_file(certificates.authority());
    for scheme in ["http", "https"] {
        let options = Http::to(&format!("{scheme}://{address}")).tls(tls.clone());
        let long = Duration::from_secs(600);
        let (server, mut stream) = start(options.timeout(long).connect_timeout(long));
        send(&mut stream, 0..10);
        wait_until("the messages taken", DEADLINE, || {
            server.report().outputs[0].unanswered == 10
        });
        ends_in_time(server, stream, 10);
        // Whoever still waited for an answer would keep this open.
        let (mut open, _) = deaf.accept().unwrap();
        open.set_read_timeout(Some(DEADLINE)).unwrap();
        let outcome = open.read_to_end(&mut Vec::new());
        assert!(outcome.is_ok(), "{scheme}: {outcome:?}");
    }
}

fn ends_in_time(server: Server, stream: TcpStream, messages: u64) {
    drop(stream);
    let begun = Instant::now();
    let report = server.shutdown(Duration::from_millis(500));
    assert!(begun.elapsed() < DEADLINE, "{:?}", begun.elapsed());
    assert!(report.is_balanced(), "{report:?}");
    // Nothing but the drain's deadline has ended what was waited for, and nothing was tried again.
    assert_eq!(report.sink.failures, 0, "{report:?}");
    assert_eq!(report.outputs[0].last_error, None);
    assert_eq!(report.stats.dropped.get(DropReason::Shutdown), messages);
    assert_eq!(report.stats.delivered, 0);
}

/// It asks for an hour, until it is told to be busy no more.
fn busy_peer() -> (HttpPeer, Arc<AtomicBool>) {
    let is_busy = Arc::new(AtomicBool::new(true));
    let peer = HttpPeer::start({
        let is_busy = Arc::clone(&is_busy);
        move |_| match is_busy.load(Ordering::Relaxed) {
            true => Reply::Answer(
                "429 Too Many Requests",
                "retry-after: 3600\r\n".to_owned(),
                String::new(),
            ),
            false => Reply::ok(),
        }
    });
    (peer, is_busy)
}

/// A last try is made in the drain, though the server asked for a minute.
#[test]
fn a_drain_does_not_wait_for_as_long_as_it_was_asked_to() {
    let (peer, is_busy) = busy_peer();
    let (server, mut stream) = start(Http::to(&peer.url()));
    send(&mut stream, 0..10);
    wait_until("a failure", DEADLINE, || server.report().sink.failures > 0);
    let asked = peer.requests().len();
    stays("no request", Duration::from_secs(1), || {
        peer.requests().len() == asked
    });
    is_busy.store(false, Ordering::Relaxed);
    drop(stream);
    // Less than the minute for which it is obeyed.
    let report = server.shutdown(Duration::from_secs(30));
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 10);
}

/// Whoever waits for the buffer has three quarters of the drain's time, and a try is made for them
/// before that is over.
#[test]
fn a_drain_delivers_what_did_not_fit_into_the_buffer() {
    let (peer, is_busy) = busy_peer();
    let mut config = small::config();
    config.buffer_messages = 10;
    let sink = Http::to(&peer.url()).open().unwrap();
    let listening = small::ingest().listen("127.0.0.1:0".parse().unwrap());
    let server = listening.config(config).start(sink).unwrap();
    let mut stream = client::connect(server.local_addrs()[0]);
    send(&mut stream, 0..100);
    wait_until("a failure", DEADLINE, || server.report().sink.failures > 0);
    is_busy.store(false, Ordering::Relaxed);
    drop(stream);
    let report = server.shutdown(Duration::from_secs(30));
    assert_both_close(&report);
    assert_eq!(report.stats.delivered, 100);
}
