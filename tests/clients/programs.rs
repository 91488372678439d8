//! Clients that others wrote, against the real binary: what each sends arrives whole and is
//! counted, in each framing that fits it, and the ledger closes.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use crate::common::child::Drainline;
use crate::common::exit::Counted;
use crate::common::guard::Guarded;
use crate::common::programs::{address, counted, finish, installed, run};
use crate::common::tagged::Tagged;
use crate::common::wait::DEADLINE;

/// A message of more than one read.
const LONG: usize = 10_000;

fn lines(sink: &[u8]) -> usize {
    memchr::memchr_iter(b'\n', sink).count()
}

// ---- logger

/// What logger is given to send, a message a line. It sends its messages with a header of its own
/// before each.
fn said() -> Vec<String> {
    (0..200)
        .map(|seq| String::from_utf8(Tagged::new(1).line(seq, 200)).unwrap())
        .collect()
}

/// Has logger send each line of [`said`] as a message, on one connection.
#[track_caller]
fn logger_sends(framing: &str, options: &[&str]) {
    let Some(logger) = installed("logger") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("said");
    fs::write(&file, said().join("\n") + "\n").unwrap();
    let child = Drainline::start(&["--framing", framing]);
    let (host, port) = address(&child);
    let mut command = Command::new(logger);
    command.args(["--server", &host, "--port", &port, "--tcp"]);
    run(command.args(options).arg("--file").arg(&file));
    let (exit, sink) = finish(child, |sink| lines(sink) == said().len());

    let sink = String::from_utf8(sink).unwrap();
    for (line, said) in sink.lines().zip(said()) {
        let is_whole = line.starts_with('<') && line.ends_with(&format!(" {said}"));
        assert!(is_whole, "{said:?} arrived as {line:?}");
    }
    assert_eq!(exit.u64("received"), said().len() as u64);
    assert_eq!(
        exit.u64("message_bytes") as usize,
        sink.len() - lines(sink.as_bytes())
    );
    assert_eq!(exit.u64("connections.ended.eof"), 1);
    // Of each message three digits and a space, or a LF.
    let around = if options.contains(&"--octet-count") {
        4
    } else {
        1
    };
    assert_eq!(exit.u64("framing_bytes"), around * exit.u64("received"));
}

#[test]
fn logger_in_lines() {
    logger_sends("lines", &[]);
}

#[test]
fn logger_in_lines_as_syslog() {
    logger_sends("syslog", &["--rfc3164"]);
}

#[test]
fn logger_with_octet_count() {
    logger_sends("octet-counted", &["--octet-count"]);
}

#[test]
fn logger_with_octet_count_as_syslog() {
    logger_sends("syslog", &["--octet-count"]);
}

// ---- ncat

#[track_caller]
fn ncat_sends(framing: &str, sent: &[u8], messages: u64) {
    let Some(ncat) = installed("ncat") else {
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("sent");
    fs::write(&file, sent).unwrap();
    let child = Drainline::start(&["--framing", framing, "--output-framing", framing]);
    let (host, port) = address(&child);
    let mut command = Command::new(ncat);
    command.args(["--send-only", &host, &port]);
    let status = command.stdin(fs::File::open(&file).unwrap()).status();
    assert!(status.unwrap().success());
    let (exit, sink) = finish(child, |sink| sink.len() >= sent.len());
    assert!(sink == sent, "{} bytes of {}", sink.len(), sent.len());
    let counted = Counted {
        messages: exit.u64("received"),
        bytes: exit.u64("bytes_read"),
    };
    let bytes = sent.len() as u64;
    assert_eq!(counted, Counted { messages, bytes });
}

#[test]
fn ncat_with_lines() {
    ncat_sends("lines", &Tagged::new(1).lines(0..2_000, LONG / 50), 2_000);
}

#[test]
fn ncat_with_nul() {
    let mut sent = Vec::new();
    for seq in 0..20 {
        sent.extend(Tagged::new(1).lines(seq..seq + 2, LONG));
        sent.push(0);
    }
    ncat_sends("nul", &sent, 20);
}

#[test]
fn ncat_with_length_prefixes() {
    let mut sent = Vec::new();
    for seq in 0..20 {
        let message = Tagged::new(1).line(seq, LONG);
        sent.extend((message.len() as u32).to_be_bytes());
        sent.extend(message);
    }
    ncat_sends("length-prefixed", &sent, 20);
}

// ---- openssl

/// A child that opens a TLS session: it sends its hello and waits for an answer.
fn hello(child: &Drainline) -> Option<Guarded> {
    let openssl = installed("openssl")?;
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &child.addr().to_string()]);
    command.stdin(Stdio::piped()).stdout(Stdio::null());
    Some(Guarded(command.stderr(Stdio::null()).spawn().unwrap()))
}

/// A hello begins with a handshake record of version 3.1.
const HELLO: &[u8] = &[0x16, 3, 1];

#[track_caller]
fn hello_is_a_message(framing: &str) {
    // Written as they came, since a hello may hold any byte.
    let mut child = Drainline::start(&["--framing", framing, "--output-framing", "octet-counted"]);
    let Some(client) = hello(&child) else {
        return;
    };
    // Not before the hello is here, which is one record.
    child.wait_for_status("a hello read", |status| {
        let mut connections = status["connections"].as_array().unwrap().iter();
        connections.any(|connection| connection["id"] == 1 && connection["bytes"] != 0)
    });
    // It hangs up, and what it did not end is a message all the same.
    drop(client);
    child.wait_until_all_ended();
    let (exit, sink) = finish(child, |_| true);
    let messages = counted(&sink);
    assert!(messages[0].starts_with(HELLO), "{messages:?}");
    assert!(exit.u64("bytes_read") > 100, "{exit}");
    assert_eq!(exit.u64("received"), messages.len() as u64);
    assert_eq!(exit.u64("connections.ended.eof"), 1, "{exit}");
}

#[track_caller]
fn hello_is_garbage(framing: &str) {
    let mut child = Drainline::start(&["--framing", framing]);
    let Some(mut client) = hello(&child) else {
        return;
    };
    // Its connection is closed: it gives up by itself.
    let ended = client.wait(DEADLINE);
    assert!(ended.is_some_and(|status| !status.success()), "{ended:?}");
    let exit = child.terminate();
    // Nothing of ours was lost.
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.protocol_error"), 1, "{exit}");
    assert_eq!(
        exit.u64("discarded.invalid_frame"),
        exit.u64("bytes_read"),
        "{exit}"
    );
    assert!(exit.u64("bytes_read") > 100, "{exit}");
    assert_eq!(exit.u64("received"), 0);
    assert_eq!(child.stdout_bytes(), b"");
}

#[test]
fn a_tls_hello_is_a_message_like_any_other_in_lines() {
    hello_is_a_message("lines");
}

#[test]
fn a_tls_hello_is_a_message_like_any_other_in_syslog() {
    hello_is_a_message("syslog");
}

#[test]
fn a_tls_hello_is_garbage_where_octets_are_counted() {
    hello_is_garbage("octet-counted");
}

#[test]
fn a_tls_hello_is_garbage_where_lengths_are_prefixed() {
    hello_is_garbage("length-prefixed");
}

// ---- syslog-ng's loggen

#[track_caller]
fn loggen_sends(framing: &str, options: &[&str]) {
    const CONNECTIONS: usize = 3;
    const EACH: usize = 500;
    let Some(loggen) = installed("loggen") else {
        return;
    };
    // loggen ends its messages with LF, counted ones too, so lines would not tell.
    let child = Drainline::start(&["--framing", framing, "--output-framing", "octet-counted"]);
    let (host, port) = address(&child);
    let mut command = Command::new(loggen);
    command.args([
        "--inet", "--stream", "--quiet", "--rate", "1000000", "--size", "256",
    ]);
    command.args(["--active-connections", &CONNECTIONS.to_string()]);
    command.args(["--number", &EACH.to_string()]).args(options);
    run(command.args([host, port]));
    let (exit, sink) = finish(child, |sink| counted(sink).len() == CONNECTIONS * EACH);

    let mut next: BTreeMap<String, usize> = BTreeMap::new();
    for message in counted(&sink) {
        let text = String::from_utf8(message.to_vec()).unwrap();
        let number = |name: &str| text.split(name).nth(1)?.split(',').next();
        let (seq, thread) = (number("seq: ").unwrap(), number("thread: ").unwrap());
        let next = next.entry(thread.to_owned()).or_default();
        assert!(text.starts_with("<38>"), "{text:?}");
        assert_eq!(text.trim_end().len(), 255, "{text:?}");
        // It counts the LF that it ends its messages with.
        let keeps_lf = framing == "octet-counted";
        assert_eq!(text.ends_with('\n'), keeps_lf, "{text:?}");
        assert_eq!(seq.parse(), Ok(*next), "thread {thread}: {text:?}");
        *next += 1;
    }
    assert_eq!(next.into_values().collect::<Vec<_>>(), [EACH; CONNECTIONS]);
    assert_eq!(exit.u64("received"), (CONNECTIONS * EACH) as u64);
}

#[test]
fn loggen_in_lines() {
    loggen_sends("lines", &[]);
}

#[test]
fn loggen_in_lines_as_syslog() {
    loggen_sends("syslog", &["--syslog-proto", "--no-framing"]);
}

#[test]
fn loggen_counted() {
    loggen_sends("octet-counted", &["--syslog-proto"]);
}

#[test]
fn loggen_counted_as_syslog() {
    loggen_sends("syslog", &["--syslog-proto"]);
}

// ---- Perl

#[test]
fn sys_syslog_as_syslog() {
    const SCRIPT: &str = r#"
        use Sys::Syslog qw(:standard :macros setlogsock);
        setlogsock({ type => "tcp", host => $ARGV[0], port => $ARGV[1] });
        openlog("app", "ndelay", LOG_USER);
        syslog(LOG_INFO, "record $_") for 1 .. 100;
        closelog();
    "#;
    let Some(perl) = installed("perl") else {
        return;
    };
    let child = Drainline::start(&["--framing", "syslog"]);
    let (host, port) = address(&child);
    run(Command::new(perl).args(["-e", SCRIPT, &host, &port]));
    let (exit, sink) = finish(child, |sink| lines(sink) == 100);
    let sink = String::from_utf8(sink).unwrap();
    for (line, number) in sink.lines().zip(1..) {
        let is_whole = line.starts_with("<14>") && line.ends_with(&format!("app: record {number}"));
        assert!(is_whole, "{line:?}");
    }
    // A LF and a NUL after each.
    assert_eq!(
        (exit.u64("framing_bytes"), exit.u64("unterminated")),
        (200, 0)
    );
}
