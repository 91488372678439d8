//! A password or a token of an output is told to nobody: not by `check`, at the start, in the log
//! however much of it is asked for, in SIGUSR1's list or in the ledger; also where the server that
//! it is for sends it back.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::common::child::Drainline;
use crate::common::client;
use crate::common::tool::run_by;
use crate::common::wait::{DEADLINE, wait_until};
use rustix::process::Signal;

const SECRET: &str = "hunter2";
/// `me:hunter2`, as basic authentication sends it.
const AS_BASIC: &str = "bWU6aHVudGVyMg==";

/// A server that answers what it was sent, as an error of its protocol. Returns its port. Its
/// threads end with the test's process.
fn echoing() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            thread::spawn(move || answer(stream));
        }
    });
    port
}

fn answer(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while let Ok(read @ 1..) = stream.read(&mut request) {
        let text = String::from_utf8_lossy(&request[..read]).into_owned();
        let answer = match text.starts_with('*') {
            true => format!("-ERR wrong: {}\r\n", text.replace(['\r', '\n'], " ")),
            false => format!(
                "HTTP/1.1 401 Unauthorized\r\nContent-Length: {}\r\nX-Echo: {SECRET}\r\n\r\n{text}",
                text.len()
            ),
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            break;
        }
    }
}

#[track_caller]
fn assert_hidden(text: &str) {
    for secret in [SECRET, AS_BASIC] {
        if let Some(at) = text.find(secret) {
            let from = text[..at].rfind('\n').map_or(0, |at| at + 1);
            panic!("{:?}", text[from..].lines().next());
        }
    }
}

#[test]
fn a_secret_is_in_no_output_of_any_command() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    let lines = directory.path().join("lines");
    fs::write(&lines, format!("X-A: b\n\nX-Key: {SECRET}\n")).unwrap();
    let port = echoing();
    let mut urls: Vec<&str> = Vec::new();
    if cfg!(feature = "redis") {
        urls.extend([
            "redis://me:hunter2@HOST/s",
            "redis://:hunter2@HOST/s",
            "redis://me@HOST/s?password=hunter2",
            "redis://me@HOST/s?password_file=FILE",
            "redis://HOST/s?password_env=SECRET_OF_IT",
        ]);
    }
    if cfg!(feature = "http") {
        urls.extend([
            "http://me:hunter2@HOST/x",
            "http://HOST/x?user=me&password=hunter2",
            "http://HOST/x?user=me&password_file=FILE",
            "http://HOST/x?token=hunter2",
            "http://HOST/x?query=pipeline=logs%26api_key=hunter2",
            "http://HOST/x?query_file=FILE",
            "http://HOST/x?headers=X-A:b%5C,hunter2,X-Key: key hunter2",
            "http://HOST/x?headers_file=LINES",
            "http://HOST/x?headers_env=HEADER_OF_IT",
            "http://HOST/x?token_file=FILE&dialect=splunk",
            "http://HOST/x?token_env=SECRET_OF_IT&dialect=loki",
        ]);
    }
    // What is not sent is not sent back: the login comes behind the first answer, which is none.
    if cfg!(feature = "kafka-tls") {
        urls.extend([
            "kafka://me:hunter2@HOST/t",
            "kafka://me@HOST/t?password=hunter2&sasl_mechanism=plain",
            "kafka://me@HOST/t?password_file=FILE&sasl_mechanism=scram-sha-256",
            "kafka://me@HOST/t?password_env=SECRET_OF_IT&tls=true",
        ]);
    }
    thread::scope(|scope| {
        for (nth, url) in urls.iter().enumerate() {
            let url = url
                .replace("HOST", &format!("127.0.0.1:{port}"))
                .replace("FILE", file.to_str().unwrap())
                .replace("LINES", lines.to_str().unwrap());
            let format = ["json", "text"][nth % 2];
            scope.spawn(move || show_everything(&url, format));
        }
    });
}

/// Runs everything that shows something of an output.
fn show_everything(url: &str, format: &str) {
    let with = |args: &[&str]| {
        let header = format!("X-Key: {SECRET}");
        let launch = Drainline::with(args).env("SECRET_OF_IT", SECRET);
        launch.env("HEADER_OF_IT", &header)
    };
    let (exit, text) = run_by(with(&["check", "--sink", url]));
    exit.assert_code(0);
    assert!(text.contains("sink = "), "{text}");
    // What is printed is a file that is taken, without the secret.
    let directory = tempfile::tempdir().unwrap();
    let printed = directory.path().join("printed.toml");
    let (settings, _) = text.split_once("limits: ").unwrap();
    fs::write(&printed, settings).unwrap();
    let (again, _) = run_by(with(&["check", "--config", printed.to_str().unwrap()]));
    again.assert_code(0);
    let is_missing = settings.contains("\"***\"");
    assert_eq!(
        settings.contains("so it is missing here"),
        is_missing,
        "{text}"
    );
    assert_hidden(&(text + &exit.stderr));
    // The same in a table, of which a second key is wrong.
    let config = directory.path().join("config.toml");
    fs::write(
        &config,
        format!("[[output]]\nsink = \"{url}\"\nnosuch = 1\n"),
    )
    .unwrap();
    let config = config.to_str().unwrap();
    let (exit, text) = run_by(with(&["check", "--config", config]));
    exit.assert_code(78);
    assert_hidden(&(text + &exit.stderr));

    let flags = ["--drain-timeout", "500ms", "--report", format];
    let mut args = [&["--sink", url, "--sink", "null"], &flags[..]].concat();
    let launch = match format {
        "json" => {
            args.extend(["--log-level", "trace"]);
            with(&args)
        }
        // What ureq itself would show there.
        _ => with(&args).env(
            "RUST_LOG",
            "trace,ureq=trace,ureq::util=trace,ureq_proto::util=trace",
        ),
    };
    let mut server = launch.start();
    let mut client = server.connect();
    client.write_all(b"a message\n").unwrap();
    wait_until("an answer", DEADLINE, || {
        server.stderr_text().contains("failed: ")
    });
    server.signal(Signal::USR1);
    server.signal_served(Signal::HUP);
    wait_until("the list", DEADLINE, || {
        server.stderr_text().contains("unanswered")
    });
    client::half_close(client);
    // Another answer or two.
    thread::sleep(Duration::from_millis(300));
    let exit = server.terminate();
    assert_eq!(exit.code, Some(4), "{exit}");
    assert!(exit.stderr.contains("failed: "), "{exit}");
    assert_hidden(&exit.stderr);
    assert_hidden(&String::from_utf8_lossy(&server.stdout_bytes()));
}

/// It is there for the program, and nobody asked to have it printed.
#[cfg(feature = "http")]
#[test]
fn a_command_does_not_get_the_variable_of_another_outputs_secret() {
    let variables = [("SECRET_OF_IT", SECRET), ("ANOTHER", "is passed on")];
    let sinks = [
        "exec:/bin/sh -c 'env; cat'",
        "http://127.0.0.1:9?token_env=SECRET_OF_IT&required=false",
    ];
    let args = ["--sink", sinks[0], "--sink", sinks[1]];
    let launch = Drainline::with(&args);
    let launch = variables
        .iter()
        .fold(launch, |it, (name, value)| it.env(name, value));
    let mut server = launch.start();
    server.terminate();
    let printed = String::from_utf8_lossy(&server.stdout_bytes()).into_owned();
    assert!(printed.contains("ANOTHER=is passed on"), "{printed}");
    assert_hidden(&printed);
    assert!(!printed.contains("SECRET_OF_IT"), "{printed}");
}

#[cfg(feature = "http")]
mod forms {
    use super::*;
    use std::fmt::Write as _;
    use std::sync::Arc;

    use serde_json::Value;

    /// With what JSON, a URL, a page and an encoding write in other ways.
    const SECRET: &str = "Zq7!\"/+\u{fc}%&=X9kLm<?>~?r";
    /// `me:` and the secret, as basic authentication sends it.
    const AS_BASIC: &str = "bWU6WnE3ISIvK8O8JSY9WDlrTG08Pz5+P3I=";
    /// As much of a secret as nobody may see.
    const PART: usize = 6;

    /// An answer: its status, its headers, its body; and what of it is secret.
    struct Row {
        what: &'static str,
        status: &'static str,
        headers: String,
        body: Vec<u8>,
        form: Vec<u8>,
    }

    fn in_body(what: &'static str, before: &str, form: impl Into<Vec<u8>>) -> Row {
        let form = form.into();
        Row {
            what,
            status: "500 Internal Server Error",
            headers: String::new(),
            body: [before.as_bytes(), &form, b" is wrong"].concat(),
            form,
        }
    }

    fn in_location(what: &'static str, before: usize, form: &str) -> Row {
        let before = "x".repeat(before);
        Row {
            status: "302 Found",
            headers: format!("Location: http://host/{before}{form}/y\r\n"),
            body: Vec::new(),
            ..in_body(what, "", form)
        }
    }

    fn of_document(what: &'static str, before: &str, form: &str) -> Row {
        let error = format!(r#"{{"type":"kind","reason":"{before}{form} is wrong"}}"#);
        let items = format!(r#"[{{"create":{{"status":429,"error":{error}}}}}]"#);
        Row {
            status: "200 OK",
            body: format!(r#"{{"errors":true,"items":{items}}}"#).into_bytes(),
            ..in_body(what, "", form)
        }
    }

    fn rows() -> Vec<Row> {
        let in_json = |text: &str| {
            let text = Value::from(text).to_string();
            text[1..text.len() - 1].to_owned()
        };
        let json = in_json(SECRET);
        let ascii = json.replace('\u{fc}', "\\u00fc");
        let php = ascii.replace('/', "\\/");
        let percent: String = SECRET.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "%{byte:02X}");
            text
        });
        let page = SECRET.replace('&', "&amp;").replace('"', "&quot;");
        let page = page
            .replace('<', "&lt;")
            .replace('>', "&gt;")
            .replace('\u{fc}', "&uuml;");
        let latin: Vec<_> = SECRET.chars().map(|char| char as u8).collect();
        let spaces = " ".repeat(4085);
        vec![
            in_body("as it is", "", SECRET),
            in_body("JSON", "{\"error\": \"", json.clone()),
            in_body("JSON in ASCII", "", ascii.clone()),
            in_body("JSON of PHP", "", php.clone()),
            in_body("JSON, all by number", "", php.replace("\\/", "\\u002F")),
            in_body("JSON in JSON", "", in_json(&php)),
            in_body("a URL", "", percent.clone()),
            in_body("a URL of a form", "", percent.to_lowercase()),
            in_body("a URL in a URL", "", percent.replace('%', "%25")),
            in_body("a page", "<html>", page),
            in_body("Latin-1", "", latin),
            in_body("a login", "Basic ", AS_BASIC),
            in_body(
                "a login without padding",
                "",
                AS_BASIC.trim_end_matches('='),
            ),
            in_body(
                "a login in a URL",
                "",
                AS_BASIC.replace('+', "-").replace('/', "_"),
            ),
            in_body(
                "across the end of what is told",
                &"x".repeat(188),
                php.clone(),
            ),
            in_body("across the end of what is read", &spaces, php.clone()),
            in_location("a place", 10, &percent),
            in_location("a place that is cut", 170, &percent),
            in_location("a login in a place that is cut", 173, AS_BASIC),
            of_document("a document", "", &php),
            of_document(
                "a document, all by number",
                "",
                &php.replace("\\/", "\\u002f"),
            ),
            of_document("a document that is cut", &"x".repeat(185), &php),
            of_document("a document's error that is cut", &"\\n".repeat(588), &php),
            Row {
                headers: format!("Server: {AS_BASIC}\r\nContent-Type: text/{AS_BASIC}\r\n"),
                ..in_body("headers, which ureq logs", "", AS_BASIC)
            },
        ]
    }

    /// Answers a request for `/N` with the row of that number. Returns its port.
    fn answering(rows: Arc<Vec<Row>>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let rows = Arc::clone(&rows);
                thread::spawn(move || answer(stream, &rows));
            }
        });
        port
    }

    fn answer(mut stream: TcpStream, rows: &[Row]) {
        let mut request = Vec::new();
        let mut more = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut more) {
            request.extend_from_slice(&more[..read]);
            // The one message is its end.
            let text = String::from_utf8_lossy(&request).into_owned();
            if !text.contains("a message") {
                continue;
            }
            let path = text.split(['/', '?', ' ']).nth(2).unwrap();
            let row = &rows[path.parse::<usize>().unwrap()];
            let (status, headers, length) = (row.status, &row.headers, row.body.len());
            let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
            let answer = [head.as_bytes(), &row.body].concat();
            if stream.write_all(&answer).is_err() {
                break;
            }
            request.clear();
        }
    }

    #[test]
    fn a_secret_is_hidden_in_whatever_form_an_answer_has_it() {
        let rows = Arc::new(rows());
        let port = answering(Arc::clone(&rows));
        let mut config = String::new();
        for (nth, row) in rows.iter().enumerate() {
            let dialect = match row.what.contains("document") {
                true => "elasticsearch",
                false => "ndjson",
            };
            let sink = format!("http://me@127.0.0.1:{port}/{nth}?dialect={dialect}");
            writeln!(
                config,
                "[[output]]\nname = \"row-{nth}\"\nsink = \"{sink}\""
            )
            .unwrap();
            writeln!(config, "password_env = \"SECRET_OF_IT\"\nrequests = 1").unwrap();
            writeln!(config, "body_bytes = \"16KiB\"\nrequired = {}", nth == 0).unwrap();
            if nth > 0 {
                writeln!(config, "buffer_bytes = \"128KiB\"").unwrap();
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config.toml");
        fs::write(&file, config).unwrap();
        let mut args = vec!["--config", file.to_str().unwrap(), "--max-connections", "4"];
        args.extend(["--report", "json", "--drain-timeout", "500ms"]);
        args.extend(["--log-level", "trace"]);
        let launch = Drainline::with(&args).env("SECRET_OF_IT", SECRET);
        let mut server = launch.start();
        let mut client = server.connect();
        client.write_all(b"a message\n").unwrap();
        let status = server.wait_for_status("an answer to each", |status| {
            let outputs = status["outputs"].as_array().unwrap();
            outputs
                .iter()
                .all(|output| output["last_error"].is_string())
        });
        client::half_close(client);
        let exit = server.terminate();
        for (row, output) in rows.iter().zip(status["outputs"].as_array().unwrap()) {
            let error = output["last_error"].as_str().unwrap();
            assert!(
                error.contains("it answers ") || error.contains("documents"),
                "{error}"
            );
            assert!(error.contains("***"), "{}: {error}", row.what);
            for text in [error, &exit.stderr] {
                for part in row.form.windows(PART) {
                    let part = String::from_utf8_lossy(part);
                    assert!(!text.contains(&*part), "{}: {part} in {error}", row.what);
                }
            }
        }
    }
}
