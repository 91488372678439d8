//! The watchdog: what is stuck is named, in `connections()` and in the log, with its peer, where,
//! and for how long.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Mutex, Once, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::client::{self, Closed};
use crate::common::echo;
use crate::common::puppets::{Actor, Item, Stage};
use crate::common::small;
use crate::common::tagged::{Cut, Tagged};
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_for, wait_until};
use drainline::policy::Activity;
use drainline::{Config, ConnectionInfo, EndReason, OnOverload, PauseAfter, Peer, Received};

/// What is stuck for longer is named.
const WARN_AFTER: Duration = Duration::from_millis(200);

fn config(buffer_messages: usize) -> Config {
    let mut config = small::config();
    config.buffer_messages = buffer_messages;
    config.send_timeout = DEADLINE * 10;
    config.pause_after = PauseAfter::Off;
    config.warn_after = WARN_AFTER;
    config
}

/// What is shown is as old as the last tick.
const TWO_TICKS: Duration = Duration::from_millis(200);

static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());

struct Collect;

impl log::Log for Collect {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let line = format!("{} {}", record.level(), record.args());
        LINES.lock().unwrap().push(line);
    }

    fn flush(&self) {}
}

/// The process's log is collected from now on: that of every server in it, so a line is known by
/// what it names.
fn collect_log() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&Collect).unwrap();
        log::set_max_level(log::LevelFilter::Trace);
    });
}

fn lines_with(parts: &[&str]) -> Vec<String> {
    let lines = LINES.lock().unwrap();
    let named = lines
        .iter()
        .filter(|line| parts.iter().all(|part| line.contains(part)));
    named.cloned().collect()
}

#[track_caller]
fn wait_line(parts: &[&str]) -> String {
    wait_for(&format!("a line with {parts:?}"), DEADLINE, || {
        lines_with(parts).pop()
    })
}

fn peer(actor: &Actor) -> Peer {
    actor.client.local_addr().unwrap().into()
}

/// What is known of this actor's connection, once it has been in `state` for longer than two ticks.
#[track_caller]
fn shown(stage: &Stage, actor: &Actor, state: Activity) -> ConnectionInfo {
    wait_for(&format!("it is shown {state:?}"), DEADLINE, || {
        let connections = stage.server.connections();
        connections.into_iter().find(|connection| {
            connection.peer == peer(actor)
                && connection.state == state
                && connection.in_state > TWO_TICKS
        })
    })
}

#[test]
fn connections_show_peer_state_and_time_in_it() {
    let stage = Stage::start(config(1));
    let [working, reading, sending, writing] = [(); 4].map(|()| stage.connect());
    let id = reading.id();
    let _read = reading.run(|conn, _| conn.read(&mut [0]).unwrap());
    assert_eq!(working.send(Item::light(0)).wait(), Ok(()));
    let sent = sending.send(Item::light(1));
    let _written = writing.run(|conn, _| conn.write_all(&[0; 64 << 20]).is_ok());

    let info = shown(&stage, &working, Activity::Working);
    assert_eq!((info.messages, info.bytes), (1, 0));
    let info = shown(&stage, &reading, Activity::Reading);
    assert_eq!((info.id, info.ended, info.peer_gone), (id, None, false));
    shown(&stage, &sending, Activity::Sending);
    let info = shown(&stage, &writing, Activity::Writing);
    let text = info.to_string();
    assert!(
        text.contains(&format!("{} writing, for ", peer(&writing))),
        "{text}"
    );
    wait_until("time goes on", DEADLINE, || {
        shown(&stage, &sending, Activity::Sending).in_state > Duration::from_millis(1500)
    });

    // A change of state begins anew.
    let begun = Instant::now();
    stage.take(1);
    stage.finish_oldest();
    assert_eq!(sent.wait(), Ok(()));
    let in_state = wait_for("it is shown at work", DEADLINE, || {
        let connections = stage.server.connections();
        let info = connections.iter().find(|info| info.peer == peer(&sending));
        info.filter(|info| info.state == Activity::Working)
            .map(|info| info.in_state)
    });
    let since = begun.elapsed() + TWO_TICKS;
    assert!(in_state < since, "{in_state:?} of {since:?}");
}

#[test]
fn a_connection_stuck_in_one_send_is_named_and_of_several_like_it_only_one() {
    collect_log();
    let stage = Stage::start(config(1));
    let first = stage.connect();
    assert_eq!(first.send(Item::light(0)).wait(), Ok(()));
    let stuck: Vec<_> = (1..4)
        .map(|name| {
            let actor = stage.connect();
            let sent = actor.send(Item::light(name));
            (actor, sent)
        })
        .collect();
    let named = || {
        let lines = stuck.iter().map(|(actor, _)| {
            let from = format!("from {} has waited for the buffer", peer(actor));
            lines_with(&["WARN", &from]).len()
        });
        lines.sum::<usize>()
    };
    wait_until("one named", DEADLINE, || named() > 0);
    // The others are as stuck, and counted.
    wait_until("all past the limit", DEADLINE, || {
        let connections = stage.server.connections();
        let past = connections.iter().filter(|connection| {
            connection.state == Activity::Sending && connection.in_state > WARN_AFTER * 2
        });
        past.count() == 3
    });
    stays("one is named", WARN_AFTER, || named() == 1);
    stage.end();
    wait_line(&["suppressed 2 similar messages: sender waiting"]);
}

#[test]
fn a_connection_stuck_in_its_own_code_is_named_and_left_alone() {
    collect_log();
    let stage = Stage::start(config(1));
    let mut actor = stage.connect();
    let (let_go, held) = mpsc::channel::<()>();
    let task = actor.run(move |_, _| held.recv());
    let line = wait_line(&[
        "WARN",
        &format!("from {}", peer(&actor)),
        "has been in its handler's code",
    ]);
    assert!(line.contains("connection 1 from"), "{line}");
    assert!(!client::is_closed(&actor.client));
    let_go.send(()).unwrap();
    task.wait().unwrap();
    actor.run(|conn, _| conn.write_all(b".").unwrap()).wait();
    assert_eq!(actor.client.read(&mut [0]).unwrap(), 1);
    assert_eq!(stage.end().stats.ended.total(), 1);
}

#[test]
fn a_sink_that_is_stuck_is_named_with_what_it_holds_up() {
    collect_log();
    let valve = Valve::shut();
    let server = small::ingest()
        .config(config(8))
        .listen(echo::ANY.parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let mut client = client::connect(server.local_addrs()[0]);
    let sent = Tagged::new(1).send(&mut client, 0..3, 100, Cut::Once);
    assert_eq!(sent.all().messages, 3);
    let line = wait_line(&["WARN", "valve has finished nothing for"]);
    assert!(line.contains(" in flight, "), "{line}");
    valve.heal();
    assert_eq!(client::half_close(client), Closed::Clean);
    server.shutdown(DEADLINE);
    valve.checker().expect_exact(&[(1, 3)]);
}

#[test]
fn a_consumer_that_waits_for_work_is_not_called_stuck() {
    collect_log();
    let server = small::server::<String>()
        .config(config(8))
        .listen(echo::ANY.parse().unwrap())
        .start(
            |_, _| Ok(()),
            |receiver| {
                receiver.set_name("the idle one");
                while !matches!(receiver.recv(DEADLINE), Received::Closed) {}
                Ok(())
            },
        )
        .unwrap();
    stays("it is not named", WARN_AFTER * 4, || {
        lines_with(&["the idle one"]).is_empty()
    });
    server.shutdown(DEADLINE);
    assert_eq!(lines_with(&["the idle one"]), [""; 0]);
}

#[test]
fn a_slow_consumer_that_goes_on_is_not_called_stuck() {
    collect_log();
    // Far above what one item takes, and below what all of them do: a machine that stumbles is no
    // stuck consumer.
    let mut config = config(100);
    config.warn_after = Duration::from_secs(1);
    const EACH: Duration = Duration::from_millis(100);
    let server = small::server::<String>()
        .config(config)
        .listen(echo::ANY.parse().unwrap())
        .start(
            |_, out| {
                for _ in 0..20 {
                    out.send(String::new())?;
                }
                Ok(())
            },
            |receiver| {
                receiver.set_name("the slow one");
                loop {
                    match receiver.recv(DEADLINE) {
                        Received::Message(delivery) => {
                            thread::sleep(EACH);
                            delivery.ack();
                        }
                        Received::Timeout | Received::RoomWanted => {}
                        Received::Closed => return Ok(()),
                    }
                }
            },
        )
        .unwrap();
    let _client = client::connect(server.local_addrs()[0]);
    wait_until("all delivered", DEADLINE, || server.stats().delivered == 20);
    server.shutdown(DEADLINE);
    assert_eq!(lines_with(&["the slow one"]), [""; 0]);
}

#[test]
fn a_peer_that_has_gone_is_shown_and_its_messages_are_delivered() {
    let valve = Valve::shut();
    let server = small::ingest()
        .config(config(8))
        .listen(echo::ANY.parse().unwrap())
        .start(valve.sink())
        .unwrap();
    let addr = server.local_addrs()[0];
    let [mut gone, mut stays] = [client::connect(addr), client::connect(addr)];
    for (number, client) in [(1, &mut gone), (2, &mut stays)] {
        let sent = Tagged::new(number).send(client, 0..64, 100, Cut::Once);
        assert_eq!(sent.all().messages, 64);
    }
    let gone_addr = gone.local_addr().unwrap().into();
    drop(gone);
    let info = wait_for("its peer seen gone", DEADLINE, || {
        let connections = server.connections();
        connections.into_iter().find(|info| info.peer_gone)
    });
    assert_eq!((info.peer, info.state), (gone_addr, Activity::Sending));
    assert_eq!(
        info.ended, None,
        "it is shown, and nothing is done about it"
    );
    let text = info.to_string();
    assert!(text.contains("sending, peer gone, for "), "{text}");

    valve.heal();
    assert_eq!(client::half_close(stays), Closed::Clean);
    wait_until("its end", DEADLINE, || {
        server.report().stats.ended.get(EndReason::Eof) == 2
    });
    let report = server.shutdown(DEADLINE);
    assert!(report.is_balanced(), "{report:?}");
    valve.checker().expect_exact(&[(1, 64), (2, 64)]);
}

#[test]
fn that_an_inherited_listener_cannot_refuse_is_said_at_start() {
    collect_log();
    let mut config = config(8);
    config.on_overload = OnOverload::Refuse;
    let listener = TcpListener::bind(echo::ANY).unwrap();
    let server = echo::start_on(config, listener);
    wait_line(&[
        "WARN",
        "on_overload refuse does not work for an inherited listener",
    ]);
    server.shutdown(DEADLINE);
}

#[test]
fn a_consumer_that_does_not_return_is_named_at_the_end() {
    collect_log();
    let (release, never) = mpsc::channel::<()>();
    let (never, (tell, told)) = (Mutex::new(never), mpsc::channel());
    let server = small::server::<String>()
        .config(config(8))
        .listen(echo::ANY.parse().unwrap())
        .start(
            |_, _| Ok(()),
            move |receiver| {
                receiver.set_name("the one that hangs");
                tell.send(())?;
                let _ = never.lock().unwrap().recv();
                Ok(())
            },
        )
        .unwrap();
    told.recv_timeout(DEADLINE).unwrap();
    assert!(server.shutdown(WARN_AFTER).timed_out);
    wait_line(&["ERROR", "abandoned: the one that hangs did not return"]);
    drop(release);
}
