//! A row for each listener: of different framings and limits, under one storm, with a sink that
//! stalls and aborts by hand, each closes by itself at every look, and none has what came to
//! another.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client;
use crate::common::ledger::{assert_both_close, assert_rows};
use crate::common::small;
use crate::common::tagged::XorShift;
use crate::common::valve::Valve;
use crate::common::wait::DEADLINE;
use drainline::ingest::{Framing, IngestListener, Oversize};
use drainline::{
    Config, Discard, DropReason, EndReason, Listener, ListenerStats, RejectReason, Server, WhenFull,
};

/// How long the storm lasts.
const LASTS: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(200);
const ABORT_EVERY: Duration = Duration::from_millis(100);
/// A client of the storm's listeners sends about so many messages, if nothing stops it.
const EACH: usize = 40;
/// What a calm client sends, each of its lines whole.
const CALM_LINE: &[u8] = b"a calm line\n";

/// So many that each listener has its permits at any moment: three of the first, four of the
/// second, one for each client of the third, one for each of the others, and what ends.
const MAX_CONNECTIONS: usize = 64;

const LINES: usize = 0;
const SYSLOG: usize = 1;
const NUL: usize = 2;
const CALM: usize = 3;
const HEALTH: usize = 4;

fn on(name: &str) -> Listener {
    Listener::on(([127, 0, 0, 1], 0).into()).named(name)
}

fn config() -> Config {
    let mut config = small::config();
    config.max_connections = Some(MAX_CONNECTIONS);
    config.on_overload = drainline::OnOverload::Close;
    config.buffer_messages = 64;
    config.when_full = WhenFull::Drop;
    config.send_timeout = Duration::from_millis(20);
    config.pause_after = drainline::PauseAfter::Off;
    config
}

fn start(valve: &Valve) -> Server {
    let lines = IngestListener::from(on("lines").max_connections(3)).max_message(64);
    let syslog = IngestListener::from(on("syslog").max_connections(4).frame_timeout(SHORT));
    let syslog = syslog.framing(Framing::Syslog).oversize(Oversize::Close);
    let nul = IngestListener::from(on("nul").idle_timeout(SHORT).rate_limit(100_000));
    let nul = nul.framing(Framing::Nul).max_message(100);
    small::ingest()
        .config(config())
        .max_message(200)
        .listener(lines)
        .listener(syslog)
        .listener(nul.oversize(Oversize::Drop))
        .listener(on("calm"))
        .listener_with(on("health"), |conn| Ok(writeln!(&*conn, "up")?))
        .start(valve.sink())
        .unwrap()
}

/// A message as the listener's framing has it, now and then too long or framed wrongly.
fn message(listener: usize, random: &mut XorShift) -> Vec<u8> {
    let text = vec![b'x'; random.up_to(90)];
    match (listener, random.up_to(40)) {
        (LINES, _) => [&text[..], b"\r\n"].concat(),
        (SYSLOG, 1) => b"99999999 <13>".to_vec(),
        (SYSLOG, 2) => [b"<13>", &[b'y'; 300][..], b"\n"].concat(),
        (SYSLOG, 3..20) => [b"<13>", &text[..], b"\n"].concat(),
        (SYSLOG, _) => {
            let text = [b"<13>", &text[..]].concat();
            [format!("{} ", text.len()).as_bytes(), &text].concat()
        }
        (_, 1) => [&[b'z'; 150][..], b"\0"].concat(),
        _ => [&text[..], b"\0"].concat(),
    }
}

/// One client after the other, each with an end of its own.
fn storm(listener: usize, address: SocketAddr, seed: u64, is_over: &AtomicBool) {
    let mut random = XorShift::new(seed);
    while !is_over.load(Ordering::Relaxed) {
        let Ok(mut client) = client::try_connect(address, DEADLINE) else {
            continue;
        };
        for _ in 0..random.up_to(2 * EACH) {
            // Whoever is rejected or aborted finds out in the middle.
            if client.write_all(&message(listener, &mut random)).is_err() {
                break;
            }
        }
        match random.up_to(6) {
            1 => client::reset(client),
            2 => drop(client.write_all(b"half of")),
            // Past a deadline.
            3 => {
                let _ = client.write_all(b"half of");
                thread::sleep(2 * SHORT);
            }
            _ => drop(client),
        }
    }
}

/// Sends whole lines, and waits until the server has read them: what its row must have.
fn calm(address: SocketAddr, sent: &AtomicU64, is_over: &AtomicBool) {
    while !is_over.load(Ordering::Relaxed) {
        let mut client = client::connect(address);
        // Where permits are rare, the client is closed before it is served.
        for _ in 0..EACH {
            client.write_all(CALM_LINE).unwrap();
        }
        client::half_close(client);
        sent.fetch_add(EACH as u64, Ordering::Relaxed);
    }
}

fn abort_now_and_then(server: &Server, is_over: &AtomicBool) {
    let mut random = XorShift::new(7);
    while !is_over.load(Ordering::Relaxed) {
        let open = server.connections();
        let open: Vec<_> = open
            .iter()
            .filter(|conn| conn.listener_index < CALM)
            .collect();
        if !open.is_empty() {
            server.abort(open[random.up_to(open.len()) - 1].id);
        }
        thread::sleep(ABORT_EVERY);
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn listeners_of_different_framing_and_limits_each_close_under_one_storm() {
    let valve = Valve::open();
    let server = start(&valve);
    let addresses = server.local_addrs();
    let (is_over, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut looks = 0;
    thread::scope(|scope| {
        let (server, is_over, sent) = (&server, &is_over, &sent);
        let _over = Over(is_over);
        for seed in 1..=12 {
            let listener = seed as usize % CALM;
            scope.spawn(move || storm(listener, addresses[listener], seed, is_over));
        }
        scope.spawn(move || calm(addresses[CALM], sent, is_over));
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                valve.stall();
                thread::sleep(SHORT / 4);
                valve.heal();
                thread::sleep(SHORT / 4);
                client::wait_for_close(&mut client::connect(addresses[HEALTH]));
            }
            valve.heal();
        });
        scope.spawn(move || abort_now_and_then(server, is_over));
        let begun = Instant::now();
        loop {
            let report = server.report();
            assert_rows(&report);
            let rows = &report.stats.listeners;
            assert!(rows[LINES].open + rows[LINES].starting <= 3, "{report:?}");
            assert!(rows[SYSLOG].open + rows[SYSLOG].starting <= 4, "{report:?}");
            looks += 1;
            if begun.elapsed() >= LASTS && has_all(rows) {
                break;
            }
            assert!(begun.elapsed() < DEADLINE, "{report:?}");
            thread::yield_now();
        }
    });
    assert!(looks > 10);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    let [lines, syslog, nul, calm, health] = &report.stats.listeners[..] else {
        panic!("five listeners: {report:?}");
    };
    // To the message and the byte, beside all that.
    let sent = sent.into_inner();
    let bytes = sent * CALM_LINE.len() as u64;
    assert!(sent > 0 && calm.rejected.total() == 0, "{calm:?}");
    assert_eq!(
        (calm.received, calm.bytes.bytes_read),
        (sent, bytes),
        "{calm:?}"
    );
    assert_eq!(calm.bytes.framing_bytes, sent, "{calm:?}");
    assert_eq!(
        calm.ended.get(EndReason::Eof),
        sent / EACH as u64,
        "{calm:?}"
    );
    // The health check sends and reads nothing, and its connections are its own.
    assert_eq!((health.received, health.bytes.bytes_read), (0, 0));
    assert!(health.accepted > 0 && health.ended.get(EndReason::HandlerReturned) == health.accepted);
    // Nobody has what only another's settings bring.
    for others in [lines, nul, calm] {
        assert_eq!(others.ended.get(EndReason::FrameTimeout), 0, "{others:?}");
        assert_eq!(others.ended.get(EndReason::ProtocolError), 0, "{others:?}");
    }
    for others in [lines, syslog, calm] {
        assert_eq!(others.ended.get(EndReason::IdleTimeout), 0, "{others:?}");
        assert_eq!(others.dropped.get(DropReason::Oversize), 0, "{others:?}");
    }
    for others in [syslog, nul, calm] {
        assert_eq!(others.bytes.truncated, 0, "{others:?}");
    }
}

/// Each row of the storm has what all of them may have, and what only its own settings bring.
fn has_all(rows: &[ListenerStats]) -> bool {
    let (lines, syslog, nul) = (&rows[LINES], &rows[SYSLOG], &rows[NUL]);
    let all = [lines, syslog, nul].iter().all(|row| {
        row.delivered > 0
            && row.dropped.get(DropReason::Full) > 0
            && row.ended.get(EndReason::Aborted) > 0
    });
    all && lines.bytes.truncated > 0
        && lines.rejected.get(RejectReason::MaxConnections) > 0
        && syslog.ended.get(EndReason::ProtocolError) > 0
        && syslog.ended.get(EndReason::FrameTimeout) > 0
        && syslog.bytes.discarded.get(Discard::InvalidFrame) > 0
        && nul.ended.get(EndReason::IdleTimeout) > 0
        && nul.dropped.get(DropReason::Oversize) > 0
}
