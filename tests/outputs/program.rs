//! The same by the program: its flags, its file, its log.

use std::fs;
use std::io::Write;
#[cfg(feature = "http")]
use std::path::Path;
#[cfg(feature = "http")]
use std::sync::{Arc, Mutex};

use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
#[cfg(feature = "http")]
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::port::free_port;
use crate::common::tagged::{Cut, Tagged};
use crate::common::tool::refused;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

#[test]
fn the_program_forwards_says_what_delivered_means_and_connects_anew_at_sighup() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let port = free_port();
    let (listen, sink) = (
        format!("127.0.0.1:{port}"),
        format!("file:{}", file.display()),
    );
    let mut receiver = Drainline::start(&["--listen", &listen, "--sink", &sink]);
    let url = format!("tcp://127.0.0.1:{port}?connect_timeout=1s");
    let mut server = Drainline::start(&["--sink", &url]);
    let connected = |server: &Drainline| server.stderr_text().matches("is connected: ").count();
    wait_until("a connection", DEADLINE, || connected(&server) == 1);
    let mut stream = server.connect();
    let tagged = Tagged::new(0);
    let _ = tagged.send(&mut stream, 0..1000, 100, Cut::Blocks).all();
    server.signal_served(Signal::HUP);
    wait_until("another connection", DEADLINE, || {
        receiver.signal(Signal::USR1);
        let status = receiver.last_status();
        status.is_some_and(|status| status["connections"][0]["id"].as_u64() >= Some(2))
    });
    let _ = tagged.send(&mut stream, 1000..2000, 100, Cut::Blocks).all();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    assert!(exit.stderr.contains("it arrives at most once"), "{exit}");
    assert!(
        exit.stderr.contains("SIGHUP: connecting the sink anew"),
        "{exit}"
    );
    receiver.terminate().assert_code(0);
    Checker::read(&fs::read(&file).unwrap()).expect_exact(&[(0, 2000)]);
}

/// Ten seconds later, with what it says by then. Symptom: only how often it was, for ever.
#[test]
fn a_failure_that_goes_on_is_told_again() {
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let mut server = Drainline::start(&["--sink", &url, "--drain-timeout", "1s"]);
    let mut stream = server.connect();
    stream.write_all(b"a message\n").unwrap();
    wait_until("it is told again", DEADLINE, || {
        let text = server.stderr_text();
        let told = text.lines().filter(|line| line.contains(" failed: "));
        told.count() > 1 && text.contains("similar messages before)")
    });
    let text = server.stderr_text();
    assert!(!text.contains("similar messages: sink failed"), "{text}");
    server.terminate();
}

/// Both within the ten seconds in which the log tells of one thing once.
#[test]
fn each_change_of_the_receiver_is_told_and_sigusr1_names_the_one_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let ports = [free_port(), free_port()];
    let start = |at: usize| {
        let (listen, file) = (
            format!("127.0.0.1:{}", ports[at]),
            directory.path().join("f"),
        );
        Drainline::start(&[
            "--listen",
            &listen,
            "--sink",
            &format!("file:{}", file.display()),
        ])
    };
    let [first, second] = ports.map(|port| format!("tcp://127.0.0.1:{port}"));
    let config = directory.path().join("config.toml");
    let text = format!(
        "[[output]]\nname = \"pair\"\nsink = \"{first},127.0.0.1:{}\"\nreturn_after = \"50ms\"\n",
        ports[1]
    );
    fs::write(&config, text).unwrap();
    let mut spare = start(1);
    let mut server = Drainline::start(&["--config", &config.display().to_string()]);
    let mut stream = server.connect();
    let mut is_in_use = |target: &str| {
        server.wait_for_status("the receiver in use", |status| {
            let connected = status["outputs"][0]["connected_to"].as_str();
            connected.is_some_and(|connected| connected.starts_with(target))
        });
    };
    is_in_use(&second);
    let mut preferred = start(0);
    is_in_use(&first);
    preferred.terminate().assert_code(0);
    stream.write_all(b"one\n").unwrap();
    is_in_use(&second);
    client::half_close(stream);
    let exit = server.terminate();
    spare.terminate().assert_code(0);
    let told = |what: &str, target: &str| {
        let both = format!("{first},127.0.0.1:{}", ports[1]);
        let line = format!("output pair: the sink {both} is connected{what}{target}");
        exit.stderr.matches(&line).count()
    };
    assert_eq!(told(" to another receiver, ", &second), 2, "{exit}");
    assert_eq!(told(": ", &first), 1, "{exit}");
}

#[test]
fn an_output_that_is_a_listener_of_its_own_server_is_told_by_check_and_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("own");
    let at = format!("127.0.0.1:{}", free_port());
    let unix = format!("unix:{}", path.display());
    let port = at.rsplit(':').next().unwrap();
    let listens = ["--listen", &at, "--listen", &unix];
    for (sink, own) in [
        (format!("tcp://localhost:{port}"), &at),
        (format!("tcp://192.0.2.1:1,127.0.0.1:{port}"), &at),
        (unix.clone(), &unix),
    ] {
        let mut check = std::process::Command::new(env!("CARGO_BIN_EXE_drainline"));
        let check = check.arg("check").args(listens).args(["--sink", &sink]);
        let told = String::from_utf8(check.output().unwrap().stdout).unwrap();
        let line = format!(" is this server's own listener {own}: each message comes back");
        assert!(told.contains(&line), "{sink}: {told}");
    }
    let mut server = Drainline::start(&[&listens[..], &["--sink", &unix]].concat());
    let exit = server.terminate();
    assert!(
        exit.stderr.contains(" is this server's own listener "),
        "{exit}"
    );
    let other = format!("tcp://127.0.0.1:{}", free_port());
    let exit = Drainline::start(&["--sink", &other]).terminate();
    assert!(!exit.stderr.contains("own listener"), "{exit}");
}

#[cfg(feature = "http")]
#[test]
fn sighup_reopens_the_file_of_what_http_refuses_beside_connections_that_are_made_anew() {
    let directory = tempfile::tempdir().unwrap();
    let refused = directory.path().join("refused");
    let http = format!("http://127.0.0.1:1/?refused={}", refused.display());
    let tcp = format!("tcp://127.0.0.1:{}", free_port());
    for (others, told) in [
        (&[][..], "SIGHUP: reopening the file of the sink"),
        (
            &["--sink", &tcp],
            "SIGHUP: reopening files, and connecting outputs anew",
        ),
    ] {
        let mut server = Drainline::start(&[&["--sink", &http], others].concat());
        fs::rename(&refused, directory.path().join("refused.1")).unwrap();
        server.signal(Signal::HUP);
        wait_until("the file", DEADLINE, || refused.exists());
        let exit = server.terminate();
        exit.assert_code(0);
        assert!(exit.stderr.contains(told), "{exit}");
    }
}

/// Whole: whoever reads the file meanwhile sees no half of it.
#[cfg(feature = "http")]
fn replace(file: &Path, text: &str) {
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

/// Of three tokens the program starts with the first, when its server accepts the second already.
#[cfg(feature = "http")]
#[test]
fn a_token_that_is_replaced_costs_no_message_and_no_restart() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let accepted = Arc::new(Mutex::new("token-2".to_owned()));
    let peer = HttpPeer::start({
        let accepted = Arc::clone(&accepted);
        move |request| {
            let token = format!("Bearer {}", accepted.lock().unwrap());
            match request.header("authorization") == Some(&token) {
                true => Reply::ok(),
                false => Reply::status("401 Unauthorized"),
            }
        }
    });
    replace(&file, "token-1\n");
    let sink = format!("{}?token_file={}", peer.url(), file.display());
    let mut server = Drainline::start(&["--sink", &sink, "--report", "json"]);
    let mut stream = server.connect();
    let used = |token: &str| {
        let header = format!("Bearer {token}");
        wait_until("a request with the token", DEADLINE, || {
            let requests = peer.requests();
            let mut headers = requests.iter().map(|it| it.header("authorization"));
            headers.any(|given| given == Some(&header))
        });
    };
    // The server refuses what it has, and the file has another one by then.
    stream.write_all(b"one\n").unwrap();
    used("token-1");
    replace(&file, "token-2\n");
    used("token-2");
    // There is no file: what was read last is kept, and that is told once.
    "token-3".clone_into(&mut accepted.lock().unwrap());
    fs::remove_file(&file).unwrap();
    let asked = peer.requests().len();
    stream.write_all(b"two\n").unwrap();
    wait_until("some tries", DEADLINE, || {
        peer.requests().len() >= asked + 4
    });
    replace(&file, "token-3\n");
    used("token-3");
    client::half_close(stream);
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(exit.u64("delivered"), 2, "{exit}");
    let kept = "goes on with the credentials that it has: ";
    assert_eq!(exit.stderr.matches(kept).count(), 1, "{exit}");
    for token in ["token-1", "token-2", "token-3"] {
        assert!(!exit.stderr.contains(token), "{exit}");
    }
}

#[cfg(feature = "http")]
#[test]
fn sighup_reads_a_token_again_that_the_server_still_takes() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let peer = HttpPeer::start(|_| Reply::ok());
    replace(&file, "token-1\n");
    let sink = format!("{}?token_file={}", peer.url(), file.display());
    let mut server = Drainline::start(&["--sink", &sink]);
    let mut stream = server.connect();
    let mut used = |token: &str, message: &[u8]| {
        let asked = peer.requests().len();
        stream.write_all(message).unwrap();
        wait_until("a request", DEADLINE, || peer.requests().len() > asked);
        let request = &peer.requests()[asked];
        let expected = format!("Bearer {token}");
        assert_eq!(request.header("authorization"), Some(&expected[..]));
    };
    used("token-1", b"one\n");
    replace(&file, "token-2\n");
    used("token-1", b"two\n");
    server.signal_served(Signal::HUP);
    wait_until("the reopen", DEADLINE, || {
        server.stderr_text().contains("was reopened")
    });
    used("token-2", b"three\n");
    // Without the file it goes on, and the log says so.
    fs::remove_file(&file).unwrap();
    server.signal_served(Signal::HUP);
    wait_until("the failed reopen", DEADLINE, || {
        server
            .stderr_text()
            .contains("goes on as it was: reopening failed: ")
    });
    used("token-2", b"four\n");
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    let told = "SIGHUP: reading what outputs log in with, and their files of TLS, again";
    assert!(exit.stderr.contains(told), "{exit}");
}

/// A token out of the environment, by the word of each dialect or the one that is given.
#[cfg(feature = "http")]
#[test]
fn a_token_of_a_variable_is_in_the_header() {
    for (options, expected) in [
        ("", "Bearer token-1"),
        ("&token_scheme=ApiKey", "ApiKey token-1"),
        ("&dialect=splunk", "Splunk token-1"),
    ] {
        let peer =
            HttpPeer::start(|_| Reply::Answer("200 OK", String::new(), r#"{"code":0}"#.into()));
        let sink = format!("{}?token_env=TOKEN_OF_IT{options}", peer.url());
        let launch = Drainline::with(&["--sink", &sink]).env("TOKEN_OF_IT", "token-1");
        let mut server = launch.start();
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        server.wait_until_all_ended();
        server.terminate().assert_code(0);
        let requests = peer.requests();
        assert_eq!(requests[0].header("authorization"), Some(expected));
    }
}

/// The answer may take ten minutes, and the drain half a second.
#[cfg(feature = "http")]
#[test]
fn a_request_in_a_drain_has_the_time_of_the_drain() {
    let peer = HttpPeer::start(|_| Reply::Never);
    let sink = format!("{}?timeout=10m", peer.url());
    let flags = ["--drain-timeout", "500ms", "--report", "json"];
    let mut server = Drainline::start(&[&["--sink", &sink][..], &flags].concat());
    let mut stream = server.connect();
    stream.write_all(b"message\n").unwrap();
    wait_until("a request", DEADLINE, || !peer.requests().is_empty());
    client::half_close(stream);
    server.wait_until_all_ended();
    let exit = server.terminate();
    exit.assert_code(4);
    exit.assert_closes();
    assert_eq!(exit.u64("dropped.shutdown"), 1, "{exit}");
    assert_eq!(
        exit.report["outputs"][0]["last_error"],
        serde_json::Value::Null,
        "{exit}"
    );
    assert!(
        exit.stderr.contains("longer than drain_timeout (500ms)"),
        "{exit}"
    );
}

#[cfg(feature = "http")]
#[test]
fn one_message_that_is_refused_is_one_in_the_log() {
    let peer = HttpPeer::start(|_| Reply::status("400 Bad Request"));
    let mut server = Drainline::start(&["--sink", &peer.url()]);
    let mut stream = server.connect();
    stream.write_all(b"message\n").unwrap();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(3);
    let told = format!("the sink {} has dropped 1 message (refused): ", peer.url());
    assert!(exit.stderr.contains(&told), "{exit}");
}

/// In one line of the log, and in the ledger in both forms; the only output's name is there where
/// somebody gave it one.
#[cfg(feature = "http")]
#[test]
fn what_somebody_has_to_mend_is_told_once_and_at_the_end() {
    // A port may have the number alone.
    const STATUS: &str = "401 Unauthorized";
    let peer = HttpPeer::start(|_| Reply::status(STATUS));
    for (name, format) in [("", "text"), ("", "json"), ("&name=store", "json")] {
        let sink = format!("{}?dialect=elasticsearch&index=a{name}", peer.url());
        let args = ["--sink", &sink, "--report", format, "--drain-timeout", "1s"];
        let mut server = Drainline::start(&args);
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        wait_until("a failure", DEADLINE, || {
            server.stderr_text().contains(STATUS)
        });
        let exit = server.terminate();
        exit.assert_code(4);
        let begins = match name {
            "" => "ERROR drainline] the sink ",
            _ => "ERROR drainline] output store: the sink ",
        };
        let told = format!("{begins}{} failed: ", peer.url());
        let mut lines = exit.stderr.lines().filter(|line| line.contains(STATUS));
        let line = lines.next().unwrap_or_default();
        let then = "; somebody has to mend that; trying again in ";
        assert!(line.contains(&told) && line.contains(then), "{exit}");
        if format == "json" {
            let row = &exit.report["outputs"][0];
            assert_eq!(row["received"], 1, "{exit}");
            assert_eq!(row["dropped"]["shutdown"], 1, "{exit}");
            assert!(row["retrying_seconds"].as_f64() > Some(0.0), "{exit}");
            continue;
        }
        let told = format!(
            "drainline: output {}: required; received 1 = delivered 0 + dropped 1 (shutdown 1) + \
             in flight 0; buffer 0 bytes; balanced; 0 messages unanswered; retrying for ",
            peer.url()
        );
        let line = exit.stderr.lines().find(|line| line.starts_with(&told));
        assert!(line.is_some_and(|line| line.contains(STATUS)), "{exit}");
    }
}

#[test]
fn arguments_of_a_command_are_told_nowhere() {
    for others in [&[][..], &["--sink", "null"]] {
        let sink = "exec:sh -c 'cat >/dev/null; exit 3' hunter2 a?name=b";
        let mut server = Drainline::start(&[&["--sink", sink], others].concat());
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        server.signal(Signal::USR1);
        wait_until("a list", DEADLINE, || server.last_status().is_some());
        let exit = server.terminate();
        exit.assert_code(0);
        for told in [
            "lines from",
            "] output exec:sh: delivered means",
            "exec:sh has ended",
        ] {
            assert!(exit.stderr.contains(told), "{told:?}: {exit}");
        }
        assert_eq!(exit.report["outputs"][0]["name"], "exec:sh", "{exit}");
        assert!(!exit.stderr.contains("hunter2"), "{exit}");
    }
    let same = ["--sink", "exec:sh -c cat", "--sink", "exec:sh -c 'cat >x'"];
    let told = "expected a name beside it, since another output is called exec:sh, too";
    refused(Drainline::with(&same), 78, &[told]);
}

#[test]
fn a_commands_stderr_is_in_the_log_and_its_stdout_is_the_programs() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("config.toml");
    let table = r#"
[[output]]
sink = "exec:printf 'one\ntwo\033[2J\nthree' >&2; sed 's/^/got /'; exit 4"
shell = true
"#;
    fs::write(&config, table.replace('\\', "\\\\")).unwrap();
    let mut server = Drainline::with(&["--config", config.to_str().unwrap()])
        .env("NOTIFY_SOCKET", "")
        .start();
    let mut stream = server.connect();
    stream.write_all(b"a\nb\n").unwrap();
    client::half_close(stream);
    let exit = server.terminate();
    exit.assert_code(0);
    assert_eq!(server.stdout_bytes(), b"got a\ngot b\n");
    for line in [
        "exec:/bin/sh: one",
        r"exec:/bin/sh: two\u{1b}[2J",
        "exec:/bin/sh: three",
    ] {
        assert!(
            exit.stderr.lines().any(|it| it.ends_with(line)),
            "{line}: {exit}"
        );
    }
    assert!(
        exit.stderr.contains("has ended with exit status: 4"),
        "{exit}"
    );
}

/// It fails, at first, and says so for as long.
#[test]
fn a_command_takes_messages_again_when_it_has_had_some_for_a_while() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (config, starts, mended) = (path("config.toml"), path("starts"), path("mended"));
    let table = format!(
        "[[output]]\nshell = true\nsink = \"exec:echo >> {}; test -e {} || {{ read x; exit 3; }}; cat\"\n",
        starts.display(),
        mended.display()
    );
    fs::write(&config, table).unwrap();
    let mut server = Drainline::with(&["--config", config.to_str().unwrap()]).start();
    let mut stream = server.connect();
    wait_until("three that have ended", DEADLINE, || {
        stream.write_all(b"message\n").unwrap();
        fs::read(&starts).unwrap_or_default().len() > 3
    });
    let again = "takes messages again";
    let log = server.stderr_text();
    assert!(log.contains("ended with exit status: 3"), "{log}");
    assert!(!log.contains(again), "{log}");
    fs::write(&mended, "").unwrap();
    wait_until("one that works", DEADLINE, || {
        stream.write_all(b"message\n").unwrap();
        server.stderr_text().contains(again)
    });
    client::half_close(stream);
    server.terminate();
}

/// As they are, with their commas.
#[cfg(feature = "http")]
#[test]
fn headers_come_from_a_table_a_file_or_a_variable() {
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    let peer = HttpPeer::start(move |_| Reply::Raw(answer.as_bytes().to_vec()));
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let (config, lines) = (path("config.toml"), path("lines"));
    let text = "X-One: b, c\nX-Two: d:e\n";
    fs::write(&lines, text).unwrap();
    for headers in [
        "headers = [\"X-One: b, c\", \"X-Two:d:e\"]".to_owned(),
        "headers = 'X-One: b\\, c, X-Two: d:e'".to_owned(),
        format!("headers_file = \"{}\"", lines.display()),
        "headers_env = \"HEADERS\"".to_owned(),
    ] {
        let table = format!("[[output]]\nsink = \"{}\"\n{headers}\n", peer.url());
        fs::write(&config, table).unwrap();
        let args = ["--config", config.to_str().unwrap()];
        let mut server = Drainline::with(&args).env("HEADERS", text).start();
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        server.terminate().assert_code(0);
        let asked = peer.requests();
        let head = asked.last().unwrap().head.to_lowercase();
        for header in ["x-one: b, c", "x-two: d:e"] {
            assert!(head.lines().any(|line| line == header), "{headers}: {head}");
        }
    }
    assert_eq!(peer.requests().len(), 4);
}

/// A query may hold a token, and an answer may repeat what it was asked.
#[cfg(feature = "http")]
#[test]
fn the_query_of_requests_is_shown_by_nothing() {
    let echo = "HTTP/1.1 403 Forbidden\r\nconnection: close\r\n\r\nno api_key%3Dhunter2, hunter2 ";
    let long = format!("{echo}{}", "hunter2 ".repeat(40));
    let peer = HttpPeer::start(move |_| Reply::Raw(long.clone().into_bytes()));
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("query");
    fs::write(&file, "pipeline=logs&api_key=hunter2\n").unwrap();
    let typed = "query=pipeline=logs%26api_key=hunter2".to_owned();
    for option in [typed, format!("query_file={}", file.display())] {
        let url = format!("{}/x?{option}", peer.url());
        let args = ["--sink", &url, "--log-level", "trace", "--report", "json"];
        let mut check = Drainline::with(&[&["check"], &args[..]].concat())
            .bare()
            .spawn();
        check.wait().assert_code(0);
        let text = String::from_utf8(check.stdout_bytes()).unwrap();
        assert!(
            text.contains("query") && !text.contains("hunter2"),
            "{text}"
        );
        let mut server = Drainline::with(&[&args[..], &["--drain-timeout", "1s"]].concat()).start();
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        // The second one is sent when the first one has failed.
        let most = peer.requests().len() + 1;
        wait_until("another try", DEADLINE, || peer.requests().len() > most);
        server.signal_served(Signal::USR1);
        client::half_close(stream);
        let exit = server.terminate();
        assert!(
            exit.stderr.contains("403 Forbidden: no api_key%3D***, ***"),
            "{exit}"
        );
        assert!(!exit.stderr.contains("hunter"), "{exit}");
        assert!(!exit.report.to_string().contains("hunter"), "{exit}");
    }
    let asked = peer.requests();
    assert!(
        asked
            .iter()
            .all(|it| it.head.contains("/x?pipeline=logs&api_key=hunter2 "))
    );
}

/// Data streams take no document without a time, and no action but `create`.
#[cfg(feature = "http")]
#[test]
fn a_data_stream_takes_what_the_program_makes_of_messages() {
    let peer = HttpPeer::start(|request| {
        let lines = request.lines();
        let items = lines.chunks(2).map(|pair| {
            let document: serde_json::Value = serde_json::from_str(&pair[1]).unwrap();
            let is_taken =
                pair[0].starts_with(r#"{"create":"#) && document["@timestamp"].is_string();
            let status = if is_taken { 201 } else { 400 };
            format!(r#"{{"create":{{"status":{status}}}}}"#)
        });
        let items = items.collect::<Vec<_>>().join(",");
        let answer = format!(r#"{{"errors":true,"items":[{items}]}}"#);
        Reply::Answer("200 OK", String::new(), answer)
    });
    for envelope in ["raw", "json"] {
        let url = format!(
            "{}?dialect=elasticsearch&index=logs-a&envelope={envelope}",
            peer.url()
        );
        let mut server = Drainline::start(&["--sink", &url]);
        let mut stream = server.connect();
        stream.write_all(b"text\n{\"a\":1}\n{}\n\n").unwrap();
        client::half_close(stream);
        let exit = server.terminate();
        exit.assert_code(0);
        assert_eq!(exit.u64("delivered"), 4, "{exit}");
    }
}

/// Its lines at debug, four for each request, have headers of answers, and a server may repeat in
/// these what it was asked.
#[cfg(feature = "http")]
#[test]
fn the_log_has_no_lines_of_the_http_library_whatever_is_asked_for() {
    let peer = HttpPeer::start(|_| Reply::ok());
    let lines_at = |flags: &[&str], filter: &str| {
        let url = format!("{}?dialect=ndjson", peer.url());
        let launch = Drainline::with(&[&["--sink", &url], flags].concat());
        let mut server = launch.env("RUST_LOG", filter).start();
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        client::half_close(stream);
        let exit = server.terminate();
        exit.assert_code(0);
        let lines = exit.stderr.lines();
        lines.filter(|line| line.contains(" ureq")).count()
    };
    for (flags, filter) in [
        (&[][..], ""),
        (&["--log-level", "warn"][..], "trace"),
        (&["--log-level", "trace"][..], ""),
        (&[][..], "ureq=debug"),
        (&[][..], "trace,ureq::run=trace"),
    ] {
        assert_eq!(lines_at(flags, filter), 0, "{flags:?} {filter}");
    }
}

/// What a server asks for is what is told; an answer that nobody can read is no more than one copy
/// a minute.
#[cfg(feature = "http")]
#[test]
fn the_log_says_when_http_tries_again() {
    for (answer, body, told) in [
        (
            "503 Service Unavailable\r\nretry-after: 60",
            "no",
            "503 Service Unavailable",
        ),
        (
            "200 OK\r\ncontent-encoding: br",
            "\x0b\x02",
            "is compressed (br)",
        ),
        ("200 OK", "{}", "it tells of 0 documents, and 1 were sent"),
        ("200 OK", "ok", "it is no JSON"),
        ("200 OK", "", "it is empty"),
    ] {
        let length = body.len();
        let answer = format!("HTTP/1.1 {answer}\r\ncontent-length: {length}\r\n\r\n{body}");
        let peer = HttpPeer::start(move |_| Reply::Raw(answer.clone().into_bytes()));
        let url = format!("{}?dialect=elasticsearch&index=a", peer.url());
        let flags = ["--sink", &url, "--drain-timeout", "100ms"];
        let mut server = Drainline::with(&flags).start();
        let mut stream = server.connect();
        stream.write_all(b"message\n").unwrap();
        wait_until("a failure", DEADLINE, || {
            server.stderr_text().contains("trying again in ")
        });
        client::half_close(stream);
        let exit = server.terminate();
        let line = exit
            .stderr
            .lines()
            .find(|line| line.contains("trying again in "));
        let line = line.unwrap();
        let (_, wait) = line.split_once("trying again in ").unwrap();
        assert!(
            line.contains(told) && matches!(wait, "60.0s" | "59.9s"),
            "{line}"
        );
        let asks = peer.requests()[0]
            .header("accept-encoding")
            .map(str::to_owned);
        assert_eq!(asks.as_deref(), Some("identity"));
    }
}

#[test]
fn what_is_wrong_with_a_receiver_or_a_command_is_told_at_start() {
    for (sink, code, told) in [
        ("tcp://logs", 2, "is without a port"),
        ("tcp://[::g]:1", 2, "no IPv6 address"),
        ("tls://a:1?tls_ca=/nosuch", 1, "cannot read TLS CA /nosuch"),
        ("tls://a:1?tls_key=/nosuch", 78, "a tls_cert beside it"),
        ("tcp://a:1?tls_ca=/nosuch", 78, "a tls:// server"),
        ("tcp://a:1?return_after=soon", 2, "return_after"),
        ("exec:nosuch-command", 1, "nosuch-command"),
        ("exec:a 'b", 2, "is not closed"),
    ] {
        for check in [&["--sink", sink][..], &["--sink", sink, "--check"]] {
            refused(Drainline::with(check), code, &[told]);
        }
    }
}
