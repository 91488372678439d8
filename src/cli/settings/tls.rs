//! What the settings of TLS make, for the listeners that speak it.

use std::path::PathBuf;

use drainline::{ClientAuth, Tls, TlsError, TlsErrorKind, TlsVersion};

use super::listeners::ListenerSettings;
use super::{Named, Origin, Settings};
use crate::cli::listen::ListenUrl;
use crate::cli::usage::{self, UsageError};

/// The settings of TLS, of the server or of one listener.
#[derive(Clone, Debug, Default)]
pub(crate) struct TlsSettings {
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) client_ca: Option<PathBuf>,
    pub(super) client_crl: Option<PathBuf>,
    pub(super) client_auth: Option<ClientAuth>,
    pub(super) client_names: Option<Vec<String>>,
    pub(super) min_version: Option<TlsVersion>,
}

impl TlsSettings {
    /// These, and where one is not set that of `common`. A certificate comes with its key.
    fn or(&self, common: &TlsSettings) -> TlsSettings {
        let (own, common) = (self.clone(), common.clone());
        TlsSettings {
            key: match own.cert {
                Some(_) => own.key,
                None => own.key.or(common.key),
            },
            cert: own.cert.or(common.cert),
            client_ca: own.client_ca.or(common.client_ca),
            client_crl: own.client_crl.or(common.client_crl),
            client_auth: own.client_auth.or(common.client_auth),
            client_names: own.client_names.or(common.client_names),
            min_version: own.min_version.or(common.min_version),
        }
    }

    /// Reads the files.
    fn load(self, cert: PathBuf) -> Result<Tls, TlsError> {
        let key = self.key.unwrap_or_else(|| cert.clone());
        let mut tls = Tls::from_files(cert, key)?;
        if let Some(ca) = self.client_ca {
            tls = tls.client_ca_file(ca)?;
        }
        if let Some(crl) = self.client_crl {
            tls = tls.client_crl_file(crl)?;
        }
        if let Some(auth) = self.client_auth {
            tls = tls.client_auth(auth)?;
        }
        if let Some(names) = self.client_names {
            tls = tls.allow_names(names)?;
        }
        if let Some(version) = self.min_version {
            tls = tls.min_version(version)?;
        }
        Ok(tls)
    }
}

impl Settings {
    /// Whether any listener speaks TLS.
    pub(crate) fn has_tls(&self) -> bool {
        self.all_listeners().iter().any(speaks_tls)
    }

    /// Whether what is needed for TLS is there, and what is there is used.
    pub(super) fn check_tls(&self) -> Result<(), UsageError> {
        let listeners = self.all_listeners();
        for listener in listeners.iter().filter(|listener| speaks_tls(listener)) {
            if listener.tls.or(&self.tls).cert.is_none() {
                let (named, url) = (self.named_address(listener), &listener.address);
                let expected = "a certificate for it, by --tls-cert, or by tls_cert in the file";
                return Err(named.contradiction(&url.to_string(), expected));
            }
        }
        match &self.tls.cert {
            // Whoever sets one must not find out later that nothing was encrypted.
            Some(path) if !self.has_tls() => Err(self.named("tls-cert").contradiction(
                &path.display().to_string(),
                "a listener that speaks TLS beside it, such as --listen tls://0.0.0.0:6514",
            )),
            _ => Ok(()),
        }
    }

    /// What a listener speaks TLS with, read from the files; `None` if it does not.
    ///
    /// # Errors
    /// A file is missing, or cannot be used.
    pub(super) fn load_tls(&self, listener: &ListenerSettings) -> Result<Option<Tls>, UsageError> {
        if !speaks_tls(listener) {
            return Ok(None);
        }
        let settings = listener.tls.or(&self.tls);
        let Some(cert) = settings.cert.clone() else {
            return Ok(None);
        };
        let named = match listener.tls.cert {
            Some(_) => listener.named("tls-cert"),
            None => self.named("tls-cert"),
        };
        let is_typed = matches!(self.given.origin("tls-cert"), Some(Origin::Flag))
            && listener.tls.cert.is_none();
        let loaded = settings.load(cert);
        loaded
            .map(Some)
            .map_err(|error| refused(&named, is_typed, &error))
    }
}

fn refused(named: &Named, is_typed: bool, error: &TlsError) -> UsageError {
    let code = match error.error_kind() {
        TlsErrorKind::Unreadable => usage::NOT_STARTED,
        TlsErrorKind::Invalid if is_typed => usage::BAD_VALUE,
        _ => usage::CONTRADICTION,
    };
    UsageError::new(code, &format!("{named}: {error}"))
}

/// By its URL, or by a certificate of its own, as where a service manager passes the socket.
fn speaks_tls(listener: &ListenerSettings) -> bool {
    matches!(listener.address, ListenUrl::Tls(_)) || listener.tls.cert.is_some()
}
