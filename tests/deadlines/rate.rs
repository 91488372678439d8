//! The rate limit of a connection: it slows reading down, drops nothing, and holds up no drain and
//! no abort.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::small;
use crate::common::tagged::Tagged;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::policy::Activity;
use drainline::{EndReason, Server};

/// How often a rate is looked at.
const LOOK: Duration = Duration::from_millis(5);

fn start(rate_limit: Option<u64>, valve: &Valve) -> (Server, TcpStream) {
    let mut config = small::config();
    config.rate_limit = rate_limit;
    let server = small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let client = client::connect(server.local_addrs()[0]);
    (server, client)
}

#[test]
fn the_rate_limit_slows_a_sender_down_and_drops_nothing() {
    const RATE: u64 = 50;
    const SIZE: usize = 4096;
    let messages = 100;
    let bytes = Tagged::new(1).lines(0..messages, SIZE);
    // The tenth of a second that may come at once, and what one read may bring on top, which is
    // paid for after it.
    let at_once =
        RATE as f64 / 10.0 + (64 << 10) as f64 / (bytes.len() as f64 / messages as f64) + 1.0;
    let valve = Valve::open();
    let (server, mut client) = start(Some(RATE), &valve);
    let began = Instant::now();
    client.write_all(&bytes).unwrap();
    let mut readings = 0;
    loop {
        // Asked before the clock is read: what comes meanwhile only makes the bound wider.
        let received = server.report().stats.received;
        let most = RATE as f64 * began.elapsed().as_secs_f64() + at_once;
        assert!(
            received as f64 <= most,
            "{received} received, {most} at most"
        );
        readings += 1;
        if received == messages {
            break;
        }
        assert!(began.elapsed() < DEADLINE, "{received} received");
        thread::sleep(LOOK);
    }
    assert!(readings > 10);
    assert_eq!(client::half_close(client), Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.dropped.total(), 0);
    valve.checker().expect_exact(&[(1, messages)]);
}

#[test]
fn without_a_rate_limit_nobody_waits() {
    let valve = Valve::open();
    let (server, mut client) = start(None, &valve);
    let began = Instant::now();
    // At a rate of 1,000 a second it would take 20 s.
    let bytes = Tagged::new(1).lines(0..20_000, 60);
    client.write_all(&bytes).unwrap();
    assert_eq!(client::half_close(client), Closed::Clean);
    assert!(began.elapsed() < Duration::from_secs(15));
    server.shutdown(DEADLINE);
    valve.checker().expect_exact(&[(1, 20_000)]);
}

const MANY: u64 = 1000;

/// A connection that is paused for a quarter of an hour.
fn paused(valve: &Valve) -> (Server, TcpStream) {
    let (server, mut client) = start(Some(1), valve);
    let bytes = Tagged::new(1).lines(0..MANY, 60);
    client.write_all(&bytes).unwrap();
    wait_until("a pause", DEADLINE, || {
        let connections = server.connections();
        connections.iter().any(|connection| {
            connection.state == Activity::Pausing && !connection.in_state.is_zero()
        })
    });
    (server, client)
}

#[test]
fn a_drain_ends_a_rate_pause_at_once_and_takes_in_what_is_there() {
    let valve = Valve::open();
    let (server, _client) = paused(&valve);
    let began = Instant::now();
    let report = server.shutdown(DEADLINE);
    // At three quarters of the deadline the connection would have been disconnected.
    assert!(began.elapsed() < DEADLINE / 2, "{:?}", began.elapsed());
    assert!(report.is_balanced() && !report.timed_out, "{report:?}");
    valve.checker().expect_exact(&[(1, MANY)]);
}

#[test]
fn an_abort_ends_a_rate_pause_at_once() {
    let valve = Valve::open();
    let (server, mut client) = paused(&valve);
    let id = server.connections()[0].id;
    assert!(server.abort(id));
    client::wait_for_close(&mut client);
    wait_until("its end counted", DEADLINE, || {
        server.report().stats.ended.get(EndReason::Aborted) == 1
    });
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    valve.checker().expect_prefix(&[(1, MANY)]);
}

#[test]
fn a_peer_that_is_gone_ends_a_rate_pause_and_what_it_sent_is_delivered() {
    let valve = Valve::open();
    let (server, client) = paused(&valve);
    assert_eq!(client::half_close(client), Closed::Clean);
    let stats = server.report().stats;
    assert_eq!(stats.ended.get(EndReason::Eof), 1);
    assert!(server.shutdown(DEADLINE).is_balanced());
    valve.checker().expect_exact(&[(1, MANY)]);
}

#[test]
fn a_peer_that_resets_its_stream_ends_a_rate_pause() {
    let valve = Valve::open();
    let (server, client) = paused(&valve);
    client::reset(client);
    wait_until("its end", DEADLINE, || {
        server.report().stats.ended.get(EndReason::Reset) == 1
    });
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.dropped.total(), 0);
    valve.checker().expect_prefix(&[(1, MANY)]);
}

#[test]
fn clients_that_are_gone_do_not_hold_the_places_of_others() {
    const PLACES: usize = 8;
    let mut config = small::config();
    (config.rate_limit, config.max_connections) = (Some(1), Some(PLACES));
    let valve = Valve::open();
    let server = small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let addr = server.local_addrs()[0];
    let each = 10_000;
    for (nth, mut client) in client::connect_many(addr, PLACES).into_iter().enumerate() {
        client.write_all(&vec![b'\n'; each]).unwrap();
        // One ends its stream, the next one is killed.
        if nth % 2 == 0 {
            drop(client);
        } else {
            client::reset(client);
        }
    }
    let mut honest = client::connect(addr);
    honest.write_all(&Tagged::new(1).lines(0..1, 60)).unwrap();
    assert_eq!(client::half_close(honest), Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    // Whatever the kernel held of those that ended their streams is there.
    assert!(report.stats.delivered > (each * PLACES / 2) as u64);
}

#[test]
fn no_more_than_a_seconds_worth_comes_at_once_however_small_the_messages_are() {
    const RATE: u64 = 20;
    // Reads have grown for a long message before the small ones come.
    let sent = [&[b'x'; 60_000][..], &[b'\n'; 10_000]].concat();
    let valve = Valve::open();
    let (server, mut client) = start(Some(RATE), &valve);
    let began = Instant::now();
    client.write_all(&sent).unwrap();
    let mut received = 0;
    while received < RATE * 5 {
        received = server.report().stats.received;
        // A second's worth ahead, and twice that where it is not known yet how small they are.
        let most = RATE as f64 * (began.elapsed().as_secs_f64() + 3.0);
        assert!(received as f64 <= most, "{received}, {most} at most");
        assert!(began.elapsed() < DEADLINE, "{received} received");
        thread::sleep(LOOK);
    }
    drop(client);
    server.shutdown(DEADLINE);
}
