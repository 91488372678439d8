//! How `drainline load` ends when something is in its way, or somebody ends it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::port::free_port;
use crate::common::proc;
use crate::common::tool::{refused, run, verify};
use crate::common::wait::{DEADLINE, wait_until, within};
use rustix::process::Signal;
use serde_json::Value;
use socket2::SockRef;

/// A load that is under way.
fn start(address: &str, flags: &[&str]) -> Drainline {
    let args = [&["load", address, "--json", "-"], flags].concat();
    Drainline::with(&args).bare().spawn()
}

fn report(child: &Drainline) -> Value {
    serde_json::from_slice(&child.stdout_bytes()).unwrap()
}

#[test]
fn a_signal_ends_it_with_its_report_and_no_message_in_half() {
    for (signal, flags) in [
        (Signal::INT, &["--connections=4"][..]),
        (Signal::TERM, &["--connections=4", "--rate=500"]),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("messages");
        let sink = format!("file:{}", path.display());
        let mut server = Drainline::start(&["--sink", &sink]);
        let address = server.addr().to_string();
        let flags = [&["--numbered", "--duration=1h", "--wait-close"], flags].concat();
        let mut child = start(&address, &flags);
        wait_until("messages in the sink", DEADLINE, || {
            fs::metadata(&path).is_ok_and(|file| file.len() > 100_000)
        });
        child.signal(signal);
        child.wait().assert_code(0);
        let report = report(&child);
        assert_eq!(report["stopped"], true);
        let exit = server.terminate();
        exit.assert_code(0);
        assert_eq!(
            (&report["messages"], exit.u64("unterminated")),
            (&exit.report["received"], 0)
        );
        let (code, told) = verify(&path, &["--connections=4"]);
        assert_eq!(
            (code, &told["messages"]),
            (Some(0), &report["messages"]),
            "{told}"
        );
    }
}

/// A server that accepts and does not read.
fn deaf() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Its connections have it from the listener: they are full soon.
    SockRef::from(&listener)
        .set_recv_buffer_size(64 * 1024)
        .unwrap();
    let address = listener.local_addr().unwrap().to_string();
    (listener, address)
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let (listener, address) = deaf();
    // More than the buffers of both sockets: a message that has begun is never finished.
    let mut child = start(&address, &["--duration=1h", "--size=64MiB"]);
    let (stream, _) = listener.accept().unwrap();
    let ports = [stream.local_addr(), stream.peer_addr()].map(|end| end.unwrap().port());
    wait_until("bytes that nobody reads", DEADLINE, || {
        proc::unread_bytes(ports[0], ports[1]) > Some(0)
    });
    // A signal that comes while the one before is still to be served is the same one: so more than
    // two.
    wait_until("the end by a second signal", DEADLINE, || {
        if !child.has_ended() {
            child.signal(Signal::INT);
        }
        child.has_ended()
    });
    assert_eq!(child.wait().code, Some(128 + 2));
    assert_eq!(child.stdout_bytes(), b"");
}

/// What had begun may still be taken.
#[test]
fn whoever_waits_after_a_signal_for_a_server_that_takes_nothing_does_so_asleep() {
    let (_listener, address) = deaf();
    let mut child = start(&address, &["--connections=4", "--messages=100000000"]);
    let pid = child.pid();
    wait_until("a load that has to wait", DEADLINE, || {
        proc::is_asleep(pid) && proc::cpu_time(pid) > Duration::ZERO
    });
    let (before, begun) = (proc::cpu_time(pid), Instant::now());
    child.signal(Signal::TERM);
    let mut used = Duration::ZERO;
    wait_until("its end", DEADLINE, || {
        let has_ended = child.has_ended();
        if !has_ended {
            used = proc::cpu_time(pid) - before;
        }
        has_ended
    });
    let passed = begun.elapsed();
    assert!(used < passed / 10, "{used:?} of {passed:?}");
}

#[test]
fn what_a_deaf_server_does_not_take_is_told() {
    let (listener, address) = deaf();
    let mut child = start(
        &address,
        &["--duration=200ms", "--size=8MiB", "--messages=9"],
    );
    let _stream = listener.accept().unwrap();
    child.wait().assert_code(1);
    let report = report(&child);
    assert_eq!(
        (&report["messages"], &report["unsent"]),
        (&0.into(), &9.into()),
        "{report}"
    );
    assert_eq!(report["partial"], 1, "{report}");
}

/// Neither what it did not take is counted as late, nor the time in which it took nothing left out.
#[test]
fn a_deaf_server_does_not_look_fast() {
    let (listener, address) = deaf();
    let flags = ["--duration=2s", "--rate=100000", "--size=1KiB"];
    let mut child = start(&address, &flags);
    let _stream = listener.accept().unwrap();
    child.wait().assert_code(1);
    let report = report(&child);
    let number = |path: &str| report.pointer(path).unwrap().as_f64().unwrap();
    assert!(number("/seconds") >= 2.0, "{report}");
    assert!(number("/unsent") > 0.0, "{report}");
    assert!(number("/late_us/count") <= number("/messages"), "{report}");
}

#[test]
fn a_timeout_ends_a_load_that_a_server_takes_nothing_of() {
    let (listener, address) = deaf();
    for flags in [
        &["--messages=9", "--size=8MiB"][..],
        &["--duration=1h", "--size=8MiB"],
        &["--duration=1h", "--rate=10000", "--size=64KiB"],
        // All is taken, and the close never comes.
        &["--messages=1", "--wait-close"],
    ] {
        let mut child = start(&address, &[flags, &["--timeout=500ms"]].concat());
        let _stream = listener.accept().unwrap();
        child.wait().assert_code(1);
        let report = report(&child);
        assert_eq!(report["timed_out"], true, "{flags:?}: {report}");
    }
}

#[test]
fn a_server_that_takes_nothing_is_told_and_when_it_goes_on() {
    let (listener, address) = deaf();
    let mut child = start(&address, &["--messages=9", "--size=8MiB"]);
    let (mut stream, _) = listener.accept().unwrap();
    wait_until("a line about the stall", DEADLINE, || {
        child.stderr_text().contains("has taken nothing for 5 s")
    });
    let taken = within("the end of the load", DEADLINE, move || {
        std::io::copy(&mut stream, &mut std::io::sink()).unwrap()
    });
    assert_eq!(taken, 9 * ((8 << 20) + 1));
    let exit = child.wait();
    exit.assert_code(0);
    let lines: Vec<&str> = exit.stderr.lines().collect();
    assert_eq!(lines.len(), 2, "{exit}");
    assert!(lines[1].contains("goes on, after"), "{exit}");
    // On a busy machine the load is measured as a little less than the stall that it tells of.
    let seconds = report(&child)["seconds"].as_f64();
    assert!(seconds > Some(4.0), "{seconds:?}");
}

#[test]
fn a_stall_is_measured_and_the_stamps_do_not_leave_it_out() {
    const STALL: Duration = Duration::from_secs(3);
    let (listener, address) = deaf();
    let flags = [
        "--timestamped",
        "--rate=50",
        "--messages=200",
        "--size=64KiB",
    ];
    let mut child = start(&address, &flags);
    let stamps = within("the end of the load", DEADLINE, move || {
        let (stream, _) = listener.accept().unwrap();
        // The stall itself, and no wait for anything.
        thread::sleep(STALL);
        let lines = BufReader::new(stream).split(b'\n').map(Result::unwrap);
        let stamp = |line: Vec<u8>| String::from_utf8(line[..19].to_vec()).unwrap();
        let stamps: Vec<u64> = lines.map(|line| stamp(line).parse().unwrap()).collect();
        stamps
    });
    child.wait().assert_code(0);
    assert_eq!(stamps.len(), 200);
    // Had each the time of its write, those behind the stall would begin about 3 s after those
    // before.
    let gaps: Vec<u64> = stamps
        .windows(2)
        .map(|two| two[1].saturating_sub(two[0]))
        .collect();
    let longest = Duration::from_nanos(*gaps.iter().max().unwrap());
    assert!(longest < STALL / 2, "a gap of {longest:?}");
    let stall = &report(&child)["stall_us"];
    assert!(stall["max"].as_f64().unwrap() > 1e6, "{stall}");
}

#[test]
fn connections_are_held_open_when_all_is_sent() {
    let mut server = Drainline::start(&["--sink", "null"]);
    let address = server.addr().to_string();
    let mut child = start(&address, &["--connections=20", "--messages=3", "--hold=1h"]);
    wait_until("the line that says so", DEADLINE, || {
        child.stderr_text().contains("connections stay open for 1h")
    });
    server.wait_for_status("20 connections", |status| {
        status["connections"].as_array().unwrap().len() == 20
    });
    child.signal(Signal::INT);
    child.wait().assert_code(0);
    assert_eq!(report(&child)["messages"], 60);
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(
        (exit.u64("received"), exit.u64("connections.ended.eof")),
        (60, 20)
    );
}

/// Resets each connection that comes, as soon as something was read of it; so many in all.
fn resetting(listener: TcpListener, count: usize) -> impl FnOnce() {
    let server = thread::spawn(move || {
        for _ in 0..count {
            let (stream, _) = listener.accept().unwrap();
            BufReader::new(&stream).fill_buf().unwrap();
            client::reset(stream);
        }
    });
    || {
        within("the end of a server", DEADLINE, || server.join().unwrap());
    }
}

#[test]
fn a_connection_that_is_reset_is_told_and_not_tried_again() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let server = resetting(listener, 1);
    let mut child = start(&address, &["--messages=100000000"]);
    child.wait().assert_code(1);
    server();
    let report = report(&child);
    assert_eq!(
        (&report["connects"], &report["connect_errors"]),
        (&1.into(), &0.into())
    );
    assert_eq!(report["write_errors"], 1, "{report}");
    let all = report["messages"].as_u64().unwrap() + report["unsent"].as_u64().unwrap();
    assert_eq!(all, 100_000_000);
    let error = report["first_error"].as_str().unwrap();
    assert!(error.contains("reset") || error.contains("pipe"), "{error}");
}

#[test]
fn a_connection_that_is_reset_or_refused_is_tried_again_where_time_is_left() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    // After three resets nobody listens any more.
    let server = resetting(listener, 3);
    let mut child = start(&address, &["--duration=1s"]);
    child.wait().assert_code(1);
    server();
    let report = report(&child);
    assert!(report["connects"].as_u64().unwrap() >= 3, "{report}");
    assert!(report["write_errors"].as_u64().unwrap() >= 3, "{report}");
    let refused = report["connect_errors"].as_u64().unwrap();
    // At once, after 10 ms, 20, 40, ...: a second has room for seven, and a hurried loop would make
    // thousands.
    assert!((1..=20).contains(&refused), "{report}");
}

#[test]
fn a_server_that_ends_a_connection_first_is_told() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut child = start(&address, &["--rate=10", "--messages=100000"]);
    let (mut stream, _): (TcpStream, _) = listener.accept().unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    client::read_to_end(&mut stream);
    child.wait().assert_code(1);
    assert_eq!(report(&child)["closed_early"], 1);
}

#[test]
fn what_a_server_says_is_read_to_its_end_though_in_parts() {
    const SAID: usize = 48 * 1024;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut child = start(&address, &["--rate=1", "--messages=100000"]);
    let (mut stream, _) = listener.accept().unwrap();
    // All of it is there, the end included, before any of it is read: nothing more will be told of
    // this socket.
    child.signal(Signal::STOP);
    wait_until("all of its threads stopped", DEADLINE, || {
        proc::is_stopped(child.pid())
    });
    stream.write_all(&[b'.'; SAID]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let ports = [stream.peer_addr(), stream.local_addr()].map(|end| end.unwrap().port());
    wait_until("the end of what was said", DEADLINE, || {
        proc::unread_bytes(ports[0], ports[1]) == Some(SAID as u64 + 1)
    });
    child.signal(Signal::CONT);
    child.wait().assert_code(1);
    assert_eq!(report(&child)["closed_early"], 1);
}

#[test]
fn whom_nobody_answers_is_one_line() {
    let address = format!("127.0.0.1:{}", free_port());
    for flags in [
        &["--messages=1"][..],
        &["--duration=1h", "--connections=50"],
    ] {
        let begun = Instant::now();
        let launch = Drainline::with(&[&["load", &address], flags].concat());
        refused(launch, 1, &[&address, "refused"]);
        assert!(begun.elapsed() < DEADLINE);
    }
}

#[test]
fn what_cannot_be_is_one_line() {
    let address = "127.0.0.1:9";
    for (flags, code, parts) in [
        (&[][..], 2, &["missing value for ADDRESS"][..]),
        (
            &["nowhere"],
            2,
            &["invalid value 'nowhere' for ADDRESS", "127.0.0.1:5140"],
        ),
        (
            &[address, "--rate", "0"],
            2,
            &["invalid value '0' for --rate: expected a rate"],
        ),
        (
            &[address, "--numbered", "--size", "20"],
            2,
            &["invalid value '20' for --size", "32 bytes or more"],
        ),
        (
            &[address, "--frobnicate"],
            2,
            &["--frobnicate", "drainline load -h"],
        ),
        (
            &[address, "--connections", "999999"],
            78,
            &["--connections 999999: "],
        ),
    ] {
        refused(Drainline::with(&[&["load"], flags].concat()), code, parts);
    }
    let many = Drainline::with(&["load", address, "--connections", "100"]);
    let parts = ["--connections 100: ", "descriptors are needed", "is 64"];
    refused(many.shell("ulimit -n 64"), 78, &parts);
    let (exit, _) = run(&["laod", address]);
    exit.assert_code(2);
}
