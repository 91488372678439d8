//! TLS towards a server: whom an output trusts, and the certificate that it shows.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore, version};

use super::TlsVersion;
use super::error::{TlsError, TlsPart};
use super::material::unfit;
use super::pem::{Most, Pem};

/// The most that is read of a file of certificates.
const MAX_CA: u64 = 1 << 20;
const MAX_CERTIFICATE: u64 = 256 << 10;
/// Resident bytes of what is loaded, at most: the system's certificates take some 500 KiB, and both
/// what is current and what is loaded in its place count.
const SYSTEM_BYTES: u64 = 2 << 20;
/// In DER, parsed, and the text while it is read.
const FACTOR: u64 = 4;

/// TLS for what connects to a server: which certificates are trusted, and which one is shown.
///
/// Without a CA file the system's certificates are trusted: those of `SSL_CERT_FILE` and
/// `SSL_CERT_DIR`, if the environment has them, or those that the distribution keeps
/// (`ca-certificates`). With one, those of the file alone. The server's certificate must be for the
/// name that is connected to, unless [`server_name`](TlsClient::server_name) says otherwise, and
/// be valid. No session is resumed.
#[derive(Clone, Default)]
pub struct TlsClient {
    ca: Option<Pem>,
    identity: Option<(Pem, Pem)>,
    server_name: Option<ServerName<'static>>,
    min_version: TlsVersion,
}

impl TlsClient {
    /// Trusts the system's certificates and shows none. Reads nothing yet.
    pub fn new() -> Self {
        TlsClient::default()
    }

    /// Trusts the certificates of a PEM file, 1 MiB at most, and no others.
    #[must_use]
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca = Some(Pem::File(path.into()));
        self
    }

    /// Shows a certificate, with those that vouch for it, and its key: PEM files of 256 KiB each at
    /// most.
    #[must_use]
    pub fn certificate_files(
        mut self,
        certificate: impl Into<PathBuf>,
        key: impl Into<PathBuf>,
    ) -> Self {
        self.identity = Some((Pem::File(certificate.into()), Pem::File(key.into())));
        self
    }

    /// The name, or IP address, that the server's certificate must be for. Default: what is
    /// connected to.
    ///
    /// # Errors
    /// It is neither a DNS name nor an address.
    pub fn server_name(mut self, name: &str) -> Result<Self, TlsError> {
        self.server_name = Some(parse_name(name)?);
        Ok(self)
    }

    /// The oldest version that is spoken. Default: 1.2.
    #[must_use]
    pub fn min_version(mut self, version: TlsVersion) -> Self {
        self.min_version = version;
        self
    }

    /// Reads and checks the files.
    ///
    /// # Errors
    /// A file cannot be read or used, or the system has no certificates: one line that names it.
    pub fn check(&self) -> Result<(), TlsError> {
        self.load().map(drop)
    }

    /// The name that the certificate of `host` must be for.
    pub(crate) fn name_of(&self, host: &str) -> Result<ServerName<'static>, TlsError> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => parse_name(host),
        }
    }

    /// Resident bytes of what is loaded, at most, with room for what a reload may bring.
    pub(crate) fn loaded_bytes(&self) -> u64 {
        let ca = self.ca.as_ref().map_or(SYSTEM_BYTES, |_| MAX_CA * FACTOR);
        let identity = self.identity.as_ref();
        ca + identity.map_or(0, |_| 2 * MAX_CERTIFICATE * FACTOR)
    }

    pub(crate) fn load(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let roots = self.roots()?;
        let versions = match self.min_version {
            TlsVersion::V1_2 => &[&version::TLS13, &version::TLS12][..],
            TlsVersion::V1_3 => &[&version::TLS13][..],
        };
        let provider = Arc::new(ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .map_err(|error| TlsError::new(error.to_string()))?
            .with_root_certificates(roots);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let most = Most::Ever(MAX_CERTIFICATE);
                let certificates = certificate.read(TlsPart::Certificate, most)?;
                let chain = certificates.all::<CertificateDer<'static>>("certificate")?;
                let key = key.read(TlsPart::Key, most)?;
                builder
                    .with_client_auth_cert(chain, key.key()?)
                    .map_err(|error| unfit(&error, &certificates.named, &key.named))?
            }
        };
        config.resumption = rustls::client::Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
            return match (roots.is_empty(), found.errors.first()) {
                (false, _) => Ok(roots),
                (true, Some(error)) => Err(no_system_certificates(&format!(": {error}"))),
                (true, None) => Err(no_system_certificates("")),
            };
        };
        let text = ca.read(TlsPart::ServerCa, Most::Ever(MAX_CA))?;
        for certificate in text.all::<CertificateDer<'static>>("certificate")? {
            roots.add(certificate).map_err(|error| {
                text.wrong(format!("{} has no valid certificate: {error}", text.named))
            })?;
        }
        Ok(roots)
    }
}

impl fmt::Debug for TlsClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsClient").finish_non_exhaustive()
    }
}

fn no_system_certificates(why: &str) -> TlsError {
    let text = format!(
        "the system has no certificates of authorities to trust{why}: install ca-certificates, or \
         give a CA file"
    );
    TlsError::missing(text).about(TlsPart::ServerCa)
}

fn parse_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| {
        TlsError::new(format!(
            "{name:?} is not a name that a certificate can be for: a DNS name or an IP address"
        ))
    })
}

/// What went wrong with a server, in words that complete "the receiver".
pub(crate) fn words(error: &Error) -> String {
    use CertificateError as Why;
    let certificate = match error {
        Error::InvalidCertificate(why) => why,
        Error::InvalidMessage(_) => return "does not speak TLS here".to_owned(),
        Error::AlertReceived(alert) => return refused(*alert),
        Error::PeerIncompatible(_) => {
            return format!("speaks no TLS version or cipher suite in common: {error}");
        }
        error => return format!("has sent what is not valid TLS: {error}"),
    };
    let what = match certificate {
        Why::UnknownIssuer => "is not from an authority that is trusted here",
        Why::Expired | Why::ExpiredContext { .. } => "has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "is not valid yet",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "is not for servers (extended key usage serverAuth)"
        }
        Why::BadSignature | Why::UnsupportedSignatureAlgorithmForPublicKeyContext { .. } => {
            "is not from an authority that is trusted here: it has another signature"
        }
        // An error of webpki that has no name in rustls.
        Why::Other(other) if format!("{other:?}").contains("CaUsedAsEndEntity") => {
            "is an authority's and not a server's (basicConstraints CA:TRUE, as openssl req -x509 \
             has it where nothing else is said)"
        }
        // They name the names.
        other => return format!("shows a certificate that is not valid: {other}"),
    };
    format!("shows a certificate that {what}")
}

fn refused(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let why = match alert {
        Alert::CertificateRequired => ": it asks for a client certificate",
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
            ": it does not trust the client certificate"
        }
        Alert::CertificateExpired => ": the client certificate has expired",
        Alert::AccessDenied => ": the client certificate is not allowed there",
        Alert::ProtocolVersion => ": it does not speak this version",
        _ => "",
    };
    format!("has refused with {alert:?}{why}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};
    use rustls::pki_types::PrivateKeyDer;
    use rustls::{ClientConnection, ServerConfig, ServerConnection};

    use super::*;

    /// What a client that trusts `trusted` says of a server with a certificate that is its own
    /// issuer's.
    fn said_of(own: CertificateParams, trusted: Option<CertificateDer<'static>>) -> Option<Error> {
        let key = KeyPair::generate().unwrap();
        let own = own.self_signed(&key).unwrap().der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(trusted.unwrap_or_else(|| own.clone())).unwrap();
        let provider = Arc::new(ring::default_provider());
        let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own],
                PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            );
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from("localhost").unwrap();
        let mut server = ServerConnection::new(Arc::new(server.unwrap())).unwrap();
        let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
        while client.is_handshaking() {
            let mut wire = Vec::new();
            client.write_tls(&mut wire).unwrap();
            server.read_tls(&mut &wire[..]).unwrap();
            server.process_new_packets().unwrap();
            let mut wire = Vec::new();
            while server.wants_write() {
                server.write_tls(&mut wire).unwrap();
            }
            client.read_tls(&mut &wire[..]).unwrap();
            if let Err(error) = client.process_new_packets() {
                return Some(error);
            }
        }
        None
    }

    #[test]
    fn a_certificate_that_is_its_own_issuers_is_told_in_words() {
        let params = || CertificateParams::new(["localhost".to_owned()]).unwrap();
        let authority = || {
            let mut params = params();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        assert_eq!(said_of(params(), None), None);
        let said = words(&said_of(authority(), None).unwrap());
        assert!(said.contains("CA:TRUE"), "{said}");
        // Another one of the same name.
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let other = authority().self_signed(&key).unwrap().der().clone();
        let said = words(&said_of(params(), Some(other)).unwrap());
        assert!(said.ends_with("it has another signature"), "{said}");
    }
}
