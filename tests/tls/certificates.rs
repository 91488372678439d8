//! Certificates are renewed while clients come and go.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use drainline::{Listener, Tls};

use crate::authority::{Authority, Client, VERSIONS, config, tls};
use crate::common::handlers::{anywhere, drained};
use crate::common::small;
use crate::common::valve::Valve;
use crate::common::wait::{DEADLINE, wait_until};

#[test]
fn a_reload_under_load_loses_nothing_and_new_clients_see_the_new_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
    let authority = Authority::new("servers");
    let renew = || {
        let pair = authority.server();
        fs::write(&cert, pair.certificate).unwrap();
        fs::write(&key, pair.key).unwrap();
    };
    renew();
    let tls = Tls::from_files(&cert, &key).unwrap();
    let valve = Valve::open();
    let server = small::ingest()
        .listener(Listener::on(anywhere()).tls(tls.clone()))
        .start(valve.sink())
        .unwrap();
    let (addr, config) = (server.local_addrs()[0], config(&authority, None, &VERSIONS));
    let shown = |client: &Client| client.session.peer_certificates().unwrap()[0].to_vec();

    let mut old = Client::connect(addr, &config);
    let before = shown(&old);
    let is_over = Arc::new(AtomicBool::new(false));
    let senders: Vec<_> = (0..3)
        .map(|_| {
            let (config, is_over) = (Arc::clone(&config), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut sent = 0;
                while !is_over.load(Ordering::Relaxed) {
                    let mut client = Client::connect(addr, &config);
                    client.send(b"a line\n");
                    client.close();
                    sent += 1;
                }
                sent
            })
        })
        .collect();
    for _ in 0..5 {
        renew();
        tls.reload().unwrap();
        // Half of a renewal: what was loaded stays in use.
        fs::write(&key, authority.server().key).unwrap();
        assert!(tls.reload().is_err());
    }
    let new = Client::connect(addr, &config);
    assert_ne!(shown(&new), before);
    new.close();
    is_over.store(true, Ordering::Relaxed);
    let sent: u64 = senders
        .into_iter()
        .map(|sender| sender.join().unwrap())
        .sum();
    // Who came before goes on.
    old.send(b"old\n");
    old.close();
    wait_until("all lines", DEADLINE, || {
        server.stats().delivered == sent + 1
    });
    drained(server);
}

#[test]
fn a_configuration_of_rustls_serves_too_without_tickets() {
    let (_, authority) = tls();
    let pair = authority.server();
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = vec![CertificateDer::from_pem_slice(pair.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let own = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    assert_ne!(own.send_tls13_tickets, 0);
    let server = small::server::<()>()
        .listener(Listener::on(anywhere()).tls(Tls::from_config(Arc::new(own))))
        .serve(|conn| Ok(std::io::copy(conn, &mut std::io::sink()).map(drop)?))
        .unwrap();
    let mut client = Client::connect(
        server.local_addrs()[0],
        &config(&authority, None, &VERSIONS),
    );
    client.session.send_close_notify();
    assert_eq!(client.rest(), (Vec::new(), String::new()));
    assert_eq!(client.session.tls13_tickets_received(), 0);
    drained(server);
}
