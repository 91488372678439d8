//! Forwarding over TLS: whom it trusts, what it shows, and that nothing is written before both are
//! known to do.

use std::fs;
use std::io::Write;
use std::path::Path;

use crate::common::certificates::Certificates;
use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::port::free_port;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::DEADLINE;
use crate::forward::{SOON, start, wait_error};
use drainline::TlsClient;
use drainline::ingest::sink::{Forward, Target};

fn receiver(certificates: &Certificates, port: u16, file: &Path, more: &[&str]) -> Drainline {
    let mut arguments = certificates
        .listening(&format!("127.0.0.1:{port}"))
        .to_vec();
    arguments.extend(["--sink".to_owned(), format!("file:{}", file.display())]);
    arguments.extend(more.iter().map(|&more| more.to_owned()));
    Drainline::start(&arguments)
}

#[test]
fn a_fast_stream_arrives_whole_over_tls_and_is_closed_in_good_order() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let certificates = Certificates::new();
    let port = free_port();
    let mut receiver = receiver(&certificates, port, &file, &[]);
    let tls = TlsClient::new().ca_file(certificates.authority());
    let (server, mut stream) = start(Forward::to(Target::tls("localhost", port)).tls(tls));
    let sent = Tagged::new(0)
        .send(&mut stream, 0..100_000, 100, Cut::Blocks)
        .all();
    client::half_close(stream);
    let report = server.shutdown(DEADLINE);
    assert_both_close(&report);
    let exit = receiver.terminate();
    exit.assert_code(0);
    assert!(!exit.stderr.contains("\"unclosed\""), "{exit}");
    Checker::read(&fs::read(&file).unwrap()).expect_exact(&[(0, sent.messages)]);
}

#[test]
fn who_cannot_be_trusted_or_does_not_trust_gets_no_message_and_the_next_receiver_does() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("messages");
    let (certificates, others) = (Certificates::new(), Certificates::new());
    let port = free_port();
    let authority = certificates.authority();
    let flags = ["--tls-client-ca", &authority];
    let mut receiver = receiver(&certificates, port, &file, &flags);
    let [own, key] = certificates.client();
    let [strange, strange_key] = others.client();
    let trusting = || TlsClient::new().ca_file(&authority);
    let named = |name: &str| trusting().server_name(name).unwrap();
    for (tls, told) in [
        (
            TlsClient::new().ca_file(others.authority()),
            "not from an authority",
        ),
        (named("elsewhere.test"), "elsewhere.test"),
        (trusting(), "asks for a client certificate"),
        (
            trusting().certificate_files(&strange, &strange_key),
            "has refused",
        ),
    ] {
        let (server, mut stream) = start(Forward::to(Target::tls("127.0.0.1", port)).tls(tls));
        stream.write_all(b"for the trusted alone\n").unwrap();
        wait_error(&server, told);
        client::half_close(stream);
        let report = server.shutdown(SOON);
        assert_eq!((report.stats.delivered, report.is_balanced()), (0, true));
    }
    let tls = trusting().certificate_files(&own, &key);
    let (server, mut stream) = start(Forward::to(Target::tls("127.0.0.1", port)).tls(tls));
    stream.write_all(b"for the trusted alone\n").unwrap();
    client::half_close(stream);
    assert_eq!(server.shutdown(DEADLINE).stats.delivered, 1);
    receiver.terminate();
    assert_eq!(fs::read(&file).unwrap(), b"for the trusted alone\n");
}

#[test]
fn what_does_not_speak_tls_is_told_and_so_are_files_that_cannot_be_used() {
    let mut receiver = Drainline::start(&["--sink", "null"]);
    let certificates = Certificates::new();
    let tls = TlsClient::new().ca_file(certificates.authority());
    let port = receiver.addr().port();
    let to = || Forward::to(Target::tls("127.0.0.1", port)).connect_timeout(10 * SOON);
    let (server, _stream) = start(to().tls(tls));
    wait_error(&server, "TLS");
    drop(server);
    receiver.terminate();
    let [own, key] = certificates.client();
    for (tls, told) in [
        (TlsClient::new().ca_file("/nosuch"), "TLS CA /nosuch"),
        (TlsClient::new().ca_file(&key), "no certificate in"),
        (
            TlsClient::new().ca_file(&own).certificate_files(&own, &own),
            "no private key in",
        ),
    ] {
        let error = to().tls(tls).open().unwrap_err().to_string();
        assert!(error.contains(told) && !error.contains('\n'), "{error}");
    }
}
