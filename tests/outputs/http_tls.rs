//! The HTTP output over TLS: whom it trusts and what it shows, and what a request looks like.

use std::fs;
use std::io::{Read, Write};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::common::certificates::Certificates;
use crate::common::http_peer::{HttpPeer, Reply};
use crate::common::wait::{DEADLINE, wait_until};
use crate::http::{TIMEOUT, finish, send, start, wait_delivered};
use drainline::TlsClient;
use drainline::ingest::sink::Http;

/// With a certificate of the client's, which the peer asks for.
fn tls_peer(certificates: &Certificates) -> HttpPeer {
    let [cert, key] = certificates.server();
    let chain = CertificateDer::pem_file_iter(cert)
        .unwrap()
        .map(Result::unwrap);
    let mut roots = RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(certificates.authority()).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(chain.collect(), PrivateKeyDer::from_pem_file(key).unwrap())
        .unwrap();
    let config = Arc::new(config);
    HttpPeer::wrapped(
        move |stream| {
            let session = ServerConnection::new(Arc::clone(&config)).unwrap();
            Ok(Box::new(StreamOwned::new(session, stream)))
        },
        |_| Reply::ok(),
    )
}

#[test]
fn over_tls_compressed_with_a_password_and_a_certificate() {
    let certificates = Certificates::new();
    let peer = tls_peer(&certificates);
    let [cert, key] = certificates.client();
    let url = format!("https://localhost:{}/logs?a=b", peer.address.port());
    let tls = TlsClient::new().ca_file(certificates.authority());
    let options = Http::to(&url)
        .basic_auth("user", "hunter2")
        .header("X-Scope", "tenant")
        .gzip(true)
        .tls(tls.clone().certificate_files(cert, key));
    let (server, mut stream) = start(options);
    let line = format!("{}\n", "compressible ".repeat(1000));
    for nth in 1..=20 {
        stream.write_all(line.as_bytes()).unwrap();
        wait_delivered(&server, nth);
    }
    assert!(peer.connections() <= 4, "kept open: {}", peer.connections());
    finish(server, stream);
    let request = &peer.requests()[0];
    assert!(
        request.head.starts_with("POST /logs?a=b HTTP/1.1"),
        "{}",
        request.head
    );
    assert_eq!(
        request.header("authorization"),
        Some("Basic dXNlcjpodW50ZXIy")
    );
    assert_eq!(request.header("content-encoding"), Some("gzip"));
    assert_eq!(request.header("x-scope"), Some("tenant"));
    let host = format!("localhost:{}", peer.address.port());
    assert_eq!(request.header("host"), Some(&host[..]));
    let mut text = String::new();
    flate2::read::GzDecoder::new(&request.body[..])
        .read_to_string(&mut text)
        .unwrap();
    assert!(text.starts_with("compressible ") && request.body.len() < text.len() / 4);

    // Without the certificate that it asks for, or by an authority that it is not from.
    let without = Http::to(&url).tls(tls);
    let other = Certificates::new();
    let strange = Http::to(&url).tls(TlsClient::new().ca_file(other.authority()));
    for (options, part) in [
        (without, "certificate"),
        (strange, "the server shows a certificate"),
    ] {
        let (server, mut stream) = start(options.timeout(TIMEOUT));
        send(&mut stream, 0..1);
        let told = || server.report().outputs[0].last_error.clone();
        wait_until("a failure", DEADLINE, || told().is_some());
        let error = told().unwrap();
        assert!(error.contains(part), "{error}");
        drop(stream);
        let report = server.shutdown(Duration::from_millis(100));
        assert_eq!(report.stats.delivered, 0);
    }
}

/// Certificates that are renewed in their files are read at a reopen, while messages wait.
#[test]
fn a_reopen_reads_certificates_again_and_keeps_what_it_has_where_that_fails() {
    let certificates = Certificates::new();
    let peer = tls_peer(&certificates);
    let [cert, key] = certificates.client();
    let directory = tempfile::tempdir().unwrap();
    let ca = directory.path().join("ca.pem");
    fs::copy(Certificates::new().authority(), &ca).unwrap();
    let options = {
        let url = format!("https://localhost:{}/", peer.address.port());
        let tls = TlsClient::new().ca_file(&ca).certificate_files(cert, key);
        move || Http::to(&url).tls(tls.clone())
    };
    let again = options.clone();
    let (server, mut stream) = start(options().renewed_by(move || Ok(again())));
    send(&mut stream, 0..1);
    let outputs = || server.report().outputs;
    wait_until("a refusal", DEADLINE, || outputs()[0].last_error.is_some());
    fs::copy(certificates.authority(), &ca).unwrap();
    server.reopen();
    wait_delivered(&server, 1);

    fs::write(&ca, "no certificate").unwrap();
    server.reopen();
    wait_until("a failed reopen", DEADLINE, || {
        server.report().sink.failed_reopens == 1
    });
    send(&mut stream, 1..2);
    wait_delivered(&server, 2);
    finish(server, stream);
}
