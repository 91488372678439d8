#![allow(clippy::unwrap_used)]

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::*;

/// The server's end of a pair of sockets.
struct Pair(UnixStream);

impl SendNow for Pair {
    fn send_now(&self, bytes: &[u8]) -> io::Result<usize> {
        self.0.set_nonblocking(true)?;
        match (&self.0).write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            sent => sent,
        }
    }
}

impl Wire for Pair {
    fn receive(&self, buf: &mut [u8], waits: bool) -> Result<Received, io::Error> {
        self.0.set_nonblocking(!waits)?;
        match (&self.0).read(buf) {
            Ok(0) => Ok(Received::End),
            Ok(len) => Ok(Received::Bytes(len)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
            Err(error) => Err(error),
        }
    }

    fn show(&self, _: u32, _: bool) {}

    fn wait_writable(&self) -> Result<(), io::Error> {
        std::thread::sleep(Duration::from_millis(1));
        Ok(())
    }
}

struct Server {
    session: Session,
    incoming: Incoming,
    wire: Pair,
}

impl Server {
    fn read(&mut self, buf: &mut [u8], waits: bool) -> Result<Plain, Failed> {
        self.session
            .read(&mut self.incoming, &self.wire, buf, waits)
    }

    /// All that comes, and how it ends.
    fn read_to_end(&mut self, size: usize) -> (Vec<u8>, String) {
        let (mut all, mut buf) = (Vec::new(), vec![0; size]);
        loop {
            match self.read(&mut buf, true) {
                Ok(Plain::Bytes(len)) => all.extend_from_slice(&buf[..len]),
                Ok(end) => return (all, format!("{end:?}")),
                Err(failed) => return (all, format!("{failed:?}")),
            }
        }
    }
}

/// A self-signed certificate for `localhost`, once for all tests.
fn tls() -> (Tls, CertificateDer<'static>) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = own.signing_key.serialize_pem();
    let tls = Tls::from_pem(own.cert.pem().as_bytes(), key.as_bytes()).unwrap();
    (tls, own.cert.der().clone())
}

fn client(
    trusted: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> ClientConnection {
    let mut roots = RootCertStore::empty();
    roots.add(trusted).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(config), name).unwrap()
}

const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A server and a client that have shaken hands, and the client's socket.
fn connected(version: &'static SupportedProtocolVersion) -> (Server, ClientConnection, UnixStream) {
    let (tls, certificate) = tls();
    connected_by(&tls, certificate, version)
}

fn connected_by(
    tls: &Tls,
    certificate: CertificateDer<'static>,
    version: &'static SupportedProtocolVersion,
) -> (Server, ClientConnection, UnixStream) {
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut client = client(certificate, version);
    let mut server = Server {
        session: Session::new(&tls.loaded()).unwrap(),
        incoming: Incoming::default(),
        wire: Pair(ours),
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            server
                .session
                .handshake(&mut server.incoming, &server.wire)
                .unwrap()
        });
        while client.is_handshaking() {
            client.complete_io(&mut theirs).unwrap();
        }
        client.write_tls(&mut theirs).ok();
    });
    (server, client, theirs)
}

#[test]
fn a_session_that_has_shaken_hands_keeps_nothing_of_what_was_loaded() {
    for version in VERSIONS {
        let (tls, certificate) = tls();
        let loaded = tls.loaded();
        let _connected = connected_by(&tls, certificate, version);
        // Ours, and that of `tls`.
        assert_eq!(Arc::strong_count(&loaded), 2);
        assert_eq!(Arc::strong_count(&loaded.config), 1);
    }
}

/// What the client's session has to send.
fn records(client: &mut ClientConnection) -> Vec<u8> {
    let mut bytes = Vec::new();
    while client.wants_write() {
        client.write_tls(&mut bytes).unwrap();
    }
    bytes
}

/// Records of so many bytes each.
fn sealed(client: &mut ClientConnection, parts: &[&[u8]]) -> Vec<u8> {
    let mut all = Vec::new();
    for part in parts {
        client.writer().write_all(part).unwrap();
        all.extend(records(client));
    }
    all
}

#[test]
fn what_is_sent_is_read_whatever_the_size_of_reads_and_the_end_is_closed() {
    for version in VERSIONS {
        for size in [1, 100, 5000, 64 << 10] {
            let (mut server, mut client, mut theirs) = connected(version);
            let text: Vec<u8> = (0..100_000u32).map(|n| (n * 7 % 251) as u8).collect();
            let expected = text.clone();
            let sender = std::thread::spawn(move || {
                let mut stream = rustls::Stream::new(&mut client, &mut theirs);
                stream.write_all(&text).unwrap();
                stream.conn.send_close_notify();
                stream.flush().unwrap();
            });
            let (all, end) = server.read_to_end(size);
            sender.join().unwrap();
            assert_eq!((all == expected, end.as_str()), (true, "End"), "{size}");
            assert_eq!(server.incoming.unread_bytes(), 0);
        }
    }
}

#[test]
fn a_read_fills_the_buffer_with_all_the_records_that_are_there() {
    let (mut server, mut client, mut theirs) = connected(&version::TLS13);
    let line = [b'x'; 1000];
    theirs
        .write_all(&sealed(&mut client, &[&line[..]; 30]))
        .unwrap();
    let mut buf = vec![0; 64 << 10];
    assert_eq!(server.read(&mut buf, true).unwrap(), Plain::Bytes(30_000));
    assert_eq!(server.read(&mut buf, false).unwrap(), Plain::Nothing);
}

#[test]
fn finished_data_and_the_end_in_one_segment_lose_nothing() {
    let (tls, certificate) = tls();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let mut client = client(certificate, &version::TLS13);
    let session = Session::new(&tls.loaded()).unwrap();
    let (mut incoming, wire) = (Incoming::default(), Pair(ours));
    std::thread::scope(|scope| {
        let shaking = scope.spawn(|| session.handshake(&mut incoming, &wire).unwrap());
        client.write_tls(&mut theirs).unwrap();
        while client.is_handshaking() {
            client.read_tls(&mut theirs).unwrap();
            client.process_new_packets().unwrap();
        }
        client.writer().write_all(b"hello").unwrap();
        client.send_close_notify();
        let all = records(&mut client);
        theirs.write_all(&all).unwrap();
        drop(theirs);
        shaking.join().unwrap();
    });
    let mut server = Server {
        session,
        incoming,
        wire,
    };
    assert_eq!(
        server.read_to_end(100),
        (b"hello".to_vec(), "End".to_owned())
    );
}

#[test]
fn an_end_without_close_notify_is_no_end_of_the_stream() {
    for (version, cut) in [(VERSIONS[0], 0), (VERSIONS[1], 0), (VERSIONS[1], 3)] {
        let (mut server, mut client, mut theirs) = connected(version);
        let bytes = sealed(&mut client, &[b"whole\n", b"half"]);
        theirs.write_all(&bytes[..bytes.len() - cut]).unwrap();
        drop(theirs);
        let (all, end) = server.read_to_end(100);
        let expected: &[u8] = if cut == 0 { b"whole\nhalf" } else { b"whole\n" };
        assert_eq!((&all[..], end.as_str()), (expected, "Unclosed"));
        assert_eq!(server.incoming.unread_bytes() > 0, cut > 0);
    }
}

#[test]
fn a_record_that_trickles_has_begun_until_it_is_whole() {
    let (mut server, mut client, mut theirs) = connected(&version::TLS13);
    let bytes = sealed(&mut client, &[b"hello"]);
    let mut buf = [0; 100];
    for byte in &bytes[..bytes.len() - 1] {
        theirs.write_all(&[*byte]).unwrap();
        let got = server.read(&mut buf, false).unwrap();
        assert_eq!((got, server.incoming.progress().1), (Plain::Nothing, true));
    }
    theirs.write_all(&bytes[bytes.len() - 1..]).unwrap();
    assert_eq!(server.read(&mut buf, true).unwrap(), Plain::Bytes(5));
    assert!(!server.incoming.progress().1);
}

#[test]
fn either_side_may_end_its_half_and_go_on_with_the_other() {
    for version in VERSIONS {
        let (mut server, mut client, mut theirs) = connected(version);
        client.send_close_notify();
        theirs.write_all(&records(&mut client)).unwrap();
        let mut buf = [0; 100];
        assert_eq!(server.read(&mut buf, true).unwrap(), Plain::End);
        assert_eq!(
            server
                .session
                .send_now(&server.wire, b"still here")
                .unwrap(),
            10
        );
        server.session.close(&server.wire);
        assert!(server.session.send_now(&server.wire, b"x").is_err());
        drop(server);
        let mut all = Vec::new();
        rustls::Stream::new(&mut client, &mut theirs)
            .read_to_end(&mut all)
            .unwrap();
        assert_eq!(all, b"still here");
    }
}

#[test]
fn a_broken_record_ends_the_session_behind_the_whole_ones_and_the_peer_gets_an_alert() {
    for version in VERSIONS {
        let (mut server, mut client, mut theirs) = connected(version);
        let mut bytes = sealed(&mut client, &[b"good", b"broken"]);
        *bytes.last_mut().unwrap() ^= 1;
        theirs.write_all(&bytes).unwrap();
        let (all, end) = server.read_to_end(100);
        assert_eq!(all, b"good");
        assert!(end.contains("could not be decrypted"), "{end}");
        assert!(server.session.send_now(&server.wire, b"x").is_err());
        server.session.close(&server.wire);
        drop(server);
        let error = rustls::Stream::new(&mut client, &mut theirs)
            .read(&mut [0; 10])
            .unwrap_err();
        assert!(error.to_string().contains("BadRecordMac"), "{error}");
    }
}

#[test]
fn who_does_not_speak_tls_is_told_from_who_does() {
    let (tls, _) = tls();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let session = Session::new(&tls.loaded()).unwrap();
    theirs.write_all(b"<13>hello\n").unwrap();
    let failed = session
        .handshake(&mut Incoming::default(), &Pair(ours))
        .unwrap_err();
    let Failed::Peer(why) = failed else {
        panic!("{failed:?}");
    };
    assert_eq!(
        why,
        r#"the client does not speak TLS: it sent "<13>hello\n""#
    );
}

#[test]
fn key_updates_are_followed_and_a_flood_of_them_is_not() {
    let (mut server, mut client, mut theirs) = connected(&version::TLS13);
    let mut buf = [0; 100];
    for _ in 0..100 {
        client.refresh_traffic_keys().unwrap();
        theirs.write_all(&sealed(&mut client, &[b"x"])).unwrap();
        assert_eq!(server.read(&mut buf, true).unwrap(), Plain::Bytes(1));
    }
    // The answers to them go before what is sent next, and the client follows.
    server.session.send_now(&server.wire, b"y").unwrap();
    client.read_tls(&mut theirs).unwrap();
    client.process_new_packets().unwrap();
    assert_eq!(client.reader().read(&mut buf).unwrap(), 1);
    for _ in 0..100 {
        client.refresh_traffic_keys().unwrap();
        if theirs.write_all(&records(&mut client)).is_err() {
            break;
        }
    }
    let (all, end) = server.read_to_end(100);
    assert!(
        all.is_empty() && end.contains("TooManyKeyUpdateRequests"),
        "{end}"
    );
}

#[test]
fn a_peer_that_takes_nothing_makes_nothing_grow() {
    let (mut server, _client, _theirs) = connected(&version::TLS13);
    let plain = vec![b'x'; 64 << 10];
    let mut sent = 0;
    loop {
        match server.session.send_now(&server.wire, &plain).unwrap() {
            0 => break,
            now => sent += now,
        }
    }
    assert!(sent >= MAX_PLAIN && !server.session.has_sent_all());
    let inner = server.session.inner.lock();
    assert!(inner.outgoing.capacity() <= MAX_PLAIN + BESIDE_PLAIN);
    drop(inner);
    // Nor do its reads wait for that.
    assert_eq!(server.read(&mut [0], false).unwrap(), Plain::Nothing);
}

#[test]
fn who_waits_holds_no_buffer() {
    let (mut server, mut client, mut theirs) = connected(&version::TLS13);
    let line = vec![b'x'; 20_000];
    theirs.write_all(&sealed(&mut client, &[&line])).unwrap();
    let mut buf = vec![0; 64 << 10];
    assert_eq!(server.read(&mut buf, true).unwrap(), Plain::Bytes(20_000));
    theirs.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(server.read(&mut buf, true).unwrap(), Plain::Unclosed);
    assert_eq!(
        server.incoming.bytes.capacity() + server.incoming.plain.capacity(),
        0
    );
}
