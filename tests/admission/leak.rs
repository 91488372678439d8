//! The leak that this server was built against: nothing drains the channel, clients connect, send a
//! line, leave, and come again. Its threads and descriptors stay under the bound that it computed
//! at start and come back to where they were; those of a textbook server, measured by the same
//! code, grow with every client.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::sync_channel;
use std::thread;
use std::time::Duration;

use drainline::{Config, DropReason, EndReason, PauseAfter};

use crate::common::checker::Checker;
use crate::common::embedded::{self, Embedded};
use crate::common::limits::ResourceLimits;
use crate::common::small;
use crate::common::tagged::Tagged;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, try_wait_for, wait_until};
use crate::common::{client, proc};

const CLIENTS: u32 = 5_000;
const BUFFER: u32 = 16;
const NEW_CLIENT: u32 = 90_000;
const SIZE: usize = 64;
const AT_ONCE: u32 = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Held {
    threads: u64,
    descriptors: u64,
}

impl Held {
    fn now(pid: u32) -> Held {
        Held {
            threads: proc::threads(pid),
            descriptors: proc::descriptors(pid),
        }
    }
}

/// What a flood of clients did to a server.
#[derive(Debug)]
struct Flood {
    before: Held,
    peak: proc::Peak,
    /// Once every client had left and was seen, and the server had had time to let go of it.
    after: Held,
}

/// Clients that connect, send a line and leave, each seen by the server; then up to `patience` for
/// it to hold no more than before.
fn flood(child: &mut Embedded, addr: SocketAddr, clients: u32, patience: Duration) -> Flood {
    let pid = child.pid();
    let before = Held::now(pid);
    let watch = proc::Watch::start(pid);
    let next = AtomicU32::new(0);
    let come_and_go = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= clients {
                return;
            }
            let line = Tagged::new(number).lines(0..1, SIZE);
            client::connect(addr).write_all(&line).unwrap();
        }
    };
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(come_and_go);
        }
    });
    child.say(&format!("see {clients}"));
    child.wait_line("seen");
    try_wait_for(patience, || (Held::now(pid) == before).then_some(()));
    Flood {
        before,
        peak: watch.stop(),
        after: Held::now(pid),
    }
}

fn start(role: &str) -> (Embedded, SocketAddr) {
    let mut child = Embedded::start("leak::child_entry", role, &[]);
    let addr = child.wait_line("addr ").parse().unwrap();
    (child, addr)
}

#[test]
fn child_entry() {
    match embedded::role().as_deref() {
        Some("every means") => serve(|config| config.busy_reads = 1),
        Some("no means") => serve(|config| {
            config.max_read_delay = None;
            config.linger = false;
            config.reuse_threads = None;
        }),
        Some("naive") => serve_naively(),
        Some(other) => panic!("no such role: {other}"),
        None => {}
    }
}

/// The server under test, with a consumer that drains nothing until it is healed.
fn serve(set: fn(&mut Config)) {
    let valve = Valve::shut();
    let mut config = small::config();
    config.buffer_messages = BUFFER as usize;
    config.max_connections = Some(256);
    config.send_timeout = Duration::from_millis(200);
    config.pause_after = PauseAfter::Off;
    set(&mut config);
    let server = small::ingest()
        .config(config)
        .listen("127.0.0.1:0".parse().unwrap())
        .start(valve.sink())
        .unwrap();
    embedded::tell(&format!("bound {}", server.limits()));
    embedded::tell(&format!("addr {}", server.local_addrs()[0]));
    while let Some(asked) = embedded::hear() {
        match asked.split_once(' ') {
            Some(("see", count)) => {
                let count = count.parse().unwrap();
                let received = || server.report().stats.received;
                wait_until("every client seen", DEADLINE, || received() >= count);
                embedded::tell("seen");
            }
            Some(("heal", message)) => {
                valve.heal();
                let arrived = || memchr::memmem::find(&valve.bytes(), message.as_bytes()).is_some();
                embedded::tell("healed");
                wait_until("the new client's line", DEADLINE, arrived);
                embedded::tell("arrived");
            }
            _ => panic!("asked for {asked}"),
        }
    }
    let report = server.shutdown(DEADLINE);
    let stats = &report.stats;
    assert!(report.is_balanced(), "{report:?}");
    let sent = u64::from(CLIENTS) + 1;
    let aborted = u64::from(CLIENTS - BUFFER);
    assert_eq!(
        (stats.received, stats.delivered),
        (sent, sent - aborted),
        "{stats:?}"
    );
    assert_eq!(
        stats.dropped.get(DropReason::ConnectionClosed),
        aborted,
        "{stats:?}"
    );
    assert_eq!(
        stats.ended.get(EndReason::SendTimeout),
        aborted,
        "{stats:?}"
    );
    assert!(
        stats.threads_peak as u64 <= server.limits().threads,
        "{stats:?}"
    );
    let came: Vec<_> = (0..CLIENTS)
        .chain([NEW_CLIENT])
        .map(|number| (number, 1))
        .collect();
    let checker = Checker::read(&valve.bytes());
    checker.expect_prefix(&came);
    assert_eq!(checker.total(), stats.delivered);
}

/// A thread for each connection, and a blocking send into a bounded channel that nobody drains.
fn serve_naively() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    let (sender, _receiver) = sync_channel(BUFFER as usize);
    let received = Arc::new(AtomicU64::new(0));
    let seen = Arc::clone(&received);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, received) = (sender.clone(), Arc::clone(&received));
            thread::spawn(move || {
                for line in BufReader::new(stream.unwrap()).lines() {
                    received.fetch_add(1, Ordering::Relaxed);
                    sender.send(line.unwrap()).unwrap();
                }
            });
        }
    });
    embedded::tell(&format!("addr {addr}"));
    while let Some(asked) = embedded::hear() {
        let count = asked.strip_prefix("see ").unwrap().parse().unwrap();
        wait_until("every client seen", DEADLINE, || {
            seen.load(Ordering::Relaxed) >= count
        });
        embedded::tell("seen");
    }
}

#[test]
fn a_consumer_that_never_drains_leaks_no_thread_and_no_descriptor() {
    leaks_nothing("every means");
}

#[test]
fn nor_does_it_without_delays_and_with_a_fresh_thread_for_each_connection() {
    leaks_nothing("no means");
}

fn leaks_nothing(role: &str) {
    let (mut child, addr) = start(role);
    let printed = format!("{}\n", child.wait_line("bound "));
    let bound = ResourceLimits::find(&printed).unwrap_or_else(|| panic!("no bound in {printed:?}"));
    let flood = flood(&mut child, addr, CLIENTS, DEADLINE);
    eprintln!("{bound:?}\n{flood:?}");
    assert!(flood.peak.threads <= bound.threads, "{flood:?}, {bound:?}");
    assert!(
        flood.peak.descriptors <= bound.descriptors,
        "{flood:?}, {bound:?}"
    );
    // The load was one: it took the server to its limit.
    assert!(flood.peak.threads > bound.connections, "{flood:?}");
    assert_eq!(flood.after, flood.before, "{flood:?}");

    let message = String::from_utf8(Tagged::new(NEW_CLIENT).line(0, SIZE)).unwrap();
    child.say(&format!("heal {message}"));
    child.wait_line("healed");
    let mut new = client::connect(addr);
    new.write_all(format!("{message}\n").as_bytes()).unwrap();
    child.wait_line("arrived");
    drop(new);
    assert_eq!(child.end(), Some(0), "{}", child.told());
}

#[test]
fn a_naive_server_leaks_a_thread_and_a_descriptor_for_every_client() {
    let [few, many] = [100, 200].map(|clients| {
        let (mut child, addr) = start("naive");
        let flood = flood(&mut child, addr, clients, Duration::from_millis(500));
        eprintln!("{clients} clients: {flood:?}");
        let threads = flood.after.threads - flood.before.threads;
        let descriptors = flood.after.descriptors - flood.before.descriptors;
        // All but those whose line went into the channel: they alone got to the end of their
        // stream.
        let stuck = u64::from(clients - BUFFER);
        assert!(threads >= stuck && descriptors >= stuck, "{flood:?}");
        threads
    });
    assert!(
        many >= few + 100 - u64::from(BUFFER),
        "{few}, then {many} threads"
    );
}
