//! What the settings of TLS are, and what they make together.

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
