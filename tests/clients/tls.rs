//! Clients that others wrote, over TLS: what each sends arrives whole and is counted, and who
//! cannot speak with us is told of in words.

use std::fs::{self, File};
use std::io::Write;
use std::process::{Command, Output, Stdio};

use crate::common::certificates::Certificates;
use crate::common::child::{Drainline, Stdout};
use crate::common::exit::Exit;
use crate::common::programs::{address, counted, find, finish, installed, run};
use crate::common::rsyslog::Site;
use crate::common::wait::{DEADLINE, wait_until};

const MESSAGES: u64 = 2_000;

/// A drainline that listens with a certificate.
fn start(certificates: &Certificates, args: &[&str]) -> Drainline {
    let listening = certificates.listening("127.0.0.1:0");
    let listening = listening.iter().map(String::as_str);
    Drainline::start(&args.iter().copied().chain(listening).collect::<Vec<_>>())
}

/// Numbered lines. No letter is in them that s_client would take for a command, wherever it begins
/// to read.
fn lines() -> Vec<u8> {
    let filler = "x".repeat(190);
    let line = |number| format!("{number:08} {filler}\n");
    (0..MESSAGES).map(line).collect::<String>().into_bytes()
}

/// Has a client send lines from its stdin: all of them arrive.
#[track_caller]
fn sends_lines(
    program: &str,
    args: impl Fn(&Certificates, &str, &str) -> Vec<String>,
) -> Option<()> {
    let program = installed(program)?;
    let certificates = Certificates::new();
    let sent = lines();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sent");
    fs::write(&file, &sent).unwrap();
    let child = start(&certificates, &[]);
    let (host, port) = address(&child);
    let mut command = Command::new(program);
    command.args(args(&certificates, &host, &port));
    let output = command.stdin(File::open(&file).unwrap()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let (exit, sink) = finish(child, |sink| sink.len() >= sent.len());
    assert!(sink == sent, "{} bytes of {}", sink.len(), sent.len());
    assert_eq!(exit.u64("received"), MESSAGES);
    // What was read is what was meant, not what was on the wire.
    assert_eq!(exit.u64("bytes_read"), sent.len() as u64);
    Some(())
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

// ---- openssl

fn s_client(version: &str) -> impl Fn(&Certificates, &str, &str) -> Vec<String> {
    move |certificates, host, port| {
        words(&format!(
            "s_client -connect {host}:{port} -servername localhost -{version} -CAfile {} \
             -verify_return_error -quiet -no_ign_eof",
            certificates.authority()
        ))
    }
}

#[test]
fn openssl_over_tls_1_3() {
    sends_lines("openssl", s_client("tls1_3"));
}

#[test]
fn openssl_over_tls_1_2() {
    sends_lines("openssl", s_client("tls1_2"));
}

/// What openssl says and how it ends, against a drainline that listens with these arguments beside
/// its certificate, and how that ended.
#[track_caller]
fn is_refused(certificates: &Certificates, ours: &[&str], theirs: &str) -> Option<(Output, Exit)> {
    let openssl = installed("openssl")?;
    let mut child = start(certificates, ours);
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &child.addr().to_string()]);
    command.args(words(theirs)).stdin(Stdio::null());
    let output = command.output().unwrap();
    child.wait_until_all_ended();
    let exit = child.terminate();
    // The peer's fault, and nothing of ours is lost.
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("received"), 0, "{exit}");
    assert_eq!(exit.u64("connections.ended.handshake_failed"), 1, "{exit}");
    Some((output, exit))
}

#[test]
fn openssl_over_tls_1_1_is_refused_in_words() {
    let theirs = "-tls1_1 -cipher DEFAULT@SECLEVEL=0";
    let Some((output, exit)) = is_refused(&Certificates::new(), &[], theirs) else {
        return;
    };
    assert!(!output.status.success(), "{output:?}");
    assert!(exit.stderr.contains("no TLS version from 1.2 on"), "{exit}");
}

#[test]
fn openssl_without_a_certificate_is_refused_in_words_where_one_is_required() {
    let certificates = Certificates::new();
    let authority = certificates.authority();
    let ours = ["--tls-client-ca", &authority];
    let Some((_, exit)) = is_refused(&certificates, &ours, "-tls1_3") else {
        return;
    };
    assert!(exit.stderr.contains("certificate"), "{exit}");
}

#[test]
fn openssl_with_a_certificate_of_another_authority_is_refused_in_words() {
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let authority = certificates.authority();
    let ours = ["--tls-client-ca", &authority];
    let [certificate, key] = others.client();
    let theirs = format!("-tls1_3 -cert {certificate} -key {key}");
    let Some((_, exit)) = is_refused(&certificates, &ours, &theirs) else {
        return;
    };
    assert!(exit.stderr.contains("certificate"), "{exit}");
}

#[test]
fn openssl_with_its_certificate_is_known_by_its_name() {
    let Some(openssl) = installed("openssl") else {
        return;
    };
    let certificates = Certificates::new();
    let authority = certificates.authority();
    let mut child = start(&certificates, &["--tls-client-ca", &authority]);
    let [certificate, key] = certificates.client();
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &child.addr().to_string(), "-quiet"]);
    command.args(["-cert", &certificate, "-key", &key]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut client = crate::common::guard::Guarded(spawned.stderr(Stdio::null()).spawn().unwrap());
    child.wait_for_status("its name", |status| {
        status["connections"][0]["tls_name"] == "client.test"
    });
    drop(client.0.stdin.take());
    drop(client);
    child.wait_until_all_ended();
    child.terminate().assert_code(0);
}

/// A drain ends its stream without a goodbye, since more may be on its way. openssl calls that a
/// decode error, which is no fault of its own.
#[test]
fn openssl_that_has_just_sent_something_has_broken_no_protocol_at_a_drain() {
    let Some(openssl) = installed("openssl") else {
        return;
    };
    let certificates = Certificates::new();
    let mut child = start(&certificates, &[]);
    let mut command = Command::new(openssl);
    command.args(["s_client", "-connect", &child.addr().to_string(), "-quiet"]);
    let spawned = command.stdin(Stdio::piped()).stdout(Stdio::null());
    let mut client = crate::common::guard::Guarded(spawned.stderr(Stdio::null()).spawn().unwrap());
    let stdin = client.0.stdin.as_mut().unwrap();
    stdin.write_all(b"a line\n").unwrap();
    wait_until("the line", DEADLINE, || child.stdout_len() == 7);
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.unclosed"), 1, "{exit}");
    assert!(!exit.stderr.contains("WARN"), "{exit}");
}

// ---- ncat, socat

#[test]
fn ncat_over_tls() {
    sends_lines("ncat", |certificates, _, port| {
        words(&format!(
            "-4 --ssl-verify --ssl-trustfile {} --send-only localhost {port}",
            certificates.authority()
        ))
    });
}

#[test]
fn socat_over_tls() {
    sends_lines("socat", |certificates, host, port| {
        words(&format!(
            "-u STDIN OPENSSL:{host}:{port},cafile={},commonname=localhost",
            certificates.authority()
        ))
    });
}

/// A client that does not speak TLS.
#[test]
fn ncat_in_the_clear_is_refused_in_words() {
    let Some(ncat) = installed("ncat") else {
        return;
    };
    let mut child = start(&Certificates::new(), &[]);
    let (host, port) = address(&child);
    let mut command = Command::new(ncat);
    command.args(["--send-only", &host, &port]);
    let mut client = command.stdin(Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(client.stdin.as_mut().unwrap(), b"<13>a line\n").unwrap();
    drop(client.stdin.take());
    let _ = client.wait().unwrap();
    child.wait_until_all_ended();
    let exit = child.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert_eq!(exit.u64("connections.ended.handshake_failed"), 1, "{exit}");
    assert!(exit.stderr.contains("TLS"), "{exit}");
}

// ---- rsyslog

#[track_caller]
fn omfwd_sends(framing: &str, driver: &'static str) {
    const MESSAGES: u64 = 5_000;
    let Some(site) = Site::over_tls(framing, driver) else {
        return;
    };
    site.write(0..MESSAGES);
    let mut drainline = site.drainline("syslog");
    let rsyslog = site.rsyslog();
    site.wait_for(MESSAGES - 1);
    rsyslog.terminate();
    drainline.wait_until_all_ended();
    let exit = drainline.terminate();
    exit.assert_code(0);
    exit.assert_closes();
    assert!(site.arrived().into_iter().eq(0..MESSAGES));
    assert_eq!(exit.u64("received"), MESSAGES);
}

#[test]
fn omfwd_with_gnutls_in_lines() {
    omfwd_sends("traditional", "gtls");
}

#[test]
fn omfwd_with_gnutls_counted() {
    omfwd_sends("octet-counted", "gtls");
}

#[test]
fn omfwd_with_openssl_in_lines() {
    omfwd_sends("traditional", "ossl");
}

#[test]
fn omfwd_with_openssl_counted() {
    omfwd_sends("octet-counted", "ossl");
}

// ---- syslog-ng

#[test]
fn syslog_ng_over_tls() {
    let certificates = Certificates::new();
    let tls = format!(
        r#"transport("tls") port(PORT) tls(ca-file("{}") peer-verify(required-trusted))"#,
        certificates.authority()
    );
    let driver = format!(r#"syslog("HOST" {tls})"#);
    let Some(program) = installed("syslog-ng") else {
        return;
    };
    let args = ["--framing", "syslog", "--output-framing", "octet-counted"];
    let child = start(&certificates, &args);
    let (host, port) = address(&child);
    let folder = tempfile::tempdir().unwrap();
    let destination = driver.replace("HOST", &host).replace("PORT", &port);
    let syslog_ng = crate::syslog_ng::start(&program, &folder, &destination);
    wait_until("all that was sent", DEADLINE, || {
        counted(&child.stdout_bytes()).len() as u64 >= crate::syslog_ng::MESSAGES
    });
    syslog_ng.terminate();
    let (exit, _) = finish(child, |_| true);
    assert_eq!(exit.u64("received"), crate::syslog_ng::MESSAGES);
}

#[test]
fn loggen_over_tls() {
    const EACH: u64 = 500;
    const CONNECTIONS: u64 = 3;
    let Some(loggen) = installed("loggen") else {
        return;
    };
    let args = ["--framing", "syslog", "--output-framing", "octet-counted"];
    let child = start(&Certificates::new(), &args);
    let (host, port) = address(&child);
    let mut command = Command::new(loggen);
    command.args(words(&format!(
        "--use-ssl --quiet --rate 1000000 --size 256 --syslog-proto \
         --active-connections {CONNECTIONS} --number {EACH} {host} {port}"
    )));
    run(&mut command);
    let (exit, _) = finish(child, |sink| {
        counted(sink).len() as u64 == CONNECTIONS * EACH
    });
    assert_eq!(exit.u64("received"), CONNECTIONS * EACH);
}

// ---- Python

/// It never reads, and hangs up as soon as its kernel has what it sent. Whatever the server had
/// sent it by then, such as session tickets, would make the kernel reset the connection and throw
/// away what is not on its way yet.
const HASTY: &str = r#"
import socket, ssl, sys

context = ssl.create_default_context(cafile=sys.argv[3])
context.check_hostname = False
for number in range(int(sys.argv[4])):
    raw = socket.create_connection((sys.argv[1], int(sys.argv[2])))
    client = context.wrap_socket(raw)
    client.sendall(b"".join(b"record %d %d\n" % (number, line) for line in range(40000)))
    client.close()
"#;

#[test]
fn all_that_python_sent_arrives_though_it_never_reads() {
    const CLIENTS: u64 = 4;
    const LINES: u64 = CLIENTS * 40_000;
    let Some(python) = installed("python3") else {
        return;
    };
    let certificates = Certificates::new();
    let listening = certificates.listening("127.0.0.1:0");
    let listening = listening.iter().map(String::as_str);
    let args = ["--buffer-messages", "16"].into_iter().chain(listening);
    let mut child = Drainline::with(&args.collect::<Vec<_>>())
        .stdout(Stdout::Unread)
        .start();
    let (host, port) = address(&child);
    let mut command = Command::new(python);
    command.args(["-c", HASTY, &host, &port, &certificates.authority()]);
    // All have hung up before the most of it is read.
    run(command.arg(CLIENTS.to_string()));
    child.collect_stdout();
    let (exit, _) = finish(child, |sink| {
        memchr::memchr_iter(b'\n', sink).count() as u64 == LINES
    });
    assert_eq!(exit.u64("received"), LINES);
    assert_eq!(exit.sum("connections.ended"), CLIENTS);
}

// ---- Go

/// It sends, says that it has ended, and reads nothing.
const GO: &str = r#"
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
)

func main() {
	pool := x509.NewCertPool()
	authority, _ := os.ReadFile(os.Args[3])
	pool.AppendCertsFromPEM(authority)
	config := &tls.Config{RootCAs: pool, ServerName: "localhost"}
	for number := 0; number < 40; number++ {
		client, err := tls.Dial("tcp", net.JoinHostPort(os.Args[1], os.Args[2]), config)
		if err != nil {
			panic(err)
		}
		for line := 0; line < 500; line++ {
			fmt.Fprintf(client, "record %d %d\n", number, line)
		}
		client.Close()
	}
}
"#;

/// Where there is a compiler for it, which no other test needs.
#[test]
fn all_that_go_sent_arrives() {
    const LINES: u64 = 40 * 500;
    let Some(go) = find("go") else {
        eprintln!("left out: go is not installed");
        return;
    };
    let certificates = Certificates::new();
    let child = start(&certificates, &[]);
    let (host, port) = address(&child);
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("main.go");
    fs::write(&source, GO).unwrap();
    let mut command = Command::new(go);
    command.arg("run").arg(&source);
    run(command.args([&host, &port, &certificates.authority()]));
    let (exit, _) = finish(child, |sink| {
        memchr::memchr_iter(b'\n', sink).count() as u64 == LINES
    });
    assert_eq!(exit.u64("received"), LINES);
    assert_eq!(exit.u64("connections.ended.eof"), 40);
}
