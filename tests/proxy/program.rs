//! The program: what its log, its status and its exit code say.

use std::io::Write;
use std::thread;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use crate::behind::{CLIENT, OTHER, binary, line};
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::proc;
use crate::common::told::the_line;
use crate::common::wait::{DEADLINE, wait_until};
use crate::heads::encode::{LOCAL, v2_of};

const TRUSTED: [&str; 2] = ["--proxy-from", "127.0.0.0/8"];

fn start(args: &[&str]) -> Drainline {
    Drainline::start(&[&TRUSTED, args].concat())
}

#[test]
fn the_client_is_told_with_the_balancer_beside_it() {
    let mut child = start(&["--log-level", "debug", "--max-connections-per-ip", "1"]);
    let mut one = child.connect();
    one.write_all(&[&line(CLIENT)[..], b"one\ntwo"].concat())
        .unwrap();
    let balancer = one.local_addr().unwrap().to_string();
    let status = child.wait_for_status("the client", |status| {
        let connection = &status["connections"][0];
        connection["peer"] == CLIENT && connection["bytes"] == 7
    });
    let connection = &status["connections"][0];
    assert_eq!(connection["balancer"], balancer, "{status}");
    let mut second = child.connect();
    second
        .write_all(&[&binary(CLIENT)[..], b"lost\n"].concat())
        .unwrap();
    client::wait_for_close(&mut second);
    drop(one);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.per_address"), 1);
    assert_eq!(exit.u64("unread.ended.per_address"), 5);
    assert_eq!(exit.u64("bytes_read"), 7);
    assert_eq!(child.stdout_bytes(), b"one\ntwo\n");
    let by = format!("from {CLIENT} by {balancer}");
    for part in [": the balancer has named the client", " at "] {
        let part = format!("connection 1 {by}{part}");
        assert!(exit.stderr.contains(&part), "{part}: {exit}");
    }
    let refused = the_line(&exit, "is closed: per_address");
    assert!(
        refused.contains(&format!("connection 2 from {CLIENT} by 127.0.0.1:"))
            && refused.ends_with("is closed: per_address, max_connections_per_ip (1) reached"),
        "{refused}"
    );
}

#[test]
fn a_peer_that_is_turned_away_is_named_with_the_list_and_costs_no_exit_code() {
    let mut child = start(&["--allow", "192.0.2.0/24", "--handshake-timeout", "3s"]);
    let [mut stranger, mut plain, mut silent] = [(); 3].map(|()| child.connect());
    stranger
        .write_all(&[&line(OTHER)[..], b"lost\n"].concat())
        .unwrap();
    plain.write_all(b"<13>no header\n").unwrap();
    for connection in [&mut stranger, &mut plain, &mut silent] {
        client::wait_for_close(connection);
    }
    // A probe is none of these.
    let mut probe = child.connect();
    probe.write_all(&v2_of(LOCAL, 0, b"")).unwrap();
    client::half_close(probe);
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    for reason in [
        "not_allowed",
        "protocol_error",
        "handshake_timeout",
        "no_data",
    ] {
        assert_eq!(
            exit.u64(&format!("connections.ended.{reason}")),
            1,
            "{reason}"
        );
    }
    let named = |part: &str, end: &str| {
        let line = the_line(&exit, part);
        assert!(line.ends_with(end), "{line}");
    };
    named(
        &format!(" from {OTHER} by "),
        "is closed: not_allowed, not in allow",
    );
    named(
        &format!(" from {} ", plain.local_addr().unwrap()),
        r#"is closed after 0 bytes: no PROXY protocol header; it begins "<13>no header\n""#,
    );
    named(
        "timed out",
        "timed out: handshake_timeout of 3s passed after 0 bytes",
    );
}

#[test]
fn who_is_no_balancer_is_named_with_the_list() {
    for (flag, setting) in [("--proxy-from", "proxy_from"), ("--allow", "allow")] {
        let mut child = Drainline::start(&[flag, "10.0.0.0/8"]);
        let mut connection = child.connect();
        let _ = connection.write_all(&line(CLIENT));
        client::wait_for_close(&mut connection);
        let peer = connection.local_addr().unwrap();
        let exit = child.terminate();
        exit.assert_code(0);
        exit.assert_closes();
        assert_eq!(exit.u64("connections.rejected.not_allowed"), 1);
        let line = the_line(&exit, "rejected");
        let end = format!("rejected {peer}: not_allowed, not in {setting}");
        assert!(line.ends_with(&end), "{line}");
    }
}

#[test]
fn a_handshake_does_not_time_out_while_the_process_stands_still() {
    let mut child = start(&["--handshake-timeout", "3s"]);
    let mut connection = child.connect();
    let head = binary(CLIENT);
    connection.write_all(&head[..20]).unwrap();
    child.wait_for_status("the handshake", |status: &Value| {
        status["connections"][0]["state"] == "handshaking"
    });
    child.signal(Signal::STOP);
    wait_until("the stop", DEADLINE, || proc::is_stopped(child.pid()));
    thread::sleep(Duration::from_secs(4));
    child.signal(Signal::CONT);
    connection
        .write_all(&[&head[20..], b"whole\n"].concat())
        .unwrap();
    client::half_close(connection);
    let exit = child.terminate();
    exit.assert_code(0);
    assert_eq!(child.stdout_bytes(), b"whole\n");
}
