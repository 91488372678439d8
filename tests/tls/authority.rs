//! Certificates, and clients that trust them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use drainline::Tls;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyIdMethod, KeyPair, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use rustls::{ClientConfig, ClientConnection, RootCertStore, SupportedProtocolVersion, version};

use super::common::client;

pub const VERSIONS: [&SupportedProtocolVersion; 2] = [&version::TLS12, &version::TLS13];

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

/// A certificate authority.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub certificate: String,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let of = rcgen::DnType::CommonName;
        params.distinguished_name.push(of, name);
        let certificate = params.self_signed(&key).unwrap().pem();
        Authority {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for a DNS name or a URI; for no name, if that is empty.
    pub fn issue(&self, name: &str, purpose: ExtendedKeyUsagePurpose) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = match name {
            "" => Vec::new(),
            uri if uri.contains(':') => vec![SanType::URI(uri.try_into().unwrap())],
            name => vec![SanType::DnsName(name.try_into().unwrap())],
        };
        params.extended_key_usages = vec![purpose];
        self.sign(params, key)
    }

    pub fn sign(&self, params: CertificateParams, key: KeyPair) -> Pair {
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        Pair {
            certificate,
            key: key.serialize_pem(),
        }
    }

    /// A list of so many certificates, which were never issued.
    pub fn revocation_list(&self, revoked: u32) -> String {
        let of = |n: u32| RevokedCertParams {
            serial_number: SerialNumber::from([&[1; 16][..], &n.to_be_bytes()].concat()),
            revocation_time: date_time_ymd(2026, 1, 1),
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2027, 1, 1),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: (0..revoked).map(of).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer).unwrap().pem().unwrap()
    }

    pub fn server(&self) -> Pair {
        self.issue("localhost", ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A server's certificate that ends so long after the Unix epoch.
    pub fn server_until(&self, end: Duration) -> Pair {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(1970, 1, 1) + end;
        self.sign(params, key)
    }

    pub fn client(&self, name: &str) -> Pair {
        self.issue(name, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// A server's [`Tls`], and the authority that clients trust.
pub fn tls() -> (Tls, Authority) {
    let authority = Authority::new("servers");
    let Pair { certificate, key } = authority.server();
    let tls = Tls::from_pem(certificate.as_bytes(), key.as_bytes()).unwrap();
    (tls, authority)
}

/// What a client trusts and shows.
pub fn config(
    trusts: &Authority,
    shows: Option<&Pair>,
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(trusts.certificate.as_bytes()).unwrap();
    roots.add(certificate).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    Arc::new(match shows {
        None => builder.with_no_client_auth(),
        Some(Pair { certificate, key }) => {
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            let chain = CertificateDer::pem_slice_iter(certificate.as_bytes());
            let chain = chain.map(Result::unwrap).collect();
            builder.with_client_auth_cert(chain, key).unwrap()
        }
    })
}

/// A client's session and its socket.
pub struct Client {
    pub session: ClientConnection,
    pub socket: TcpStream,
}

impl Client {
    pub fn new(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        let name = ServerName::try_from("localhost").unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        session.set_buffer_limit(None);
        Client {
            session,
            socket: client::connect(addr),
        }
    }

    /// Shakes hands.
    pub fn connect(addr: SocketAddr, config: &Arc<ClientConfig>) -> Client {
        let mut client = Client::new(addr, config);
        client.stream().flush().unwrap();
        client
    }

    pub fn stream(&mut self) -> rustls::Stream<'_, ClientConnection, TcpStream> {
        rustls::Stream::new(&mut self.session, &mut self.socket)
    }

    /// # Panics
    /// When it cannot be sent.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream().write_all(bytes).unwrap();
    }

    /// Ends the stream as TLS wants it, and closes.
    pub fn close(mut self) {
        self.session.send_close_notify();
        self.stream().flush().unwrap();
    }

    /// What comes until the server ends its stream, and how that is: an error's text, or nothing.
    pub fn rest(&mut self) -> (Vec<u8>, String) {
        let mut all = Vec::new();
        let error = self.stream().read_to_end(&mut all).err();
        (
            all,
            error.map(|error| error.to_string()).unwrap_or_default(),
        )
    }

    /// The records of what was written, which are not sent.
    pub fn seal(&mut self, plain: &[u8]) -> Vec<u8> {
        self.session.writer().write_all(plain).unwrap();
        self.records()
    }

    pub fn records(&mut self) -> Vec<u8> {
        let mut records = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut records).unwrap();
        }
        records
    }
}
