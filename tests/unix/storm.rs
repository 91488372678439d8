//! The leak that this server was built against, over a Unix socket: a sink that takes nothing, and
//! clients that connect, send a line, leave and come again. Threads and descriptors stay within the
//! limits that were computed at start, and come back.

use std::io::Write;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::common::embedded::{self, Embedded};
use crate::common::ledger::assert_both_close;
use crate::common::proc;
use crate::common::small;
use crate::common::tagged::Tagged;
use crate::common::unix::{self, Place};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};
use drainline::{EndReason, Listener, OnOverload, PauseAfter};

const CLIENTS: u32 = 2_000;
const AT_ONCE: u32 = 16;
const MAX_CONNECTIONS: usize = 64;

#[test]
fn child_entry() {
    let Some(path) = embedded::role() else {
        return;
    };
    let valve = Valve::shut();
    let mut config = small::config();
    config.max_connections = Some(MAX_CONNECTIONS);
    config.buffer_messages = 16;
    config.send_timeout = Duration::from_millis(200);
    config.pause_after = PauseAfter::Off;
    config.on_overload = OnOverload::Backlog;
    let server = small::ingest()
        .config(config)
        .listener(Listener::unix(&path))
        .start(valve.sink())
        .unwrap();
    let limits = server.limits();
    embedded::tell(&format!("limits {} {}", limits.threads, limits.descriptors));
    embedded::hear();
    wait_until("every client seen", DEADLINE, || {
        let stats = server.stats();
        stats.accepted == u64::from(CLIENTS) && stats.open == 0
    });
    wait_until("every thread joined", DEADLINE, || {
        server.stats().threads <= 5
    });
    embedded::tell("seen");
    embedded::hear();
    valve.heal();
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    let ended = report.stats.ended;
    assert!(ended.get(EndReason::SendTimeout) > 0, "{ended:?}");
    let sent = u64::from(CLIENTS);
    assert_eq!(report.stats.received, sent, "each line was read");
    assert_eq!(report.stats.accepted, sent);
}

#[test]
fn threads_and_descriptors_stay_within_the_limits_and_come_back() {
    let place = Place::new();
    let path = place.path.to_str().unwrap();
    let mut child = Embedded::start("storm::child_entry", path, &[]);
    let limits = child.wait_line("limits ");
    let limits: Vec<u64> = limits
        .split(' ')
        .map(|limit| limit.parse().unwrap())
        .collect();
    let pid = child.pid();
    let before = (proc::threads(pid), proc::descriptors(pid));
    let watch = proc::Watch::start(pid);
    let next = AtomicU32::new(0);
    let come_and_go = || {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= CLIENTS {
                return;
            }
            let line = Tagged::new(number).lines(0..1, 64);
            unix::connect(&place.path).write_all(&line).unwrap();
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(come_and_go);
        }
    });
    child.say("all have left");
    child.wait_line("seen");
    let peak = watch.stop();
    wait_until("threads and descriptors back", DEADLINE, || {
        proc::threads(pid) <= before.0 && proc::descriptors(pid) <= before.1
    });
    eprintln!("threads and descriptors: {before:?}, {peak:?}, limits {limits:?}");
    // The test runner has a thread or two of its own, which were there before the server.
    assert!(peak.threads <= limits[0], "{peak:?}, {limits:?}");
    assert!(peak.descriptors <= limits[1], "{peak:?}, {limits:?}");
    child.say("heal");
    assert_eq!(child.end(), Some(0), "{}", child.told());
}
