//! The program while it serves: signals, the log, the report.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;
use serde_json::{Value, json};

/// As the help has it. A file that is there keeps its mode.
#[test]
fn a_file_is_created_for_its_owner_and_group_whatever_the_umask_leaves_of_that() {
    for (umask, there, expected) in [
        ("000", None, 0o640),
        ("022", None, 0o640),
        ("077", None, 0o600),
        ("022", Some(0o666), 0o666),
    ] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mode = || fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        if let Some(mode) = there {
            fs::write(&path, "").unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let args = ["--sink", &format!("file:{}", path.display())];
        let mut child = Drainline::with(&args)
            .shell(format!("umask {umask}"))
            .start();
        assert_eq!(mode(), expected, "umask {umask}");
        fs::rename(&path, directory.path().join("log.1")).unwrap();
        child.signal(Signal::HUP);
        wait_until("the new file", DEADLINE, || path.exists());
        let expected = there.map_or(expected, |_| 0o640);
        assert_eq!(mode(), expected, "umask {umask}, reopened");
        child.terminate().assert_code(0);
    }
    let mut help = Drainline::with(&["--help"]).bare().spawn();
    help.wait().assert_code(0);
    let text = String::from_utf8(help.stdout_bytes()).unwrap();
    assert!(text.contains(" mode 0640 "), "{text}");
}

#[test]
fn a_usr1_lists_every_connection_with_its_id_its_peer_and_its_state() {
    let mut child = Drainline::start::<&str>(&[]);
    let mut clients = client::connect_many(child.addr(), 2);
    clients[0].write_all(b"one\nhalf").unwrap();
    wait_until("its line", DEADLINE, || child.stdout_bytes() == b"one\n");
    // At the first look the second may not have been accepted, or its handler not have begun to
    // read.
    let status = child.wait_for_status("both reading", |status| {
        let connections = status["connections"].as_array().unwrap();
        connections.len() == 2 && connections.iter().all(|each| each["state"] == "reading")
    });
    assert_eq!(status["overload"], "normal", "{status}");
    assert_eq!(status["not_accepting"], Value::Null, "{status}");
    for (id, client) in (1..).zip(&clients) {
        let connection = &status["connections"][id - 1];
        assert_eq!(connection["id"], id, "{status}");
        let peer = client.local_addr().unwrap().to_string();
        assert_eq!(connection["peer"], peer, "{status}");
    }
    let first = &status["connections"][0];
    assert_eq!(
        (&first["messages"], &first["bytes"]),
        (&1.into(), &8.into())
    );
    assert_eq!(first["inside_frame"], true, "{status}");
    let idle = json!({ "name": "stdout", "busy_seconds": 0.0 });
    assert_eq!(status["consumer"], idle, "{status}");
    // Also when there is no descriptor left to be had.
    child.limit(rustix::process::Resource::Nofile, Some(3));
    drop(clients.pop());
    child.wait_for_status("one listed", |status| {
        status["connections"].as_array().unwrap().len() == 1
    });
    child.terminate();
    assert_eq!(child.stdout_bytes(), b"one\n");
}

#[test]
fn a_usr1_is_answered_in_text_unless_json_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ports = directory.path().join("ports").display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--port-file", &ports];
    let mut child = Drainline::with(&args).bare().start();
    let mut client = child.connect();
    client.write_all(b"one\nhalf").unwrap();
    let peer = client.local_addr().unwrap();
    let listed = format!("\n1 {peer} reading, for ");
    let connection = "1 message, 8 bytes, inside a frame\n";
    let output = "\noutput stdout: required; received 1 = delivered 1 + dropped 0 + in flight 0; \
                  buffer 0 bytes; balanced; 0 messages unanswered\n";
    let server = "\n1 connection; overload: normal; accepting; no sender waiting; 0 messages in flight; stdout is idle\n";
    wait_until("the connection and the server told", DEADLINE, || {
        child.signal(Signal::USR1);
        let told = child.stderr_text();
        [&listed, connection, output, server]
            .iter()
            .all(|part| told.contains(*part))
    });
    child.terminate();
}

/// A text that left the listener out would not say which port a client had connected to.
#[test]
fn where_there_are_several_listeners_texts_about_a_connection_say_its_listener() {
    let directory = tempfile::tempdir().unwrap();
    let ports = directory.path().join("ports").display().to_string();
    let mut args = vec!["--listen", "127.0.0.1:0", "--listen", "127.0.0.1:0"];
    args.extend(["--framing", "octet-counted", "--port-file", &ports]);
    let mut child = Drainline::with(&args).bare().start();
    let [first, second] = *child.addrs() else {
        panic!("{:?}", child.addrs());
    };
    let mut open = client::connect(first);
    open.write_all(b"5 hel").unwrap();
    let mut broken = client::connect(second);
    broken.write_all(b"hello").unwrap();
    let (open, broken) = (open.local_addr().unwrap(), broken.local_addr().unwrap());
    let listed = format!(" {open} at {first} reading, for ");
    let logged = format!(" from {broken} at {second} is closed after 5 bytes: ");
    wait_until("both told with their listener", DEADLINE, || {
        child.signal(Signal::USR1);
        let told = child.stderr_text();
        told.contains(&listed) && told.contains(&logged)
    });
    child.terminate();
}

#[test]
fn rust_log_and_the_log_level_decide_what_is_logged_and_the_flag_wins() {
    let draining = "INFO  drainline] draining";
    for (flag, variable, logged) in [
        (None, None, true),
        (None, Some("error"), false),
        (None, Some("drainline=info"), true),
        (Some("error"), None, false),
        (Some("off"), Some("trace"), false),
        (Some("info"), Some("error"), true),
    ] {
        let args: Vec<&str> = flag
            .into_iter()
            .flat_map(|level| ["--log-level", level])
            .collect();
        let mut launch = Drainline::with(&args);
        if let Some(level) = variable {
            launch = launch.env("RUST_LOG", level);
        }
        let exit = launch.start().terminate();
        exit.assert_code(0);
        assert_eq!(
            exit.stderr.contains(draining),
            logged,
            "{flag:?}, {variable:?}: {exit}"
        );
        // The banner and the ledger are no log.
        assert!(
            exit.stderr.contains("try: ") && exit.report.is_object(),
            "{exit}"
        );
    }
}

#[test]
fn the_report_is_one_line_of_text_unless_json_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let ports = directory.path().join("ports").display().to_string();
    let args = ["--listen", "127.0.0.1:0", "--port-file", &ports];
    let mut child = Drainline::with(&args).bare().start();
    let mut client = child.connect();
    client.write_all(b"one\ntwo").unwrap();
    client::half_close(client);
    let exit = child.terminate();
    exit.assert_code(0);
    let reports: Vec<&str> = exit
        .stderr
        .lines()
        .filter(|line| line.contains("received"))
        .collect();
    assert_eq!(reports, [exit.stderr.lines().next_back().unwrap()]);
    for part in [
        "drainline: received 2 = delivered 2 + dropped 0 + in flight 0; truncated 0, unterminated 1; ",
        "bytes read 7 = messages 6 + framing 1 + discarded 0 + pending 0; unread 0; ",
        "connections accepted 1, rejected 0, ended 1 (eof 1); threads at most ",
        "; balanced",
    ] {
        assert!(reports[0].contains(part), "no {part:?} in {}", reports[0]);
    }
}

#[test]
fn the_json_report_has_every_figure_with_its_type() {
    let mut child = Drainline::start(&["--max-message", "5B", "--oversize", "drop"]);
    let mut client = child.connect();
    client.write_all(b"one\ntoo long\ntwo").unwrap();
    client::half_close(client);
    let exit = child.terminate();
    let counts = [
        "received",
        "delivered",
        "in_flight",
        "truncated",
        "unterminated",
        "bytes_read",
        "message_bytes",
        "framing_bytes",
        "pending",
        "unread_bytes",
        "threads_peak",
        "connections.accepted",
    ];
    for path in counts {
        exit.u64(path);
    }
    for path in [
        "dropped",
        "discarded",
        "connections.rejected",
        "connections.ended",
        "unread.rejected",
        "unread.ended",
    ] {
        // Each of its values is a count.
        exit.sum(path);
    }
    for level in ["normal", "backpressure", "paused", "shedding"] {
        assert!(exit.f64(&format!("overload_seconds.{level}")) >= 0.0);
    }
    assert!(exit.f64("uptime_seconds") > 0.0);
    assert_eq!(exit.report["balanced"], Value::Bool(true));
    assert_eq!((exit.u64("received"), exit.u64("dropped.oversize")), (3, 1));
    assert!(exit.u64("discarded.oversize") >= 8, "{exit}");
    assert_eq!(exit.u64("connections.ended.eof"), 1);
    assert!(exit.u64("threads_peak") >= 6, "{exit}");
    let output = json!({
        "name": "stdout",
        "required": true,
        "sink_failures": 0,
        "failed_reopens": 0,
        "unlinked_messages": 0,
        "unanswered": 0,
        "last_error": null,
        "connected_to": null,
        "retrying_seconds": null,
        "busy_seconds": 0.0,
        // The server's own.
        "received": exit.report["received"],
        "delivered": exit.report["delivered"],
        "dropped": exit.report["dropped"],
        "in_flight": 0,
        "buffered_bytes": 0,
        "buffer_bytes": null,
        "balanced": true,
    });
    assert_eq!(exit.report["outputs"], json!([output]));
}

#[test]
fn each_output_says_at_start_what_delivered_means_there() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log").display().to_string();
    let kernel = "this machine's kernel took the message's last byte: it arrives at most once";
    let answered = "the server has answered its request with 2xx (at least once";
    let collector =
        "Splunk's collector has answered 2xx, and may not have indexed it yet (at least";
    let mut table = vec![
        ("stdout", "write(2) took the message's last byte: a pipe's"),
        ("null", "the message was read and counted"),
        (
            "file:PATH",
            "write(2) took the message's last byte: it survives",
        ),
        (
            "file://PATH?fsync=10s",
            "write(2) took the message's last byte: a crash of the machine loses those since the \
             last sync, one every 10s or second",
        ),
        (
            "file://PATH?fsync=batch",
            "fdatasync(2) returned: the message survives a crash of the machine",
        ),
        (
            "exec:cat",
            "the pipe to the command took the message's last byte: it arrives at most once, and \
             up to 64 KiB are lost if the command dies",
        ),
        ("tcp://127.0.0.1:9", kernel),
        ("unix:PATH", kernel),
    ];
    if cfg!(feature = "redis") {
        let xadd = "Redis answered the message's XADD (at least once";
        table.push(("redis://127.0.0.1:9/stream", xadd));
    }
    if cfg!(feature = "http") {
        table.extend([
            ("http://127.0.0.1:9?dialect=ndjson", answered),
            ("http://127.0.0.1:9?dialect=loki&labels=a=b", answered),
            (
                "http://127.0.0.1:9?dialect=elasticsearch&index=a",
                "the server's answer to _bulk says that it took the document (at least once",
            ),
            ("http://127.0.0.1:9?dialect=splunk&token=a", collector),
            ("http://127.0.0.1:9?dialect=splunk-raw&token=a", collector),
            (
                "http://127.0.0.1:9?refused=PATH",
                "the server has answered its request with 2xx, or that it was set aside in PATH \
                 (at least once",
            ),
        ]);
    }
    for (sink, means) in table {
        let [sink, means] = [sink, means].map(|text| text.replace("PATH", &path));
        let exit = Drainline::start(&["--sink", &sink]).terminate();
        // A URL's options are not in its name.
        let place = sink.split_once('?').map_or(&*sink, |(place, _)| place);
        let begin = format!("] output {place}");
        let told = format!(": delivered means that {means}");
        let mut lines = exit.stderr.lines();
        let is_it = |line: &str| line.contains(&begin) && line.contains(&told);
        assert!(lines.any(is_it), "{begin}…{told}: {exit}");
        let _ = fs::remove_file(&path);
    }
}

/// In both ways: what may be there twice, and what may be there and is counted as dropped.
#[test]
fn an_output_that_waits_for_answers_says_at_start_what_at_least_once_is() {
    let urls = [
        ("http://127.0.0.1:9", cfg!(feature = "http")),
        ("redis://127.0.0.1:9/stream", cfg!(feature = "redis")),
        ("kafka://127.0.0.1:9/topic", cfg!(feature = "kafka")),
    ];
    for (url, _) in urls.into_iter().filter(|(_, is_built)| *is_built) {
        let exit = Drainline::start(&["--sink", url]).terminate();
        let told = "(at least once: what is unanswered when a connection is lost is sent again, \
                    and what still is when a drain ends is dropped (shutdown), though it may be \
                    there)";
        let begin = format!("] output {url}");
        let mut lines = exit.stderr.lines();
        let is_it = |line: &str| line.contains(&begin) && line.ends_with(told);
        assert!(lines.any(is_it), "{url}: {exit}");
    }
}
