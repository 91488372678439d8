//! Overload that passes costs time and nothing else: an outage shorter than `send_timeout`, senders
//! at full speed, a sink that stands still under `when_full = wait`. Order and bytes of each
//! connection are kept meanwhile.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use drainline::WhenFull;
use drainline::policy::OverloadLevel;

use crate::common::child::{Drainline, Stdout};
use crate::common::client::{self, Closed};
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_until};

const SIZE: usize = 120;

/// Senders `connections` send `messages` each, all at once, and end their stream; returns once the
/// server has read all of it.
fn send_from(addr: SocketAddr, connections: std::ops::Range<u32>, messages: u64) {
    thread::scope(|scope| {
        for number in connections {
            scope.spawn(move || {
                let mut stream = client::connect(addr);
                let tagged = Tagged::new(number);
                let sent = tagged.send(&mut stream, 0..messages, SIZE, Cut::Blocks);
                assert_eq!(sent.all().messages, messages);
                assert_eq!(client::half_close(stream), Closed::Clean);
            });
        }
    });
}

/// Calls it at the end of a scope, a panic's included.
struct OnDrop<F: Fn()>(F);

impl<F: Fn()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn an_outage_of_half_of_send_timeout_loses_nothing_with_the_defaults() {
    const OUTAGE: Duration = Duration::from_secs(2);
    let mut child = Drainline::with(&["--send-timeout", "4s"])
        .stdout(Stdout::Unread)
        .start();
    let addr = child.addr();
    // More than the 100,000 messages that the buffer holds by default.
    let messages = 20_000;
    let senders = thread::spawn(move || send_from(addr, 0..8, messages));
    child.wait_for_status("a full buffer", |status| status["senders_waiting"] != 0);
    thread::sleep(OUTAGE);
    child.collect_stdout();
    senders.join().unwrap();
    send_from(addr, 8..9, 1);

    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_balanced();
    exit.assert_nothing_left();
    assert!(
        exit.f64("overload_seconds.paused") > 0.0,
        "it was no outage: {exit}"
    );
    let mut sent: Vec<_> = (0..8).map(|number| (number, messages)).collect();
    sent.push((8, 1));
    child.checker().expect_exact(&sent);
}

#[test]
fn bulk_senders_at_full_speed_cause_no_overload_and_others_are_served() {
    let is_long = !cfg!(debug_assertions) || std::env::var_os("DRAINLINE_LONG").is_some();
    let seconds = if is_long { 10 } else { 3 };
    const BETWEEN_OTHERS: Duration = Duration::from_millis(100);
    let mut child = Drainline::start(&["--sink", "null"]);
    let addr = child.addr();
    let (stop, messages, bytes) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..6 {
            let (stop, messages, bytes) = (&stop, &messages, &bytes);
            scope.spawn(move || {
                let block = Tagged::new(number).lines(0..500, SIZE);
                let mut stream = client::connect(addr);
                while !stop.load(Ordering::Relaxed) {
                    stream.write_all(&block).unwrap();
                    messages.fetch_add(500, Ordering::Relaxed);
                    bytes.fetch_add(block.len() as u64, Ordering::Relaxed);
                }
                assert_eq!(client::half_close(stream), Closed::Clean);
            });
        }
        // Should this thread panic, the senders still end.
        let _stop = OnDrop(|| stop.store(true, Ordering::Relaxed));
        let end = Instant::now() + Duration::from_secs(seconds);
        while Instant::now() < end {
            send_from(addr, 6..7, 1);
            messages.fetch_add(1, Ordering::Relaxed);
            thread::sleep(BETWEEN_OTHERS);
        }
    });

    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_balanced();
    exit.assert_nothing_left();
    let rate = bytes.into_inner() as f64 / exit.f64("uptime_seconds") / 1e6;
    eprintln!("{rate:.0} MB/s; {}", exit.report["overload_seconds"]);
    // A machine that stands still for seconds may have it pause for a moment; nobody is aborted,
    // and nothing is lost.
    let paused = exit.report["overload_seconds"]["paused"].as_f64();
    let paused = paused.unwrap_or(0.0);
    assert!(paused < exit.f64("uptime_seconds") / 2.0, "{exit}");
    assert_eq!(exit.f64("overload_seconds.shedding"), 0.0, "{exit}");
    assert_eq!(exit.u64("delivered"), messages.into_inner(), "{exit}");
}

#[test]
fn each_connections_messages_arrive_in_order_whole_and_once() {
    let mut child = Drainline::start::<&str>(&[]);
    let addr = child.addr();
    let (connections, messages) = (64, 400);
    let bytes = AtomicU64::new(0);
    thread::scope(|scope| {
        for number in 0..connections {
            let bytes = &bytes;
            scope.spawn(move || {
                // Shorter and longer than a small read takes, and than the pieces in which they are
                // sent.
                let size = [40, 300, 1_500][number as usize % 3];
                let cut = match number % 4 {
                    0 => Cut::Blocks,
                    most => Cut::Random {
                        seed: u64::from(number),
                        most: 10usize.pow(most + 1),
                    },
                };
                let mut stream = client::connect(addr);
                let sent = Tagged::new(number).send(&mut stream, 0..messages, size, cut);
                bytes.fetch_add(sent.all().bytes, Ordering::Relaxed);
                assert_eq!(client::half_close(stream), Closed::Clean);
            });
        }
    });
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_balanced();
    let sent: Vec<_> = (0..connections).map(|number| (number, messages)).collect();
    child.checker().expect_exact(&sent);
    assert_eq!(child.stdout_len(), bytes.into_inner());
}

#[test]
fn waiting_for_a_stalled_sink_loses_nothing_and_full_speed_returns() {
    /// What would end a wait under the other policies.
    const SEND_TIMEOUT: Duration = Duration::from_millis(200);
    let valve = Valve::open();
    let mut config = small::config();
    config.buffer_messages = 1_000;
    config.when_full = WhenFull::Block;
    config.send_timeout = SEND_TIMEOUT;
    let server = small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let addr = server.local_addrs()[0];
    let stats = || server.report().stats;
    let messages = 20_000;
    let timed = |connections| {
        let begun = Instant::now();
        send_from(addr, connections, messages);
        begun.elapsed()
    };
    let before = timed(0..4);

    valve.stall();
    let stalled = thread::spawn(move || send_from(addr, 4..8, messages));
    wait_until("every sender held up", DEADLINE, || {
        stats().senders_waiting == 4
    });
    stays("everybody waits", SEND_TIMEOUT * 10, || {
        stats().senders_waiting == 4
    });
    valve.heal();
    stalled.join().unwrap();
    wait_until("the overload down", DEADLINE, || {
        stats().overload == OverloadLevel::Normal
    });

    let after = timed(8..12);
    eprintln!("4 x {messages} messages before: {before:?}, after: {after:?}");
    assert!(after < before * 10, "{after:?} after, {before:?} before");
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.dropped.total(), 0, "{report:?}");
    let sent: Vec<_> = (0..12).map(|number| (number, messages)).collect();
    crate::common::checker::Checker::read(&valve.bytes()).expect_exact(&sent);
}
