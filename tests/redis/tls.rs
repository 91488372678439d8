//! A server that speaks TLS.

use super::{assert_all, assert_at_least, finish, send, sink, start, wait_delivered, wait_failed};
use crate::common::certificates::Certificates;
use crate::common::redis::RedisServer;
use drainline::TlsClient;
use drainline::ingest::sink::Redis;

/// The server, its certificates, and the port on which it speaks TLS. Clients need a certificate if
/// `clients` says so.
pub(super) fn start_server(clients: &str) -> Option<(RedisServer, Certificates, u16)> {
    let certificates = Certificates::new();
    let port = crate::common::port::free_port();
    let [cert, key] = certificates.server();
    let flags = [
        "--tls-port",
        &port.to_string(),
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &certificates.authority(),
        "--tls-auth-clients",
        clients,
    ];
    let redis = RedisServer::start(&flags)?;
    Some((redis, certificates, port))
}

#[test]
fn messages_are_entries_over_tls() {
    let Some((redis, certificates, port)) = start_server("no") else {
        return;
    };
    let tls = TlsClient::new().ca_file(certificates.authority());
    let sink = Redis::new("localhost", port, "stream").tls(tls);
    let (server, mut stream) = start(sink);
    for part in 0..20 {
        send(&mut stream, part * 5000..(part + 1) * 5000);
    }
    wait_delivered(&server, 100_000);
    assert_all(redis.messages("stream"), 0..100_000);
    finish(&server, stream);
}

#[test]
fn a_server_that_wants_a_certificate_gets_one() {
    let Some((redis, certificates, port)) = start_server("yes") else {
        return;
    };
    let tls = || TlsClient::new().ca_file(certificates.authority());
    let [cert, key] = certificates.client();
    let (server, mut stream) = start(sink(port).tls(tls().certificate_files(cert, key)));
    send(&mut stream, 0..1000);
    wait_delivered(&server, 1000);
    assert_all(redis.messages("stream"), 0..1000);
    finish(&server, stream);

    let (server, stream) = start(sink(port).tls(tls()));
    wait_failed(&server, "ertificate");
    finish(&server, stream);
}

#[test]
fn a_server_of_another_authority_is_not_trusted() {
    let Some((redis, _certificates, port)) = start_server("no") else {
        return;
    };
    let others = Certificates::new();
    let tls = TlsClient::new().ca_file(others.authority());
    let (server, stream) = start(sink(port).tls(tls));
    wait_failed(&server, "the server shows a certificate that");
    finish(&server, stream);
    // And one that speaks no TLS.
    let tls = TlsClient::new().ca_file(others.authority());
    let (server, stream) = start(sink(redis.port()).tls(tls));
    wait_failed(&server, "TLS");
    finish(&server, stream);
}

#[test]
fn nothing_is_missing_after_lost_connections_over_tls() {
    let Some((redis, certificates, port)) = start_server("no") else {
        return;
    };
    let tls = TlsClient::new().ca_file(certificates.authority());
    let (server, mut stream) = start(sink(port).tls(tls));
    for part in 0..10 {
        send(&mut stream, part * 5000..(part + 1) * 5000);
        wait_delivered(&server, part as u64 * 5000);
        redis.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]);
    }
    wait_delivered(&server, 50_000);
    assert_at_least(redis.messages("stream"), 0..50_000);
    finish(&server, stream);
}
