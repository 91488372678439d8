//! Reads that are delayed while the server is busy: what was read before is sent, nothing is lost
//! or out of order, and whoever did not ask for it is never delayed.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::common::client::{self, Closed};
use crate::common::echo::{self, ANY};
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::{Valve, start};
use crate::common::wait::{DEADLINE, wait_for};
use drainline::Server;
use drainline::policy::Activity;
use drainline::{Config, ConnectionInfo, EndReason, Reason};

const SIZE: usize = 100;
/// Time between two messages of a client.
const GAP: Duration = Duration::from_millis(5);

/// A test that fails is over some time.
const MOST: u64 = 5_000;

/// Busy from the first message on.
fn busy() -> Config {
    let mut config = small::config();
    config.busy_reads = 1;
    config.max_read_delay = Some(Duration::from_secs(2));
    config
}

fn send_one(client: &mut TcpStream, connection: u32, seq: u64) {
    let sent = Tagged::new(connection).send(client, seq..seq + 1, SIZE, Cut::Once);
    assert_eq!(sent.all().messages, 1);
}

/// A message every few milliseconds until `is_over`. Returns how many.
fn trickle(client: &mut TcpStream, is_over: impl Fn(u64) -> bool) -> u64 {
    let mut sent = 0;
    while !is_over(sent) {
        send_one(client, 1, sent);
        sent += 1;
        thread::sleep(GAP);
    }
    sent
}

/// The only connection, if it sleeps before a read.
fn asleep(server: &Server) -> Option<ConnectionInfo> {
    let connections = server.connections();
    let one = connections.first().cloned();
    one.filter(|one| one.state == Activity::Delayed)
}

#[test]
fn what_was_read_before_a_sleep_is_sent() {
    let valve = Valve::open();
    let (server, mut client) = start(busy(), &valve);
    let is_over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            trickle(&mut client, |sent| {
                sent == MOST || is_over.load(Ordering::Relaxed)
            })
        });
        for _ in 0..5 {
            let before = asleep(&server).map_or(0, |one| one.bytes);
            let one = wait_for("another sleep", DEADLINE, || {
                let one = asleep(&server).filter(|one| one.bytes > before)?;
                // All of it is from within one sleep.
                let same = asleep(&server).filter(|same| same.bytes == one.bytes)?;
                (same.messages == one.messages).then_some(one)
            });
            let whole = Tagged::new(1).lines(0..one.messages, SIZE);
            assert_eq!(whole.len() as u64, one.bytes, "{one}");
        }
        is_over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    assert_eq!(client::half_close(client), Closed::Clean);
    assert!(server.shutdown(DEADLINE).is_balanced());
    valve.checker().expect_exact(&[(1, sent)]);
}

/// However often one looks while it sends, it does not sleep.
#[track_caller]
fn never_sleeps(config: Config) {
    let valve = Valve::open();
    let (server, mut client) = start(config, &valve);
    thread::scope(|scope| {
        let sender = scope.spawn(|| trickle(&mut client, |sent| sent == 200));
        while !sender.is_finished() {
            assert!(asleep(&server).is_none());
            thread::sleep(GAP / 50);
        }
    });
    assert_eq!(client::half_close(client), Closed::Clean);
    server.shutdown(DEADLINE);
    valve.checker().expect_exact(&[(1, 200)]);
}

#[test]
fn switched_off_nobody_sleeps() {
    let mut config = busy();
    config.max_read_delay = None;
    never_sleeps(config);
}

#[test]
fn a_server_that_is_not_busy_delays_nobody() {
    let mut config = busy();
    config.busy_reads = small::config().busy_reads;
    never_sleeps(config);
}

#[test]
fn a_handler_that_replies_is_never_delayed() {
    let server = echo::start(busy(), &[ANY]);
    let mut client = echo::connect_served(server.local_addrs()[0]);
    for _ in 0..500 {
        echo::assert_served(&mut client);
        assert!(asleep(&server).is_none());
    }
    server.shutdown(DEADLINE);
}

/// Many that send now and then, and one in bulk; all of it arrives, in order.
#[track_caller]
fn all_arrives(config: Config) {
    const CLIENTS: u32 = 20;
    const EACH: u64 = 200;
    const BULK: u64 = 50_000;
    let valve = Valve::open();
    let (server, mut bulk) = start(config, &valve);
    let addr = server.local_addrs()[0];
    thread::scope(|scope| {
        for connection in 1..=CLIENTS {
            scope.spawn(move || {
                let mut client = client::connect(addr);
                for seq in 0..EACH {
                    send_one(&mut client, connection, seq);
                    if seq % 7 < 5 {
                        thread::sleep(Duration::from_millis(u64::from(connection % 5)));
                    }
                }
                assert_eq!(client::half_close(client), Closed::Clean);
            });
        }
        let sent = Tagged::new(0).send(&mut bulk, 0..BULK, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, BULK);
    });
    assert_eq!(client::half_close(bulk), Closed::Clean);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced() && !report.timed_out);
    let mut sent: Vec<_> = (1..=CLIENTS).map(|connection| (connection, EACH)).collect();
    sent.push((0, BULK));
    valve.checker().expect_exact(&sent);
}

#[test]
fn with_every_means_on_all_arrives() {
    let mut config = busy();
    config.max_read_delay = Some(Duration::from_millis(50));
    all_arrives(config);
}

#[test]
fn with_every_means_off_all_arrives() {
    let mut config = small::config();
    config.max_read_delay = None;
    config.linger = false;
    config.reuse_threads = None;
    all_arrives(config);
}

/// As soon as its reads are delayed, the client begins a frame that it does not end, and `goes_on`
/// as before or falls silent. How it ended.
fn ends_inside_a_frame(config: Config, goes_on: bool) -> EndReason {
    let valve = Valve::open();
    let (server, mut client) = start(config, &valve);
    trickle(&mut client, |sent| {
        sent == MOST || asleep(&server).is_some()
    });
    // Far longer than a deadline, were it kept.
    for _ in 0..if goes_on { MOST } else { 1 } {
        if client.write_all(b"x").is_err() {
            break;
        }
        thread::sleep(GAP);
    }
    let ended = || {
        let ended = server.report().stats.ended;
        EndReason::ALL
            .iter()
            .copied()
            .find(|&reason| ended.get(reason) > 0)
    };
    let reason = wait_for("its end", DEADLINE, ended);
    server.shutdown(DEADLINE);
    reason
}

#[test]
fn deadlines_pass_while_reads_are_delayed() {
    let limit = Some(Duration::from_millis(500));
    let mut config = busy();
    // Nobody wakes it but a deadline.
    config.max_read_delay = Some(Duration::from_secs(60));
    config.frame_timeout = limit;
    let mut idle = config.clone();
    (idle.frame_timeout, idle.idle_timeout) = (None, limit);
    assert_eq!(
        ends_inside_a_frame(config.clone(), true),
        EndReason::FrameTimeout
    );
    assert_eq!(ends_inside_a_frame(config, false), EndReason::FrameTimeout);
    assert_eq!(ends_inside_a_frame(idle, false), EndReason::IdleTimeout);
}

#[test]
fn a_frame_that_ended_in_time_does_not_time_out_though_its_read_is_delayed_for_longer() {
    let valve = Valve::open();
    let mut config = busy();
    config.max_read_delay = Some(Duration::from_secs(60));
    config.frame_timeout = Some(Duration::from_millis(500));
    config.idle_timeout = Some(Duration::from_secs(1));
    let (server, mut client) = start(config, &valve);
    // Whatever is read holds the end of one frame and the beginning of another.
    let lines = Tagged::new(1).lines(0..1000, SIZE);
    client.write_all(&lines[..SIZE / 2]).unwrap();
    let mut asleep_for = 0;
    for bytes in lines[SIZE / 2..].chunks(SIZE) {
        client.write_all(bytes).unwrap();
        thread::sleep(GAP);
        asleep_for += u32::from(asleep(&server).is_some());
    }
    assert!(asleep_for > 0);
    assert_eq!(client::half_close(client), Closed::Clean);
    server.shutdown(DEADLINE);
    valve.checker().expect_exact(&[(1, 1000)]);
}
