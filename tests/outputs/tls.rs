//! Forwarding over TLS: whom it trusts, what it shows, and that nothing is written before both are
//! known to do.

use std::fs;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use rustls::{ServerConnection, StreamOwned};

use crate::common::certificates::Certificates;
use crate::common::checker::Checker;
use crate::common::child::Drainline;
use crate::common::client;
use crate::common::ledger::assert_both_close;
use crate::common::port::free_port;
use crate::common::tagged::{Cut, Tagged};
use crate::common::wait::{DEADLINE, wait_for};
use crate::forward::{SOON, accept, listen, start, wait_error};
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

/// It reads on later than a message is finished for. Several records are encrypted at once, and the
/// kernel has taken some of them.
#[test]
fn what_a_receiver_reads_late_behind_its_end_of_the_stream_is_not_sent_again() {
    let certificates = Certificates::new();
    let (listener, _) = listen();
    let small = 4096;
    socket2::SockRef::from(&listener)
        .set_recv_buffer_size(small)
        .unwrap();
    let target = Target::tls("127.0.0.1", listener.local_addr().unwrap().port());
    let tls = TlsClient::new().ca_file(certificates.authority());
    let (server, mut stream) = start(Forward::to(target).tls(tls));
    let config = certificates.server_config();
    let receiver = || {
        let mut socket = accept(&listener).into_inner();
        let mut session = ServerConnection::new(Arc::clone(&config)).unwrap();
        session.complete_io(&mut socket).unwrap();
        StreamOwned::new(session, socket)
    };
    // Without an end that is said.
    let read = |mut receiver: StreamOwned<_, _>| {
        let mut bytes = Vec::new();
        let _ = receiver.read_to_end(&mut bytes);
        let whole = bytes.iter().rposition(|byte| *byte == b'\n');
        bytes.truncate(whole.map_or(0, |at| at + 1));
        bytes
    };
    let mut before = receiver();
    let sending = thread::spawn(move || {
        let sent = Tagged::new(0).send(&mut stream, 0..50_000, 100, Cut::Blocks);
        (sent.all().messages, stream)
    });
    wait_for("a full kernel", DEADLINE, || {
        let delivered = server.stats().delivered;
        thread::sleep(Duration::from_millis(300));
        (delivered > 0 && server.stats().delivered == delivered).then_some(())
    });
    before.conn.send_close_notify();
    before.conn.write_tls(&mut before.sock).unwrap();
    before.sock.shutdown(Shutdown::Write).unwrap();
    let after = receiver();
    let (before, after) = (
        thread::spawn(move || read(before)),
        thread::spawn(move || read(after)),
    );
    let (messages, stream) = sending.join().unwrap();
    client::half_close(stream);
    assert_both_close(&server.shutdown(DEADLINE));
    let bytes = [before, after].map(|reading| reading.join().unwrap());
    Checker::read(&bytes.concat()).expect_exact(&[(0, messages)]);
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
