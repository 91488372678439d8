//! The program with a stream of Redis as its sink.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::common::child::{Drainline, Stderr};
use crate::common::redis::RedisServer;
use crate::common::tool::{load, refused, verify};
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

const REPORT: [&str; 2] = ["--report", "json"];

/// Killed and started again while `drainline load` sends, its data synced for each command: by
/// `drainline verify` nothing is missing.
#[test]
fn nothing_is_missing_by_verify_after_crashes() {
    let durable = ["--appendonly", "yes", "--appendfsync", "always"];
    let Some(mut redis) = RedisServer::start(&durable) else {
        return;
    };
    let sink = format!("redis://127.0.0.1:{}/stream?window=1MiB", redis.port());
    let mut server = Drainline::start(&[&["--sink", &sink][..], &REPORT].concat());
    let address = server.addr().to_string();
    let loading = thread::spawn(move || {
        let flags = [
            "--numbered",
            "--connections=4",
            "--messages=20000",
            "--wait-close",
        ];
        let args = [&["load", &address, "--json", "-"][..], &flags].concat();
        crate::common::tool::run(&args).0
    });
    for crash in 1..=3 {
        wait_until("some entries", DEADLINE, || {
            redis.entries("stream") >= crash * 15_000
        });
        redis.kill();
        thread::sleep(Duration::from_millis(200));
        redis.start_again(&[]);
    }
    loading.join().unwrap().assert_code(0);
    wait_until("all entries", DEADLINE, || {
        redis.entries("stream") >= 80_000
    });
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("delivered"), 80_000, "{exit}");

    let dump = redis.folder().join("dump");
    let mut lines = redis.messages("stream").join(&b'\n');
    lines.push(b'\n');
    fs::write(&dump, lines).unwrap();
    let (_, report) = verify(&dump, &["--connections=4", "--messages=20000"]);
    for kind in ["missing", "torn", "unexpected", "absent"] {
        assert_eq!(report[kind], 0, "{kind}: {report}");
    }
}

/// The library's words for what came have four lines.
#[test]
fn what_is_no_redis_is_told_in_a_line() {
    let http = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = http.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in http.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 3\r\n\r\na\x1bb";
            let _ = stream.write_all(answer);
        }
    });
    let sink = format!("redis://127.0.0.1:{port}/stream");
    let args = [&["--sink", &sink, "--drain-timeout=1s"][..], &REPORT].concat();
    let mut server = Drainline::start(&args);
    wait_until("a failure", DEADLINE, || {
        server.stderr_text().contains(" failed: ")
    });
    let exit = server.terminate();
    let error = exit.report["outputs"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("is no answer of Redis"), "{exit}");
    assert!(!error.contains(char::is_control), "{exit}");
    let line = format!("] the sink {sink} failed: {error}\n");
    assert!(exit.stderr.contains(&line), "{line}: {exit}");
}

/// What was wrong with the server is in the ledger, and its password nowhere.
#[test]
fn a_password_is_shown_nowhere() {
    let flags = ["--requirepass", "right"];
    let Some(redis) = RedisServer::start_as(":right@", &flags) else {
        return;
    };
    let sink = format!("redis://:hunter2@127.0.0.1:{}/stream", redis.port());
    let launch = Drainline::with(&[&["--sink", &sink][..], &REPORT].concat());
    let mut server = launch.stderr(Stderr::Collected).start();
    wait_until("a failed login", DEADLINE, || {
        server.stderr_text().contains("the login failed: WRONGPASS")
    });
    let exit = server.terminate();
    assert!(!exit.stderr.contains("hunter2"), "{exit}");
    let error = exit.report["outputs"][0]["last_error"].as_str().unwrap();
    assert!(error.contains("WRONGPASS"), "{exit}");

    let exit = Drainline::with(&["--check", "--sink", &sink])
        .bare()
        .spawn()
        .wait();
    exit.assert_code(0);
    assert!(!exit.stderr.contains("hunter2"), "{exit}");

    // The right one, from a file.
    let file = redis.folder().join("password");
    fs::write(&file, "right\n").unwrap();
    let mut server = start_with_password_of(&redis, &file);
    load(&server, &["--messages=100", "--wait-close"]);
    wait_until("all entries", DEADLINE, || redis.entries("stream") == 100);
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), 100);
}

fn start_with_password_of(redis: &RedisServer, file: &Path) -> Drainline {
    let (port, file) = (redis.port(), file.display());
    let sink = format!("redis://127.0.0.1:{port}/stream?password_file={file}");
    Drainline::start(&[&["--sink", &sink][..], &REPORT].concat())
}

/// In its file: each connection logs in with what the file has then, or else with what it had.
#[test]
fn a_password_that_is_replaced_costs_no_message_and_no_restart() {
    let flags = ["--requirepass", "hunter2"];
    let Some(redis) = RedisServer::start_as(":hunter2@", &flags) else {
        return;
    };
    let file = redis.folder().join("password");
    fs::write(&file, "hunter1\n").unwrap();
    let mut server = start_with_password_of(&redis, &file);
    load(&server, &["--messages=100", "--wait-close"]);
    wait_until("a failed login", DEADLINE, || {
        server.stderr_text().contains("the login failed: WRONGPASS")
    });
    let new = redis.folder().join("new");
    fs::write(&new, "hunter2\n").unwrap();
    fs::rename(&new, &file).unwrap();
    wait_until("all entries", DEADLINE, || redis.entries("stream") == 100);

    fs::remove_file(&file).unwrap();
    let told = "with the password read last: ";
    for nth in 2..=3 {
        redis.ask(&["CLIENT", "KILL", "SKIPME", "yes", "TYPE", "normal"]);
        load(&server, &["--messages=100", "--wait-close"]);
        wait_until("all entries", DEADLINE, || {
            redis.entries("stream") >= nth * 100
        });
    }
    server.signal_served(Signal::HUP);
    wait_until("the failed reopen", DEADLINE, || {
        server.stderr_text().contains("reopening failed: ")
    });
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), 300, "{exit}");
    assert_eq!(exit.stderr.matches(told).count(), 1, "{exit}");
    for password in ["hunter1", "hunter2"] {
        assert!(!exit.stderr.contains(password), "{exit}");
    }
}

#[cfg(feature = "tls")]
#[test]
fn a_servers_certificate_is_for_the_name_that_is_given() {
    let Some((redis, certificates, port)) = super::tls::start_server("no") else {
        return;
    };
    let sink = |name: &str| {
        let authority = certificates.authority();
        format!("rediss://127.0.0.1:{port}/stream?tls_ca={authority}&tls_server_name={name}")
    };
    let mut server = Drainline::start(&["--sink", &sink("elsewhere.example")]);
    wait_until("a refusal", DEADLINE, || {
        server.stderr_text().contains("shows a certificate that")
    });
    server.terminate().assert_code(0);
    let mut server = Drainline::start(&["--sink", &sink("localhost")]);
    load(&server, &["--messages=100", "--wait-close"]);
    wait_until("all entries", DEADLINE, || redis.entries("stream") == 100);
    server.terminate().assert_code(0);
}

#[test]
fn what_is_no_stream_is_refused_in_one_line() {
    for (sink, code, parts) in [
        ("redis://", 2, &["redis://HOST/STREAM"][..]),
        ("redis://somewhere", 2, &["no stream"]),
        ("redis://:hunter2@somewhere:http/s", 2, &["localhost:6379"]),
        ("redis://somewhere/s?window=1", 2, &["window=1"]),
        ("redis://somewhere/s?max_len=0", 2, &["max_len=0"]),
        ("redis://somewhere/s?maxlen=1", 2, &["max_len"]),
        ("redis://a/s?password_file=/nowhere", 1, &["/nowhere"]),
        (
            "redis://a/s?password_env=NO_SUCH_VARIABLE",
            2,
            &["NO_SUCH_VARIABLE"],
        ),
        ("redis://user@a/s", 78, &["password"]),
        #[cfg(feature = "tls")]
        ("rediss://a/s?tls_ca=/nowhere", 1, &["/nowhere"]),
        #[cfg(not(feature = "tls"))]
        ("rediss://a/s", 2, &["feature tls"]),
    ] {
        let launch = Drainline::with(&["--listen", "127.0.0.1:0", "--sink", sink]);
        refused(launch, code, parts);
        refused(Drainline::with(&["--check", "--sink", sink]), code, parts);
    }
}
