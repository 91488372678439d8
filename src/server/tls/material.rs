//! Certificates and keys, checked, and what they take of memory.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, ServerConfig,
    SignatureScheme, version,
};

use super::certificate::{self, Name};
use super::error::{TlsError, TlsPart};
use super::pem::{Most, Pem, Text};
use super::{ClientAuth, TlsVersion};

/// The largest message of certificates that rustls reads as a client; that of OpenSSL is 100 KiB.
const MAX_CHAIN: usize = 64 << 10;
/// How much longer a certificate may be, with those that vouch for it, once it is renewed.
const CHAIN_ROOM: usize = 4 << 10;
/// The names of client CAs that a client is told in the handshake, so that it can choose a
/// certificate. Where they take more, it is told none, and chooses without.
const MAX_HINTS: usize = 2 << 10;
/// The certificates that may vouch for a client's own. webpki looks at no more than six in a row.
const MAX_INTERMEDIATES: usize = 8;

/// Bytes of PEM, and of what names of clients take of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sizes {
    certificate: u64,
    key: u64,
    client_ca: u64,
    client_crl: u64,
    names: u64,
}

impl Sizes {
    const MAX: Sizes = Sizes {
        certificate: 256 << 10,
        key: 256 << 10,
        client_ca: 1 << 20,
        client_crl: 16 << 20,
        // Their number is limited, and the length of each.
        names: u64::MAX,
    };

    /// What may be read later: a certificate that is renewed has another size, and a list of
    /// revoked ones grows.
    fn with_room(self) -> Sizes {
        let room = |size: u64, least: u64, most: u64| (size + (size / 2).max(least)).min(most);
        Sizes {
            certificate: room(self.certificate, 16 << 10, Sizes::MAX.certificate),
            key: room(self.key, 16 << 10, Sizes::MAX.key),
            client_ca: room(self.client_ca, 16 << 10, Sizes::MAX.client_ca),
            client_crl: match self.client_crl {
                0 => 0,
                size => room(size, 64 << 10, Sizes::MAX.client_crl),
            },
            names: room(self.names, 16 << 10, Sizes::MAX.names),
        }
    }

    /// Resident bytes of what is current, of what was before it, and of what is read and parsed
    /// meanwhile.
    fn memory_bytes(self) -> u64 {
        let others = self.certificate + self.key + self.client_ca;
        let generation =
            FIXED_BYTES + OTHERS_FACTOR * others + CRL_FACTOR * self.client_crl + self.names;
        let largest = [self.certificate, self.client_ca, self.client_crl];
        GENERATIONS * generation + READ_FACTOR * largest.into_iter().fold(self.key, u64::max)
    }
}

/// What is current, and what handshakes still use that was current before. A third is not loaded
/// while both are there.
const GENERATIONS: u64 = 2;
/// Without what is read from files: rustls' configuration.
const FIXED_BYTES: u64 = 16 << 10;
/// Resident bytes for each of a PEM file: in DER, parsed, and the text itself where no file is.
const OTHERS_FACTOR: u64 = 3;
/// An entry of a revocation list takes a node of a tree and two allocations. With both generations
/// and what is read, a peak of 18 bytes for each of the file was measured where serial numbers are
/// as short as can be, and of 11 where they have 20 bytes.
const CRL_FACTOR: u64 = 9;
/// The text, and its DER beside what of it grows.
const READ_FACTOR: u64 = 4;

/// What the limits count, which is fixed when a [`Tls`](super::Tls) is made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counted {
    sizes: Sizes,
    chain_bytes: usize,
    has_client_auth: bool,
}

impl Counted {
    pub(super) fn of(loaded: &Loaded) -> Self {
        Counted {
            sizes: loaded.sizes.with_room(),
            chain_bytes: loaded.chain_bytes + CHAIN_ROOM,
            has_client_auth: loaded.has_client_auth,
        }
    }

    /// Resident bytes that stay while there are connections or none.
    pub(super) fn loaded_bytes(&self) -> u64 {
        self.sizes.memory_bytes()
    }

    /// The most bytes of an answer in the handshake: certificates and the names of client CAs.
    pub(super) fn answer_bytes(&self) -> usize {
        match self.has_client_auth {
            true => self.chain_bytes + MAX_HINTS,
            false => self.chain_bytes,
        }
    }

    pub(super) fn has_client_auth(&self) -> bool {
        self.has_client_auth
    }

    /// # Errors
    /// It takes more than is counted.
    pub(super) fn check(&self, loaded: &Loaded) -> Result<(), TlsError> {
        let (most, are) = (self.sizes, loaded.sizes);
        let is_within = are.certificate <= most.certificate
            && are.key <= most.key
            && are.client_ca <= most.client_ca
            && are.client_crl <= most.client_crl
            && are.names <= most.names;
        if loaded.chain_bytes > self.chain_bytes {
            return Err(TlsError::contradiction(format!(
                "the TLS certificate and those that vouch for it have {} bytes, and the memory \
                 limit has {} for each connection: a restart counts again",
                loaded.chain_bytes, self.chain_bytes
            )));
        }
        match is_within && (self.has_client_auth || !loaded.has_client_auth) {
            true => Ok(()),
            false => Err(TlsError::contradiction(
                "the new TLS may take more memory than the limit has for it: a restart counts again",
            )),
        }
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
    pub(super) allow: Option<Arc<[Name]>>,
}

/// What new connections use, until their handshakes are over.
#[derive(Clone)]
pub(crate) struct Loaded {
    pub(super) config: Arc<ServerConfig>,
    pub(super) expires_at: Option<SystemTime>,
    /// By when the first of the revocation lists was to be followed by another.
    pub(super) crl_next_update: Option<SystemTime>,
    pub(super) min_version: TlsVersion,
    /// The names of clients that may stay; `None`: all.
    pub(super) allow: Option<Arc<[Name]>>,
    /// Bytes of our certificates.
    pub(super) chain_bytes: usize,
    pub(super) sizes: Sizes,
    pub(super) has_client_auth: bool,
}

impl Loaded {
    pub(super) fn of_config(config: &ServerConfig) -> Self {
        let mut config = config.clone();
        without_tickets(&mut config);
        Loaded {
            config: Arc::new(config),
            expires_at: None,
            crl_next_update: None,
            min_version: TlsVersion::default(),
            allow: None,
            // Neither can be told.
            chain_bytes: 16 << 10,
            sizes: Sizes::default(),
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
            Source::Pem { certificate, .. } => certificate.named(TlsPart::Certificate),
            Source::Config => "TLS certificate".to_owned(),
        }
    }

    /// The revocation lists in a text.
    pub(super) fn revocation_lists(&self) -> String {
        let crl = self.client_crl.as_ref();
        crl.map_or_else(String::new, |crl| crl.named(TlsPart::ClientCrl))
    }

    /// Reads and checks it all, as far as is `counted`, if that is fixed already.
    pub(super) fn load(&self, counted: Option<&Counted>) -> Result<Loaded, TlsError> {
        let most = |of: fn(&Sizes) -> u64| match counted {
            None => Most::Ever(of(&Sizes::MAX)),
            Some(counted) => Most::Counted(of(&counted.sizes)),
        };
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
        let certificates =
            certificate.read(TlsPart::Certificate, most(|sizes| sizes.certificate))?;
        let chain: Vec<CertificateDer<'static>> = certificates.all("certificate")?;
        let key = key.read(TlsPart::Key, most(|sizes| sizes.key))?;
        let chain_bytes = chain.iter().map(|certificate| certificate.len()).sum();
        if chain_bytes > MAX_CHAIN {
            return Err(certificates.wrong(format!(
                "{} has {chain_bytes} bytes of certificates, and clients take {MAX_CHAIN} at most",
                certificates.named
            )));
        }
        let mut crl_next_update = None;
        let mut sizes = Sizes {
            certificate: certificates.len(),
            key: key.len(),
            names: self.allow.as_ref().map_or(0, certificate::list_bytes),
            ..Sizes::default()
        };
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
            Some(ca) => {
                let text = ca.read(TlsPart::ClientCa, most(|sizes| sizes.client_ca))?;
                sizes.client_ca = text.len();
                let most = most(|sizes| sizes.client_crl);
                let crl = self.client_crl.as_ref();
                let crl = crl
                    .map(|crl| crl.read(TlsPart::ClientCrl, most))
                    .transpose()?;
                sizes.client_crl = crl.as_ref().map_or(0, Text::len);
                let verifier;
                (verifier, crl_next_update) = self.verifier(text, crl, provider)?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder
            .with_single_cert(chain, key.key()?)
            .map_err(|error| unfit(&error, &certificates.named, &key.named))?;
        without_tickets(&mut config);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        let loaded = Loaded {
            config: Arc::new(config),
            expires_at,
            crl_next_update,
            min_version: self.min_version,
            allow: self.allow.clone(),
            chain_bytes,
            sizes,
            has_client_auth: self.client_ca.is_some(),
        };
        match counted {
            Some(counted) => counted.check(&loaded).map(|()| loaded),
            None => Ok(loaded),
        }
    }

    fn verifier(
        &self,
        ca: Text,
        crl: Option<Text>,
        provider: Arc<CryptoProvider>,
    ) -> Result<(Arc<dyn ClientCertVerifier>, Option<SystemTime>), TlsError> {
        let mut next_update = None;
        let mut roots = RootCertStore::empty();
        for certificate in ca.all::<CertificateDer<'static>>("certificate")? {
            roots.add(certificate).map_err(|error| {
                ca.wrong(format!("{} has no valid certificate: {error}", ca.named))
            })?;
        }
        let hints: usize = roots
            .subjects()
            .iter()
            .map(|name| name.as_ref().len())
            .sum();
        let mut verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
        if hints > MAX_HINTS {
            verifier = verifier.clear_root_hint_subjects();
        }
        if let Some(text) = crl {
            let lists: Vec<CertificateRevocationListDer<'static>> = text.all("revocation list")?;
            // It may be large, and is parsed in the end.
            drop(text);
            let of_each = lists
                .iter()
                .filter_map(|list| certificate::next_update(list));
            next_update = of_each.min();
            verifier = verifier
                .with_crls(lists)
                .only_check_end_entity_revocation()
                .allow_unknown_revocation_status();
        }
        if self.client_auth == Some(ClientAuth::Optional) {
            verifier = verifier.allow_unauthenticated();
        }
        let verifier = verifier
            .build()
            .map_err(|error| match (error, &self.client_crl) {
                (VerifierBuilderError::InvalidCrl(error), Some(crl)) => {
                    let named = crl.named(TlsPart::ClientCrl);
                    let error = Error::InvalidCertRevocationList(error);
                    let text = format!("{named} has no valid list: {error}");
                    TlsError::new(text).about(TlsPart::ClientCrl)
                }
                (error, _) => ca.wrong(format!("{}: {error}", ca.named)),
            })?;
        Ok((Arc::new(FewCertificates { verifier }), next_update))
    }
}

/// Refuses long chains. rustls keeps a client's certificates for as long as the connection is open,
/// and a message of 18 KiB holds thousands of certificates of a byte each, which take 50 more.
#[derive(Debug)]
struct FewCertificates {
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientCertVerifier for FewCertificates {
    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if intermediates.len() > MAX_INTERMEDIATES {
            return Err(Error::General(format!(
                "the client has sent {} certificates beside its own, and {MAX_INTERMEDIATES} are \
                 the most",
                intermediates.len()
            )));
        }
        self.verifier
            .verify_client_cert(end_entity, intermediates, now)
    }

    fn offer_client_auth(&self) -> bool {
        self.verifier.offer_client_auth()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.verifier.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.verifier.root_hint_subjects()
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier
            .verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}

pub(super) fn unfit(error: &Error, certificate: &str, key: &str) -> TlsError {
    use rustls::InconsistentKeys;
    let (part, text) = match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            let text = format!("{key} does not match {certificate}: they must be made together");
            return TlsError::contradiction(text).about(TlsPart::Key);
        }
        Error::InvalidCertificate(error) if is_version_1(error) => (
            TlsPart::Certificate,
            format!(
                "{certificate} is of X.509 version 1, which has no names that clients look at: \
                 make it again with a subjectAltName (openssl x509 -req -extfile)"
            ),
        ),
        Error::InvalidCertificate(_) => (
            TlsPart::Certificate,
            format!("{certificate} is not valid: {error}"),
        ),
        error => (TlsPart::Key, format!("{key} cannot be used: {error}")),
    };
    TlsError::new(text).about(part)
}

fn is_version_1(error: &CertificateError) -> bool {
    let CertificateError::Other(other) = error else {
        return false;
    };
    matches!(
        other.0.downcast_ref(),
        Some(webpki::Error::UnsupportedCertVersion)
    )
}
