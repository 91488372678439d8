//! Certificates and keys, read and checked.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, version};

use super::error::TlsError;
use super::{ClientAuth, TlsVersion, certificate};

/// No certificate, key or list is larger; /dev/zero is.
const MAX_FILE: u64 = 16 << 20;

/// A text in PEM.
#[derive(Clone)]
pub(super) enum Pem {
    Text(Arc<[u8]>),
    File(PathBuf),
}

impl Pem {
    fn read(&self, what: &'static str) -> Result<Text, TlsError> {
        let named = self.named(what);
        let bytes = match self {
            Pem::Text(text) => text.to_vec(),
            Pem::File(file) => {
                use std::io::Read;
                let mut bytes = Vec::new();
                let opened = fs::File::open(file);
                opened
                    .and_then(|file| file.take(MAX_FILE).read_to_end(&mut bytes))
                    .map_err(|error| TlsError::unreadable(&named, &error))?;
                bytes
            }
        };
        Ok(Text { named, bytes })
    }

    fn named(&self, what: &str) -> String {
        match self {
            Pem::Text(_) => what.to_owned(),
            Pem::File(file) => format!("{what} {}", file.display()),
        }
    }
}

/// What was read, and what it is called in an error.
struct Text {
    named: String,
    bytes: Vec<u8>,
}

impl Text {
    /// All objects of a kind.
    fn all<T: PemObject>(&self, kind: &str) -> Result<Vec<T>, TlsError> {
        let all: Result<Vec<T>, _> = T::pem_slice_iter(&self.bytes).collect();
        let all = all.map_err(|error| self.not_pem(&error))?;
        match all.is_empty() {
            false => Ok(all),
            true => Err(self.without(kind)),
        }
    }

    fn without(&self, kind: &str) -> TlsError {
        let named = &self.named;
        let seen = match self.bytes.windows(11).any(|at| at == b"-----BEGIN ") {
            true => "",
            false if self.bytes.is_empty() => ": it is empty",
            false => ": it is not PEM, which begins with -----BEGIN",
        };
        TlsError::new(format!("no {kind} in {named}{seen}"))
    }

    fn not_pem(&self, error: &pem::Error) -> TlsError {
        TlsError::new(format!("{} is broken PEM: {error}", self.named))
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        let holds = |text: &[u8]| self.bytes.windows(text.len()).any(|at| at == text);
        if holds(b"BEGIN ENCRYPTED PRIVATE KEY") || holds(b"Proc-Type: 4,ENCRYPTED") {
            return Err(TlsError::new(format!(
                "{} is encrypted: decrypt it with openssl pkey",
                self.named
            )));
        }
        PrivateKeyDer::from_pem_slice(&self.bytes).map_err(|error| match error {
            pem::Error::NoItemsFound => self.without("private key"),
            error => self.not_pem(&error),
        })
    }
}

/// Where certificate and key come from.
#[derive(Clone)]
pub(super) enum Source {
    Pem { certificate: Pem, key: Pem },
    Config,
}

/// What a [`Tls`](super::Tls) is made from.
#[derive(Clone)]
pub(super) struct Settings {
    pub(super) source: Source,
    pub(super) client_ca: Option<Pem>,
    pub(super) client_crl: Option<Pem>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) min_version: TlsVersion,
    pub(super) allow: Option<Vec<String>>,
}

/// What new connections use.
pub(crate) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) expires_at: Option<SystemTime>,
    pub(super) min_version: TlsVersion,
    /// The names of clients that may stay; `None`: all.
    pub(super) allow: Option<Vec<String>>,
    /// Bytes of our certificates.
    pub(super) chain_bytes: usize,
    pub(super) has_client_auth: bool,
}

impl Loaded {
    pub(super) fn of_config(config: &ServerConfig) -> Self {
        let mut config = config.clone();
        without_tickets(&mut config);
        Loaded {
            config: Arc::new(config),
            expires_at: None,
            min_version: TlsVersion::default(),
            allow: None,
            // Neither can be told.
            chain_bytes: 16 << 10,
            has_client_auth: true,
        }
    }
}

impl fmt::Debug for Loaded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded").finish_non_exhaustive()
    }
}

/// A client that sends and closes without reading leaves tickets unread in its kernel, which then
/// resets the connection, and what was not received yet is lost (openssl/openssl#7948). Early data
/// could be replayed.
fn without_tickets(config: &mut ServerConfig) {
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
}

impl Settings {
    pub(super) fn of(source: Source) -> Self {
        Settings {
            source,
            client_ca: None,
            client_crl: None,
            client_auth: None,
            min_version: TlsVersion::default(),
            allow: None,
        }
    }

    /// The certificate in a text.
    pub(super) fn certificate(&self) -> String {
        match &self.source {
            Source::Pem { certificate, .. } => certificate.named("TLS certificate"),
            Source::Config => "TLS certificate".to_owned(),
        }
    }

    /// Reads and checks it all.
    pub(super) fn load(&self) -> Result<Loaded, TlsError> {
        let Source::Pem { certificate, key } = &self.source else {
            return Err(TlsError::contradiction(
                "a Tls that was made by from_config has no settings: change the configuration",
            ));
        };
        if self.client_ca.is_none() {
            let without = |what| {
                Err(TlsError::contradiction(format!(
                    "{what} without a client CA"
                )))
            };
            match self {
                Settings {
                    client_auth: Some(_),
                    ..
                } => return without("client authentication"),
                Settings {
                    client_crl: Some(_),
                    ..
                } => return without("a revocation list"),
                Settings { allow: Some(_), .. } => return without("names of clients"),
                _ => {}
            }
        }
        let certificates = certificate.read("TLS certificate")?;
        let chain: Vec<CertificateDer<'static>> = certificates.all("certificate")?;
        let key = key.read("TLS key")?;
        let chain_bytes = chain.iter().map(|certificate| certificate.len()).sum();
        let expires_at = chain.first().and_then(certificate::expires_at);

        let provider = Arc::new(ring::default_provider());
        let versions = match self.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13][..],
        };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::new(error.to_string()))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(ca) => builder.with_client_cert_verifier(self.verifier(ca, provider)?),
        };
        let mut config = builder
            .with_single_cert(chain, key.key()?)
            .map_err(|error| unfit(&error, &certificates.named, &key.named))?;
        without_tickets(&mut config);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Loaded {
            config: Arc::new(config),
            expires_at,
            min_version: self.min_version,
            allow: self.allow.clone(),
            chain_bytes,
            has_client_auth: self.client_ca.is_some(),
        })
    }

    fn verifier(
        &self,
        ca: &Pem,
        provider: Arc<CryptoProvider>,
    ) -> Result<Arc<dyn rustls::server::danger::ClientCertVerifier>, TlsError> {
        let text = ca.read("client CA")?;
        let mut roots = RootCertStore::empty();
        for certificate in text.all::<CertificateDer<'static>>("certificate")? {
            roots.add(certificate).map_err(|error| {
                TlsError::new(format!("{} has no valid certificate: {error}", text.named))
            })?;
        }
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        if let Some(crl) = &self.client_crl {
            let text = crl.read("revocation list")?;
            let lists: Vec<CertificateRevocationListDer<'static>> = text.all("revocation list")?;
            verifier = verifier
                .with_crls(lists)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        if self.client_auth == Some(ClientAuth::Optional) {
            verifier = verifier.allow_unauthenticated();
        }
        verifier
            .build()
            .map_err(|error| TlsError::new(format!("{}: {error}", text.named)))
    }
}

fn unfit(error: &rustls::Error, certificate: &str, key: &str) -> TlsError {
    use rustls::{Error, InconsistentKeys};
    TlsError::new(match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            return TlsError::contradiction(format!(
                "{key} does not match {certificate}: they must be made together"
            ));
        }
        Error::InvalidCertificate(_) => format!("{certificate} is not valid: {error}"),
        error => format!("{key} cannot be used: {error}"),
    })
}
