//! What the settings of TLS are, a row each, and what they make together.

use std::path::PathBuf;
use std::sync::Arc;

use drainline::{ClientAuth, Tls, TlsError, TlsVersion};

/// The settings of TLS, of the server or of one listener.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TlsSettings {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    /// `Some(None)`: clients are not asked, whatever is common to all.
    pub(super) client_ca: Option<Option<PathBuf>>,
    pub(super) client_crl: Option<PathBuf>,
    pub(super) client_auth: Option<ClientAuth>,
    /// Shared, since listeners look at the common settings one after the other.
    pub(super) client_names: Option<Arc<[String]>>,
    pub(super) min_version: Option<TlsVersion>,
}

impl TlsSettings {
    /// These, and where one is not set that of `common`. A certificate comes with its key, and what
    /// is asked of the certificates of clients goes with the client CA.
    pub(super) fn or(&self, common: &TlsSettings) -> TlsSettings {
        let (own, mut common) = (self.clone(), common.clone());
        if own.cert.is_some() {
            common.key = None;
        }
        if own.client_ca == Some(None) {
            (common.client_crl, common.client_auth, common.client_names) = (None, None, None);
        }
        TlsSettings {
            cert: own.cert.or(common.cert),
            key: own.key.or(common.key),
            client_ca: own.client_ca.or(common.client_ca),
            client_crl: own.client_crl.or(common.client_crl),
            client_auth: own.client_auth.or(common.client_auth),
            client_names: own.client_names.or(common.client_names),
            min_version: own.min_version.or(common.min_version),
        }
    }

    pub(super) fn has_client_ca(&self) -> bool {
        matches!(self.client_ca, Some(Some(_)))
    }

    /// Reads the files.
    pub(super) fn load(self, cert: PathBuf) -> Result<Tls, TlsError> {
        let key = self.key.unwrap_or_else(|| cert.clone());
        let mut tls = Tls::from_files(cert, key)?;
        if let Some(ca) = self.client_ca.flatten() {
            tls = tls.client_ca_file(ca)?;
        }
        if let Some(crl) = self.client_crl {
            tls = tls.client_crl_file(crl)?;
        }
        if let Some(auth) = self.client_auth {
            tls = tls.client_auth(auth)?;
        }
        if let Some(names) = self.client_names {
            tls = tls.allow_names(names.iter().cloned())?;
        }
        if let Some(version) = self.min_version {
            tls = tls.min_version(version)?;
        }
        Ok(tls)
    }
}

/// The settings of TLS, for the server or for one listener.
macro_rules! tls_rows {
    ($Settings:ident, $group:expr) => {{
        use $crate::cli::flag::{Field, Flag, Takes, field};
        use $crate::cli::kinds::{choice, list, off, unset};
        use $crate::cli::values::{CLIENT_AUTH, PATH, PeerName, TLS_VERSION};
        vec![
            Flag {
                name: "tls-cert",
                group: $group,
                purpose: "certificate, in PEM",
                help: "The certificate that listeners show that speak TLS (tls://, tls+unix:, tls+systemd:), in \
                       PEM: the server's own first, then those that vouch for it. The files of TLS are \
                       regular files. SIGHUP reads it again, with the other files of TLS, for connections \
                       that come from then on; files that cannot be used change nothing. From 14 days before \
                       it expires the log says so, once a day.",
                takes: field!(unset(PATH), $Settings.tls.cert),
            },
            Flag {
                name: "tls-key",
                group: $group,
                purpose: "its private key",
                help: "The private key of --tls-cert, in PEM, not encrypted. Without it the key is in the same \
                       file as the certificate.",
                takes: field!(unset(PATH), $Settings.tls.key),
            },
            Flag {
                name: "tls-client-ca",
                group: $group,
                purpose: "who vouches for clients",
                help: "Certificates in PEM. A client must show a certificate that one of them vouches for. Its \
                       first DNS name, or else its first URI or its fingerprint, is in the log and in the \
                       lists of connections. Without this, and with off, clients are not asked for \
                       certificates: off in a listener's table switches off there what is common to all, \
                       --tls-client-crl, --tls-client-auth and --tls-client-names included. A file of that \
                       name is ./off.",
                takes: field!(unset(off(PATH)), $Settings.tls.client_ca),
            },
            Flag {
                name: "tls-client-crl",
                group: $group,
                purpose: "certificates that are revoked",
                help: "Lists (CRLs) in PEM of certificates of clients that are revoked. Where none is of a \
                       client's issuer, its certificate counts as valid. Connections that are open when a \
                       list is read again stay open.",
                takes: field!(unset(PATH), $Settings.tls.client_crl),
            },
            Flag {
                name: "tls-client-auth",
                group: $group,
                purpose: "whether clients must have one",
                help: "Whether a client must show a certificate, which it must by default where \
                       --tls-client-ca is given. One that is shown must be valid either way.",
                takes: field!(unset(choice(CLIENT_AUTH).shown_as("MODE")), $Settings.tls.client_auth),
            },
            Flag {
                name: "tls-client-names",
                group: $group,
                purpose: "which of them may stay",
                help: "Of the clients with a valid certificate, serves only those with one of these names: a \
                       DNS name or a URI of the certificate, in full, or its fingerprint, sha256: and 64 \
                       hexadecimal digits. The others are disconnected after the handshake, counted as \
                       not_allowed.",
                takes: Takes::Value(Box::new(Field {
                    kind: unset(list(PeerName)),
                    get: |settings: &$Settings| {
                        let names = settings.tls.client_names.as_ref();
                        names.map(|names| names.to_vec())
                    },
                    set: |settings: &mut $Settings, names| {
                        settings.tls.client_names = names.map(Into::into);
                    },
                })),
            },
            Flag {
                name: "tls-min-version",
                group: $group,
                purpose: "oldest version of TLS",
                help: "Refuses clients that speak only older versions of TLS. Without it, 1.2 is the oldest.",
                takes: field!(unset(choice(TLS_VERSION)), $Settings.tls.min_version),
            },
        ]
    }};
}

pub(super) use tls_rows;
