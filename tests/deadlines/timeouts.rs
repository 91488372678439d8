//! The deadlines: no handler waits on a peer for ever, and nobody is disconnected for time that the
//! server took.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::common::client;
use crate::common::echo::{self, ANY};
use crate::common::puppets::{Item, Stage};
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::{Valve, start};
use crate::common::wait::{DEADLINE, wait_until};
use drainline::ingest::{Framing, Oversize};
use drainline::policy::Activity;
use drainline::{Config, Discard, EndReason, Ended, FirstByteTimeout, PauseAfter, Server};

const SHORT: Duration = Duration::from_millis(300);
/// Long enough for a client that keeps to it ten times over, on a machine that stands still for
/// seconds.
const KEPT: Duration = Duration::from_secs(4);
/// Longer than a deadline that is kept: nobody who may be quiet is disconnected meanwhile.
const QUIET: Duration = SHORT.saturating_mul(3);
const SIZE: usize = 100;

fn no_deadlines() -> Config {
    let mut config = small::config();
    config.frame_timeout = None;
    config.write_timeout = None;
    config
}

#[track_caller]
fn wait_for_end(server: &Server, reason: EndReason) {
    wait_until("the connection's end", DEADLINE, || {
        server.report().stats.ended.get(reason) == 1
    });
}

/// Ends it in good order: what was sent arrived, and every connection came to its own end.
#[track_caller]
fn assert_arrived(server: Server, client: TcpStream, valve: &Valve, messages: u64) {
    client::half_close(client);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.ended.get(EndReason::Eof), 1);
    valve.checker().expect_exact(&[(1, messages)]);
}

#[test]
fn a_frame_that_does_not_end_times_out_though_bytes_keep_coming() {
    let mut config = no_deadlines();
    config.frame_timeout = Some(SHORT);
    let (server, mut client) = start(config, &Valve::open());
    client.write_all(b"whole\n").unwrap();
    let sent = client::trickle(&mut client, &[b'x'; 1000], Duration::from_millis(20));
    assert!(sent < 1000, "it was never disconnected");
    wait_for_end(&server, EndReason::FrameTimeout);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    assert_eq!(report.stats.delivered, 1);
    assert!(report.bytes.discarded.get(Discard::DeadlinePassed) > 0);
    assert_eq!(
        report.bytes.discarded.total(),
        report.bytes.discarded.get(Discard::DeadlinePassed)
    );
}

#[test]
fn the_tail_of_a_message_that_was_too_long_is_inside_a_frame_too() {
    // The beginning of a message of 30 bytes, 8 of which are taken: in each framing what is there
    // of it was read.
    let tails: [(Framing, &[u8]); 5] = [
        (Framing::Lines, b"123456789012"),
        (Framing::Nul, b"123456789012"),
        (Framing::OctetCounted, b"30 123456789012"),
        (Framing::Syslog, b"30 <13>56789012"),
        (Framing::LengthPrefixed, b"\0\0\0\x1e123456789012"),
    ];
    for (framing, tail) in tails {
        for oversize in [Oversize::Truncate, Oversize::Drop] {
            let mut config = no_deadlines();
            config.frame_timeout = Some(SHORT);
            let server = small::ingest()
                .config(config)
                .framing(framing)
                .max_message(8)
                .oversize(oversize)
                .listen(ANY.parse().unwrap())
                .start(Valve::open().sink())
                .unwrap();
            let mut client = client::connect(server.local_addrs()[0]);
            client.write_all(tail).unwrap();
            wait_for_end(&server, EndReason::FrameTimeout);
            assert!(server.shutdown(DEADLINE).is_balanced());
        }
    }
}

#[test]
fn a_sender_between_frames_may_be_quiet_beyond_the_frame_timeout() {
    let mut config = no_deadlines();
    config.frame_timeout = Some(SHORT);
    let valve = Valve::open();
    let (server, mut client) = start(config, &valve);
    for seq in 0..3 {
        thread::sleep(QUIET);
        let sent = Tagged::new(1).send(&mut client, seq..seq + 1, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, 1);
    }
    assert_arrived(server, client, &valve, 3);
}

#[test]
fn frames_that_end_in_time_never_time_out_however_long_it_goes_on() {
    let mut config = no_deadlines();
    config.frame_timeout = Some(KEPT);
    let valve = Valve::open();
    let (server, mut client) = start(config, &valve);
    // Whatever is read holds the end of one frame and the beginning of another: there is always an
    // unfinished one.
    let messages = 14;
    let lines: Vec<_> = (0..messages)
        .map(|seq| Tagged::new(1).lines(seq..seq + 1, SIZE))
        .collect();
    client.write_all(&lines[0][..50]).unwrap();
    for (at, line) in lines.iter().enumerate() {
        thread::sleep(KEPT / 10);
        let next = lines.get(at + 1).map_or(&[][..], |next| &next[..50]);
        client.write_all(&[&line[50..], next].concat()).unwrap();
    }
    assert_arrived(server, client, &valve, messages);
}

#[test]
fn without_a_frame_timeout_half_a_frame_may_wait() {
    let valve = Valve::open();
    let (server, mut client) = start(no_deadlines(), &valve);
    let line = Tagged::new(1).lines(0..1, SIZE);
    client.write_all(&line[..50]).unwrap();
    thread::sleep(QUIET);
    client.write_all(&line[50..]).unwrap();
    assert_arrived(server, client, &valve, 1);
}

#[test]
fn a_quiet_sender_times_out_where_the_idle_timeout_is_on() {
    let mut config = no_deadlines();
    config.idle_timeout = Some(SHORT);
    let (server, mut client) = start(config, &Valve::open());
    client.write_all(b"whole\n").unwrap();
    client::wait_for_close(&mut client);
    wait_for_end(&server, EndReason::IdleTimeout);
    assert_eq!(server.shutdown(DEADLINE).stats.delivered, 1);
}

/// Waits until the first connection has been silent for so long, by the server's own clock.
#[track_caller]
fn wait_silent(server: &Server, long: Duration) {
    wait_until("a silent connection", DEADLINE, || {
        let connections = server.connections();
        let first = connections.iter().min_by_key(|connection| connection.id);
        first.is_some_and(|first| first.state == Activity::Reading && first.in_state >= long)
    });
}

#[test]
fn who_never_sends_a_byte_times_out_where_the_first_byte_timeout_is_set_and_nobody_else() {
    let mut config = no_deadlines();
    config.first_byte_timeout = FirstByteTimeout::After(SHORT);
    let (server, mut client) = start(config, &Valve::open());
    client.write_all(b"whole\n").unwrap();
    wait_until("the message", DEADLINE, || {
        server.report().stats.delivered == 1
    });
    let mut silent = client::connect(server.local_addrs()[0]);
    client::wait_for_close(&mut silent);
    wait_for_end(&server, EndReason::FirstByteTimeout);
    wait_silent(&server, SHORT * 2);
    assert!(!client::is_closed(&client));
    assert_eq!(server.shutdown(DEADLINE).stats.delivered, 1);
}

#[test]
fn who_comes_early_and_is_silent_keeps_the_connection_while_there_is_room() {
    let mut config = no_deadlines();
    config.max_connections = Some(2);
    config.first_byte_timeout = FirstByteTimeout::Auto;
    let valve = Valve::open();
    let (server, mut early) = start(config, &valve);
    // Others come and go meanwhile, and find room each time.
    for number in 0..5 {
        let mut other = client::connect(server.local_addrs()[0]);
        let sent = Tagged::new(number).send(&mut other, 0..1, SIZE, Cut::Once);
        assert_eq!(sent.all().messages, 1);
        client::half_close(other);
        wait_silent(&server, SHORT * (number + 1));
    }
    let sent = Tagged::new(9).send(&mut early, 0..1, SIZE, Cut::Once);
    assert_eq!(sent.all().messages, 1);
    client::half_close(early);
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    let stats = report.stats;
    assert_eq!((stats.delivered, stats.ended.get(EndReason::Eof)), (6, 6));
}

#[test]
fn the_idle_timeout_spares_whoever_sends_a_byte_now_and_then() {
    let mut config = no_deadlines();
    config.idle_timeout = Some(KEPT);
    let valve = Valve::open();
    let (server, mut client) = start(config, &valve);
    let sent = client::trickle(&mut client, b"a slow sender\n", KEPT / 10);
    assert_eq!(sent, 14);
    client::half_close(client);
    let stats = server.shutdown(DEADLINE).stats;
    assert_eq!((stats.delivered, stats.ended.get(EndReason::Eof)), (1, 1));
}

#[test]
fn the_idle_timeout_is_off_by_default() {
    assert_eq!(Config::default().idle_timeout, None);
    let valve = Valve::open();
    let (server, mut client) = start(small::config(), &valve);
    thread::sleep(QUIET);
    let sent = Tagged::new(1).send(&mut client, 0..1, SIZE, Cut::Once);
    assert_eq!(sent.all().messages, 1);
    assert_arrived(server, client, &valve, 1);
}

/// Waits until the connection has been inside a frame and in this state for so long.
#[track_caller]
fn wait_inside(server: &Server, state: Activity, long: Duration) {
    wait_until(&format!("{state:?} inside a frame"), DEADLINE, || {
        let connections = server.connections();
        connections.iter().any(|connection| {
            connection.inside_frame && connection.state == state && connection.in_state >= long
        })
    });
}

/// Both deadlines on; the client gets much less of them than we hold it up for.
fn held_up() -> Config {
    let mut config = no_deadlines();
    config.frame_timeout = Some(KEPT);
    config.idle_timeout = Some(KEPT);
    config
}

/// A tick: the watchdog has looked at it in this state.
const SEEN: Duration = Duration::from_millis(100);

#[test]
fn time_in_a_blocked_send_counts_for_no_deadline() {
    let mut config = held_up();
    config.buffer_messages = 8;
    config.send_timeout = DEADLINE * 10;
    config.pause_after = PauseAfter::Off;
    let valve = Valve::shut();
    let (server, mut client) = start(config, &valve);
    // Half a frame was read when the handler is held up.
    let bytes = Tagged::new(1).lines(0..64, SIZE);
    let (first, rest) = bytes.split_at(bytes.len() - 30);
    client.write_all(first).unwrap();
    wait_inside(&server, Activity::Sending, KEPT * 3 / 2);
    valve.heal();
    wait_inside(&server, Activity::Reading, SEEN);
    client.write_all(rest).unwrap();
    assert_arrived(server, client, &valve, 64);
}

#[test]
fn time_in_a_rate_pause_counts_for_no_deadline() {
    let mut config = held_up();
    config.rate_limit = Some(10);
    let stage = Stage::start(config);
    let mut actor = stage.connect();
    // More than seven seconds' worth at once, inside a frame.
    let read = actor.run(|conn, out| {
        conn.frame_progress(0, true);
        let item = Item {
            messages: 80,
            ..Item::light(0)
        };
        out.send(item).unwrap();
        conn.read(&mut [0]).ok()
    });
    let wait_in = |state: Activity, long: Duration| {
        wait_until(&format!("{state:?} inside a frame"), DEADLINE, || {
            let connections = stage.server.connections();
            connections.iter().any(|connection| {
                connection.inside_frame && connection.state == state && connection.in_state >= long
            })
        });
    };
    wait_in(Activity::Pausing, KEPT * 3 / 2);
    wait_in(Activity::Reading, SEEN);
    actor.client.write_all(b".").unwrap();
    assert_eq!(read.wait(), Some(1));
    stage.end();
}

/// A server that replies without end, and how each of its handlers ended.
fn start_writer(
    write_timeout: Option<Duration>,
) -> (drainline::Server, mpsc::Receiver<Option<EndReason>>) {
    let mut config = no_deadlines();
    config.write_timeout = write_timeout;
    let (ended, how) = mpsc::channel();
    let server = small::server::<Vec<u8>>()
        .config(config)
        .listen(ANY.parse().unwrap())
        .start_each(
            move |conn, _| {
                let block = vec![b'x'; 256 << 10];
                loop {
                    if let Err(error) = conn.write_all(&block) {
                        ended.send(Ended::reason_of(&error))?;
                        return Err(error.into());
                    }
                }
            },
            |_| Ok(()),
        )
        .unwrap();
    (server, how)
}

#[test]
fn a_peer_that_does_not_read_its_replies_times_out() {
    let (server, how) = start_writer(Some(SHORT));
    let _client = client::connect(server.local_addrs()[0]);
    let told = how.recv_timeout(DEADLINE).unwrap();
    assert_eq!(told, Some(EndReason::WriteTimeout));
    wait_until("the connection's end", DEADLINE, || {
        server.stats().ended.get(EndReason::WriteTimeout) == 1
    });
}

#[test]
fn a_peer_that_reads_its_replies_does_not_time_out() {
    let (server, how) = start_writer(Some(KEPT));
    let mut client = client::connect(server.local_addrs()[0]);
    let end = std::time::Instant::now() + KEPT * 3 / 2;
    let mut buffer = vec![0; 256 << 10];
    while std::time::Instant::now() < end {
        assert!(client.read(&mut buffer).unwrap() > 0);
    }
    assert!(how.try_recv().is_err());
    assert!(server.stats().open == 1);
}

#[test]
fn without_a_write_timeout_a_peer_need_not_read() {
    let (server, how) = start_writer(None);
    let mut client = client::connect(server.local_addrs()[0]);
    wait_until("a write that blocks", DEADLINE, || {
        let connections = server.connections();
        connections.iter().any(|connection| {
            connection.state == Activity::Writing && connection.in_state > SHORT * 3
        })
    });
    assert!(how.try_recv().is_err());
    assert_eq!(client.read(&mut [0]).unwrap(), 1);
}

#[test]
fn a_handler_that_reports_no_progress_has_no_frame_deadline() {
    let mut config = no_deadlines();
    config.frame_timeout = Some(SHORT);
    let server = echo::start(config, &[ANY]);
    let mut client = echo::connect_served(server.local_addrs()[0]);
    thread::sleep(QUIET);
    echo::assert_served(&mut client);
}
