//! Who comes in, who does not, and what is said of it.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::mpsc;
use std::time::Duration;

use drainline::ingest::{Batches, Sink, SinkError};
use drainline::{
    Activity, ClientAuth, Config, ConnectionInfo, EndReason, Listener, Report, Server, Tls,
    TlsVersion,
};

use crate::authority::{Authority, Client, Pair, VERSIONS, config, tls};
use crate::common::client;
use crate::common::handlers::{LONG, anywhere, drained, wait_open};
use crate::common::ledger::assert_closes;
use crate::common::small;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, stays, wait_until};

/// A server that says each client's name, and reads to the end.
fn server(tls: Tls, change: impl FnOnce(&mut Config)) -> (Server, mpsc::Receiver<Option<String>>) {
    let (tell, told) = mpsc::channel();
    let mut config = Config::default();
    config.max_connections = Some(10);
    change(&mut config);
    let server = Server::builder()
        .config(config)
        .listener(Listener::on(anywhere()).tls(tls))
        .serve(move |conn| {
            tell.send(conn.tls_name().map(str::to_owned))?;
            let mut all = Vec::new();
            conn.read_to_end(&mut all)?;
            conn.write_all(&all)?;
            Ok(())
        })
        .unwrap();
    (server, told)
}

fn addr(server: &Server) -> SocketAddr {
    server.local_addrs()[0]
}

/// Blocks until so many connections have ended, and returns the report.
#[track_caller]
fn ended(server: Server, reason: EndReason, count: u64) -> Report {
    wait_until("ends", DEADLINE, || {
        server.stats().ended.get(reason) == count
    });
    let report = drained(server);
    assert_closes(&report.stats);
    report
}

#[test]
fn both_versions_are_spoken_and_what_is_sent_comes_back_to_the_end() {
    let (tls, authority) = tls();
    let (server, told) = server(tls, |_| {});
    for version in VERSIONS {
        let mut client = Client::connect(addr(&server), &config(&authority, None, &[version]));
        client.send(b"hello");
        client.session.send_close_notify();
        assert_eq!(client.rest(), (b"hello".to_vec(), String::new()));
        assert_eq!(told.recv().unwrap(), None);
    }
    let report = ended(server, EndReason::Eof, 2);
    assert_eq!(report.stats.ended.total(), 2);
}

#[test]
fn a_client_that_shows_many_certificates_is_refused() {
    let (tls, servers) = tls();
    let clients = Authority::new("clients");
    let tls = tls.client_ca_pem(clients.certificate.as_bytes()).unwrap();
    let (server, told) = server(tls, |_| {});
    for version in VERSIONS {
        let shown = |beside: usize| {
            let mut pair = clients.client("web1.example");
            pair.certificate
                .push_str(&clients.certificate.repeat(beside));
            Client::new(addr(&server), &config(&servers, Some(&pair), &[version]))
        };
        let mut good = shown(8);
        good.stream().flush().unwrap();
        assert!(told.recv().unwrap().is_some());
        good.close();
        let (_, error) = shown(9).rest();
        assert!(error.contains("HandshakeFailure"), "{error}");
    }
    ended(server, EndReason::HandshakeFailed, 2);
}

#[test]
fn an_older_version_than_the_minimum_is_refused() {
    let (tls, authority) = tls();
    let (server, _told) = server(tls.min_version(TlsVersion::V1_3).unwrap(), |_| {});
    let mut old = Client::new(addr(&server), &config(&authority, None, &VERSIONS[..1]));
    let (_, error) = old.rest();
    assert!(error.contains("ProtocolVersion"), "{error}");
    Client::connect(addr(&server), &config(&authority, None, &VERSIONS)).close();
    ended(server, EndReason::HandshakeFailed, 1);
}

#[test]
fn a_client_is_called_by_its_certificate_and_without_a_valid_one_it_stays_out() {
    let (tls, servers) = tls();
    let (clients, others) = (Authority::new("clients"), Authority::new("others"));
    let tls = tls.client_ca_pem(clients.certificate.as_bytes()).unwrap();
    let (server, told) = server(tls, |_| {});
    for version in VERSIONS {
        let shown = |pair: Option<&Pair>| config(&servers, pair, &[version]);
        let good = Client::connect(addr(&server), &shown(Some(&clients.client("web1.example"))));
        assert_eq!(told.recv().unwrap().as_deref(), Some("web1.example"));
        // Those that were turned away before may be listed still.
        let mut listed = server.connections().into_iter();
        let listed = listed.find(|one| one.tls_name.as_deref() == Some("web1.example"));
        let listed = listed.unwrap().to_string();
        assert!(listed.contains(" (web1.example) "), "{listed}");
        good.close();
        for (pair, alert) in [
            (None, ["CertificateRequired", "HandshakeFailure"]),
            (
                Some(others.client("web1.example")),
                ["UnknownCA", "DecryptError"],
            ),
            (
                Some(clients.server()),
                ["UnsupportedCertificate", "BadCertificate"],
            ),
        ] {
            let mut bad = Client::new(addr(&server), &shown(pair.as_ref()));
            let (_, error) = bad.rest();
            assert!(alert.iter().any(|alert| error.contains(alert)), "{error}");
        }
    }
    let report = ended(server, EndReason::HandshakeFailed, 6);
    // Nobody was given to the handler.
    assert!(told.try_recv().is_err());
    assert_eq!(report.stats.ended.total(), 8);
}

/// Sends, for each batch, its client's name and its bytes.
struct Named(mpsc::Sender<(Option<String>, Vec<u8>)>);

impl Sink for Named {
    fn name(&self) -> String {
        "named".to_owned()
    }

    fn write(&mut self, batches: &mut Batches<'_>) -> Result<(), SinkError> {
        while let Some(batch) = batches.first() {
            let name = batch.tls_name().map(str::to_owned);
            let told = self.0.send((name, batch.as_bytes().to_vec()));
            told.map_err(|error| SinkError::Fatal(io::Error::other(error.to_string())))?;
            batches.ack();
        }
        Ok(())
    }
}

#[test]
fn a_sink_sees_who_sent_a_batch() {
    let (tls, servers) = tls();
    let clients = Authority::new("clients");
    let tls = tls.client_ca_pem(clients.certificate.as_bytes()).unwrap();
    let tls = tls.client_auth(ClientAuth::Optional).unwrap();
    let (tell, told) = mpsc::channel();
    let server = small::ingest()
        .listener(Listener::on(anywhere()).tls(tls))
        .start(Named(tell))
        .unwrap();
    for name in [Some("web1.example"), None, Some("spiffe://a/b")] {
        let shown = name.map(|name| clients.client(name));
        let config = config(&servers, shown.as_ref(), &VERSIONS);
        let mut client = Client::connect(addr(&server), &config);
        client.send(b"hello\n");
        let seen = told.recv_timeout(DEADLINE).unwrap();
        assert_eq!(seen, (name.map(str::to_owned), b"hello\n".to_vec()));
        client.close();
    }
    ended(server, EndReason::Eof, 3);
}

#[test]
fn where_a_certificate_is_optional_it_must_still_be_valid() {
    let (tls, servers) = tls();
    let (clients, others) = (Authority::new("clients"), Authority::new("others"));
    let tls = tls.client_ca_pem(clients.certificate.as_bytes()).unwrap();
    let (server, told) = server(tls.client_auth(ClientAuth::Optional).unwrap(), |_| {});
    let shown = |pair: Option<&Pair>| config(&servers, pair, &VERSIONS);
    Client::connect(addr(&server), &shown(None)).close();
    assert_eq!(told.recv().unwrap(), None);
    let named = clients.client("spiffe://a/b");
    Client::connect(addr(&server), &shown(Some(&named))).close();
    assert_eq!(told.recv().unwrap().as_deref(), Some("spiffe://a/b"));
    let (_, error) = Client::new(addr(&server), &shown(Some(&others.client("x")))).rest();
    assert!(error.contains("UnknownCA"), "{error}");
    ended(server, EndReason::HandshakeFailed, 1);
}

#[test]
fn of_the_clients_of_an_authority_only_the_allowed_may_stay() {
    let (tls, servers) = tls();
    let clients = Authority::new("clients");
    let tls = tls.client_ca_pem(clients.certificate.as_bytes()).unwrap();
    let tls = tls.allow_names(["WEB1.example", "urn:x"]).unwrap();
    let (server, told) = server(tls, |_| {});
    let shown = |name: &str| config(&servers, Some(&clients.client(name)), &VERSIONS);
    for name in ["web1.example", "urn:x"] {
        Client::connect(addr(&server), &shown(name)).close();
        assert_eq!(told.recv().unwrap().as_deref(), Some(name));
    }
    for name in ["web2.example", ""] {
        let mut other = Client::new(addr(&server), &shown(name));
        // The end is a clean one: TLS had nothing against the client.
        assert_eq!(other.rest(), (Vec::new(), String::new()));
    }
    ended(server, EndReason::NotAllowed, 2);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_health_check_is_no_failed_handshake_and_plain_text_is() {
    let (tls, _) = tls();
    let (server, told) = server(tls, |_| {});
    drop(client::connect(addr(&server)));
    wait_until("a probe", DEADLINE, || {
        server.stats().ended.get(EndReason::NoData) == 1
    });
    client::connect(addr(&server))
        .write_all(b"<13>hello\n")
        .unwrap();
    // A client that goes inside the handshake.
    client::connect(addr(&server))
        .write_all(b"\x16\x03\x01")
        .unwrap();
    ended(server, EndReason::HandshakeFailed, 2);
    assert!(told.try_recv().is_err());
}

/// rustls' own loop over a blocking stream went round for ever then (GHSA-6g7w-8wpp-frhj).
#[test]
fn a_client_that_ends_its_stream_inside_the_handshake_is_ended_at_its_deadline_at_last() {
    let (tls, authority) = tls();
    let (server, told) = server(tls, |config| {
        config.handshake_timeout = Duration::from_millis(500);
    });
    for version in VERSIONS {
        let mut client = Client::new(addr(&server), &config(&authority, None, &[version]));
        client.session.send_close_notify();
        let records = client.records();
        client.socket.write_all(&records).unwrap();
        client::wait_for_close(&mut client.socket);
    }
    // With TLS 1.3 there is nothing that it may say without encryption by then.
    wait_until("both ends", DEADLINE, || {
        let ended = &server.stats().ended;
        ended.get(EndReason::HandshakeFailed) + ended.get(EndReason::HandshakeTimeout) == 2
    });
    assert_closes(&drained(server).stats);
    assert!(told.try_recv().is_err());
}

#[test]
fn a_silent_and_a_trickling_handshake_are_over_at_the_deadline() {
    let (tls, authority) = tls();
    let (server, _told) = server(tls, |config| {
        config.handshake_timeout = Duration::from_millis(500);
    });
    let silent = client::connect(addr(&server));
    let mut trickling = Client::new(addr(&server), &config(&authority, None, &VERSIONS));
    for byte in trickling.records() {
        if trickling.socket.write_all(&[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    ended(server, EndReason::HandshakeTimeout, 2);
    drop(silent);
}

#[test]
fn a_drain_and_an_abort_end_a_handshake() {
    let (tls, _) = tls();
    let (server, _told) = server(tls, |_| {});
    let aborted = client::connect(addr(&server));
    wait_until("a handshake", DEADLINE, || {
        let all = server.connections();
        all.iter().any(|one| one.state == Activity::Handshaking)
    });
    server.abort(server.connections()[0].id);
    wait_until("an abort", DEADLINE, || {
        server.stats().ended.get(EndReason::Aborted) == 1
    });
    let drained_one = client::connect(addr(&server));
    wait_until("another", DEADLINE, || {
        server
            .connections()
            .iter()
            .any(|one| one.state == Activity::Handshaking)
    });
    let report = drained(server);
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 1);
    drop((aborted, drained_one));
}

#[test]
fn deadlines_of_the_handler_begin_behind_the_handshake() {
    let (tls, authority) = tls();
    let (server, _told) = server(tls, |config| {
        config.idle_timeout = Some(Duration::from_millis(300));
    });
    let waiting = client::connect(addr(&server));
    wait_until("a client", DEADLINE, || server.stats().open == 1);
    stays("an idle handshake", Duration::from_secs(1), || {
        server.stats().open == 1
    });
    let mut idle = Client::connect(addr(&server), &config(&authority, None, &VERSIONS));
    // It was not cut: the end is said.
    assert_eq!(idle.rest().0, b"");
    waiting.shutdown(Shutdown::Both).unwrap();
    ended(server, EndReason::IdleTimeout, 1);
}

/// Sends what the client has to say, and takes what the server says next.
fn say_and_hear(client: &mut Client) {
    let records = client.records();
    client.socket.write_all(&records).unwrap();
    client.session.read_tls(&mut client.socket).unwrap();
    client.session.process_new_packets().unwrap();
}

/// Whoever had connected before a drain is served, also where nothing of its own could come by
/// then: a client of TLS cannot send it before a round trip or two.
#[test]
fn a_drain_serves_who_is_in_the_middle_of_a_handshake() {
    let (tls, authority) = tls();
    for version in VERSIONS {
        let valve = Valve::open();
        let server = small::ingest()
            .listener(Listener::on(anywhere()).tls(tls.clone()))
            .start(valve.sink())
            .unwrap();
        let mut client = Client::new(addr(&server), &config(&authority, None, &[version]));
        say_and_hear(&mut client);
        server.drain(LONG);
        client.send(b"a line\n");
        client.session.send_close_notify();
        client.stream().flush().unwrap();
        client.socket.shutdown(Shutdown::Write).unwrap();
        assert_eq!(client.rest(), (Vec::new(), String::new()), "{version:?}");
        let report = drained(server);
        assert_eq!(valve.bytes(), b"a line\n", "{version:?}: {report:?}");
        assert!(!report.is_lossy(), "{version:?}: {report:?}");
    }
}

/// Nor is a short drain one that took too long because a scanner had connected.
#[test]
fn a_handshake_that_goes_on_when_a_drain_is_over_was_no_missed_deadline() {
    let (tls, authority) = tls();
    let (server, _told) = server(tls, |_| {});
    let silent = client::connect(addr(&server));
    let mut stopped = Client::new(addr(&server), &config(&authority, None, &VERSIONS));
    say_and_hear(&mut stopped);
    wait_open(&server, 2);
    let report = server.shutdown(Duration::from_millis(400));
    assert!(!report.timed_out && !report.is_lossy(), "{report:?}");
    assert_eq!(report.stats.ended.get(EndReason::Shutdown), 2);
    assert_closes(&report.stats);
    drop((silent, stopped));
}

/// And waits for nobody who does not go on.
#[test]
fn a_drain_waits_for_no_handshake_that_does_not_come_on_nor_for_what_may_come_behind_it() {
    let (tls, authority) = tls();
    let (server, _told) = server(tls, |config| {
        config.handshake_timeout = LONG * 2;
    });
    let silent = client::connect(addr(&server));
    let mut stopped = Client::new(addr(&server), &config(&authority, None, &VERSIONS));
    say_and_hear(&mut stopped);
    let mut quiet = Client::new(addr(&server), &config(&authority, None, &VERSIONS));
    say_and_hear(&mut quiet);
    wait_until("three handshakes", DEADLINE, || {
        let all = server.connections();
        let handshaking = |one: &&ConnectionInfo| one.state == Activity::Handshaking;
        all.iter().filter(handshaking).count() == 3
    });
    server.drain(LONG);
    // It shakes hands, and is told that this was all.
    quiet.stream().flush().unwrap();
    assert_eq!(quiet.rest(), (Vec::new(), String::new()));
    let report = drained(server);
    assert_eq!(report.stats.ended.total(), 3);
    assert!(!report.is_lossy(), "{report:?}");
    drop((silent, stopped));
}
