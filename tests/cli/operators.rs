//! What whoever operates the program is told: probes are counted and not spoken of, SIGUSR1 shows
//! who waits for what, and whoever is disconnected is named, once for many.

use std::io::Write;
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::child::{Drainline, Stdout};
use crate::common::client::{self, Closed};
use crate::common::proc;
use crate::common::tagged::{Cut, MIN_MESSAGE, Tagged};
use crate::common::told::{assert_one_named, logged, names, the_line};
use crate::common::wait::{DEADLINE, wait_for, wait_until};
use rustix::process::Signal;
use serde_json::Value;

/// How many do the same.
const MANY: usize = 5;

#[test]
fn a_probe_is_counted_apart_and_logged_by_nobody() {
    let mut child = Drainline::start(&["--log-level", "trace"]);
    for _ in 0..MANY {
        drop(child.connect());
        client::reset(child.connect());
    }
    // Accepted after them.
    let mut last = child.connect();
    last.write_all(b"no probe\n").unwrap();
    assert_eq!(client::half_close(last), Closed::Clean);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.no_data"), 2 * MANY as u64);
    assert_eq!(exit.u64("connections.ended.eof"), 1);
    assert_eq!(logged(&exit), [""; 0]);
}

#[test]
fn at_debug_each_connections_begin_and_end_are_told_and_no_message() {
    let mut child = Drainline::start(&["--log-level", "debug", "--max-connections-per-ip", "1"]);
    let at = child.addr();
    let mut ids = Vec::new();
    for (messages, resets) in [(3, false), (1000, true)] {
        let mut client = child.connect();
        let peer = client.local_addr().unwrap();
        let bytes = Tagged::new(0).lines(0..messages, 100);
        client.write_all(&bytes).unwrap();
        child.wait_until_read(&client, bytes.len());
        // One too many.
        client::wait_for_close(&mut child.connect());
        if resets {
            client::reset(client);
        } else {
            client::half_close(client);
        }
        let reason = if resets { "reset" } else { "eof" };
        ids.push(wait_for("its begin and end", DEADLINE, || {
            let told = child.stderr_text();
            let begin = format!(" from {peer} accepted at {at}");
            let id = told.split_once(&begin)?.0.rsplit(' ').next()?.to_owned();
            let end = format!(
                "connection {id} from {peer} at {at} ended: {reason}; {messages} messages sent, {} bytes read",
                bytes.len()
            );
            told.contains(&end).then_some(id)
        }));
    }
    assert_eq!(ids, ["1", "2"]);
    let exit = child.terminate();
    let debug = exit.stderr.lines().filter(|line| line.contains(" DEBUG "));
    let turned_away = debug.clone().filter(|line| line.contains(" rejected "));
    assert_eq!(
        (debug.clone().count(), turned_away.count()),
        (6, 2),
        "{exit}"
    );
}

#[test]
fn at_debug_a_pause_and_a_rate_that_holds_back_are_told() {
    let args = ["--when-full", "block", "--pause-after", "300ms"];
    let (mut child, mut clients) = held_up(&[&args[..], &["--log-level", "debug"]].concat(), 1);
    wait_until("a pause", DEADLINE, || {
        let told = child.stderr_text();
        told.contains(" DEBUG drainline] a pause begins: 1 sender waiting")
    });
    child.collect_stdout();
    assert_eq!(client::half_close(clients.remove(0)), Closed::Clean);
    wait_until("its end", DEADLINE, || {
        child.stderr_text().contains("] a pause ends: ")
    });
    child.terminate().assert_code(0);

    let mut child = Drainline::start(&["--rate-limit", "50", "--log-level", "debug"]);
    let mut client = child.connect();
    client
        .write_all(&Tagged::new(0).lines(0..200, 100))
        .unwrap();
    wait_until("all of it read", DEADLINE, || {
        child.checker().total() == 200
    });
    client::half_close(client);
    let exit = child.terminate();
    let held = exit.stderr.lines();
    let held = held.filter(|line| line.contains(" is held back by rate_limit"));
    assert_eq!(held.count(), 1, "once, however often: {exit}");
}

/// Messages of a client that is held up.
const EACH: u64 = 1_000;

/// Starts a server whose sink is stuck, and has clients fill it: they wait for its buffer.
fn held_up(args: &[&str], clients: usize) -> (Drainline, Vec<TcpStream>) {
    let child = Drainline::with(&[&["--buffer-messages", "8"], args].concat())
        .stdout(Stdout::Unread)
        .start();
    let mut all = client::connect_many(child.addr(), clients);
    for (connection, client) in (0..).zip(&mut all) {
        // More than the sink's pipe holds.
        let sent = Tagged::new(connection).send(client, 0..EACH, 100, Cut::Blocks);
        assert_eq!(sent.all().messages, EACH);
    }
    (child, all)
}

#[test]
fn a_usr1_shows_who_waits_for_how_long_and_what_the_sink_is_at() {
    let (mut child, clients) = held_up(&["--when-full", "block", "--pause-after", "300ms"], 2);
    let peers = names(&clients);
    let status = child.wait_for_status("a pause", |status| {
        status["overload"] == "paused"
            && status["not_accepting"]["reason"] == "paused"
            && status["senders_waiting"] == 2
    });
    wait_until("the change is told", DEADLINE, || {
        let told = child.stderr_text();
        let line = told
            .lines()
            .rfind(|line| line.contains(" -> paused after "));
        line.is_some_and(|line| line.ends_with(" lost meanwhile; not accepting (paused)"))
    });
    for (id, peer) in (1..).zip(&peers) {
        let mut connections = status["connections"].as_array().unwrap().iter();
        let connection = connections.find(|connection| connection["id"] == id);
        let connection = connection.unwrap_or_else(|| panic!("{status}"));
        assert_eq!(connection["peer"], **peer, "{status}");
        assert_eq!(connection["state"], "sending", "{status}");
        assert!(
            connection["state_seconds"].as_f64().unwrap() >= 0.1,
            "{status}"
        );
        let count = |name: &str| connection[name].as_u64().unwrap();
        let (messages, bytes) = (count("messages"), count("bytes"));
        assert!(
            bytes > 0 && messages * MIN_MESSAGE as u64 <= bytes,
            "{status}"
        );
    }
    assert_eq!(status["consumer"]["name"], "stdout", "{status}");
    let seconds = |value: &Value| value.as_f64().unwrap();
    assert!(
        seconds(&status["consumer"]["busy_seconds"]) > 0.0,
        "{status}"
    );
    assert!(seconds(&status["longest_wait_seconds"]) > 0.0, "{status}");
    assert!(status["in_flight"].as_u64().unwrap() > 0, "{status}");
    // How long in all, for each reason, as in the ledger.
    let not_accepting = status["not_accepting_seconds"].as_object().unwrap();
    for (reason, time) in not_accepting {
        assert_eq!(seconds(time) > 0.0, reason == "paused", "{status}");
    }

    child.collect_stdout();
    for client in clients {
        assert_eq!(client::half_close(client), Closed::Clean);
    }
    let exit = child.terminate();
    exit.assert_code(0);
    child.checker().expect_exact(&[(0, EACH), (1, EACH)]);
}

#[test]
fn senders_that_are_disconnected_are_named_with_the_limit_and_once_for_many() {
    let (mut child, clients) = held_up(&["--send-timeout", "400ms", "--pause-after", "off"], MANY);
    let peers = names(&clients);
    for mut client in clients {
        client::wait_for_close(&mut client);
    }
    child.collect_stdout();
    let exit = child.terminate();
    exit.assert_code(3);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.send_timeout"), MANY as u64);
    let says = "timed out: send_timeout of 400ms passed after ";
    assert_one_named(&exit, &peers, says, "send timeout");
}

#[test]
fn clients_over_the_limit_of_their_address_are_named_with_it_and_once_for_many() {
    let mut child = Drainline::start(&["--max-connections-per-ip", "1"]);
    let mut first = child.connect();
    first.write_all(b"one\n").unwrap();
    wait_until("its line", DEADLINE, || child.stdout_len() > 0);
    let mut clients = client::connect_many(child.addr(), MANY);
    let peers = names(&clients);
    for client in &mut clients {
        client::wait_for_close(client);
    }
    let exit = child.terminate();
    assert_eq!(exit.u64("connections.rejected.per_address"), MANY as u64);
    let line = the_line(&exit, " rejected ");
    assert!(
        line.ends_with(": per_address, max_connections_per_ip (1) reached"),
        "{line}"
    );
    assert!(
        peers
            .iter()
            .any(|peer| line.contains(&format!(" {peer}: "))),
        "{line}"
    );
    the_line(&exit, "suppressed 4 similar messages: per_address");
}

/// Longer than the sender's patience and the drain's time below.
const STOPPED_FOR: Duration = Duration::from_secs(6);

/// SIGSTOP, and SIGCONT after [`STOPPED_FOR`]: a paused container, or a machine that was suspended.
fn stop_and_continue(children: &mut [&mut Drainline]) {
    for child in &mut *children {
        child.signal(Signal::STOP);
        wait_until("it stands still", DEADLINE, || {
            proc::is_stopped(child.pid())
        });
    }
    thread::sleep(STOPPED_FOR);
    for child in children {
        child.signal(Signal::CONT);
    }
}

#[track_caller]
fn wait_held_up(child: &mut Drainline) {
    child.wait_for_status("a sender in line", |status| {
        let mut connections = status["connections"].as_array().unwrap().iter();
        connections.any(|connection| connection["state"] == "sending")
    });
}

#[test]
fn a_process_that_stood_still_cuts_no_sender_and_loses_none_of_its_messages() {
    let mut held: Vec<_> = ["abort", "drop"]
        .iter()
        .map(|when_full| {
            held_up(
                &[
                    "--send-timeout",
                    "5s",
                    "--pause-after",
                    "off",
                    "--when-full",
                    when_full,
                ],
                1,
            )
        })
        .collect();
    for (child, _) in &mut held {
        wait_held_up(child);
    }
    stop_and_continue(&mut held.iter_mut().map(|(child, _)| child).collect::<Vec<_>>());
    for (mut child, mut clients) in held {
        // It runs again, and its sink goes on well within what is left of the sender's patience.
        wait_held_up(&mut child);
        child.collect_stdout();
        assert_eq!(client::half_close(clients.remove(0)), Closed::Clean);
        child.terminate().assert_code(0);
        child.checker().expect_exact(&[(0, EACH)]);
    }
}

#[test]
fn a_drain_counts_the_time_that_the_process_stood_still() {
    let (mut child, _clients) = held_up(&["--when-full", "block", "--drain-timeout", "5s"], 1);
    wait_held_up(&mut child);
    child.signal(Signal::TERM);
    wait_until("it drains", DEADLINE, || {
        child.stderr_text().contains("] draining")
    });
    stop_and_continue(&mut [&mut child]);
    let began = Instant::now();
    child.wait().assert_code(4);
    assert!(began.elapsed() < STOPPED_FOR / 2, "{:?}", began.elapsed());
}
