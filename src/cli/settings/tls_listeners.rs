//! Which listeners speak TLS, with what, and what of that contradicts each other.

use drainline::{ClientAuth, Tls, TlsPart};

use super::Settings;
use super::listeners::ListenerSettings;
use super::tls::TlsSettings;
use crate::cli::usage::UsageError;

/// What was read from files, for each of different settings.
pub(super) type LoadedTls = Vec<(TlsSettings, Tls)>;

/// The rows of TLS.
const ROWS: [&str; 7] = [
    "tls-cert",
    "tls-key",
    "tls-client-ca",
    "tls-client-crl",
    "tls-client-auth",
    "tls-client-names",
    "tls-min-version",
];

/// Those that say something of the certificates of clients.
const OF_CLIENTS: [&str; 3] = ["tls-client-crl", "tls-client-auth", "tls-client-names"];

impl Settings {
    /// Whether what is needed for TLS is there, and what is there is used: whoever asks for it must
    /// not find out later that nothing was encrypted, or that everybody may connect.
    pub(super) fn check_tls(&self) -> Result<(), UsageError> {
        let listeners = self.all_listeners();
        for listener in &listeners {
            match listener.address.speaks_tls {
                true => self.check_with_tls(listener)?,
                false => check_without_tls(listener)?,
            }
        }
        let Some(listener) = listeners.first() else {
            return Ok(());
        };
        if !self.has_tls()
            && let Some(row) = ROWS.into_iter().find(|row| self.has(row))
        {
            let url = listener.address.over_tls();
            let expected = format!("a listener that speaks TLS beside it, such as {url}");
            return Err(self.named(row).contradiction(&self.words(row), &expected));
        }
        let asks =
            |it: &ListenerSettings| it.address.speaks_tls && it.tls.or(&self.tls).has_client_ca();
        if !listeners.iter().any(asks)
            && let Some(row) = OF_CLIENTS.into_iter().find(|row| self.has(row))
        {
            let expected =
                "a listener beside it that asks clients for certificates, by tls_client_ca";
            return Err(self.named(row).contradiction(&self.words(row), expected));
        }
        Ok(())
    }

    /// Whether who connects without a certificate is refused.
    pub(super) fn wants_certificate(&self, listener: &ListenerSettings) -> bool {
        let settings = listener.tls.or(&self.tls);
        let is_optional = settings.client_auth == Some(ClientAuth::Optional);
        listener.address.speaks_tls && settings.has_client_ca() && !is_optional
    }

    fn check_with_tls(&self, listener: &ListenerSettings) -> Result<(), UsageError> {
        let (named, url) = (self.named_address(listener), &listener.address);
        let settings = listener.tls.or(&self.tls);
        if settings.cert.is_none() {
            let expected = "a certificate for it, by --tls-cert, or by tls_cert in the file";
            return Err(named.contradiction(&url.to_string(), expected));
        }
        if settings.has_client_ca() {
            return Ok(());
        }
        if let Some(row) = OF_CLIENTS.into_iter().find(|row| listener.has(row)) {
            let expected = "a client CA beside it, by tls_client_ca";
            let words = listener.words(row);
            return Err(listener.named(row).contradiction(&words, expected));
        }
        let is_off = listener.tls.client_ca == Some(None);
        match OF_CLIENTS.into_iter().find(|row| self.has(row)) {
            Some(row) if !is_off => {
                let expected = format!(
                    "a client CA for {url}, by --tls-client-ca, or by tls_client_ca in the file, \
                     which is \"off\" in the [[listener]] of one that asks clients for nothing"
                );
                Err(self.named(row).contradiction(&self.words(row), &expected))
            }
            _ => Ok(()),
        }
    }

    /// What a listener speaks TLS with; `None` if it does not. The files are read once for all
    /// listeners that have the same: a revocation list, say, takes its memory once.
    ///
    /// # Errors
    /// A file is missing, or cannot be used.
    pub(super) fn load_tls(
        &self,
        listener: &ListenerSettings,
        loaded: &mut LoadedTls,
    ) -> Result<Option<Tls>, UsageError> {
        if !listener.address.speaks_tls {
            return Ok(None);
        }
        let settings = listener.tls.or(&self.tls);
        let Some(cert) = settings.cert.clone() else {
            return Ok(None);
        };
        if let Some((_, tls)) = loaded.iter().find(|(same, _)| *same == settings) {
            return Ok(Some(tls.clone()));
        }
        let has_key = settings.key.is_some();
        let tls = settings.clone().load(cert).map_err(|error| {
            let row = match error.part() {
                Some(TlsPart::Key) if has_key => "tls-key",
                Some(TlsPart::ClientCa) => "tls-client-ca",
                Some(TlsPart::ClientCrl) => "tls-client-crl",
                _ => "tls-cert",
            };
            let named = match listener.has(row) {
                true => listener.named(row),
                false => self.named(row),
            };
            named.refuses_tls(&format!("{named}: {error}"), &error)
        })?;
        loaded.push((settings, tls.clone()));
        Ok(Some(tls))
    }
}

impl ListenerSettings {
    /// As [`TlsSettings::or`] has it.
    pub(super) fn inherits_tls(&self, row: &str) -> bool {
        match row {
            "tls-key" => self.tls.cert.is_none(),
            row if OF_CLIENTS.contains(&row) => self.tls.client_ca != Some(None),
            _ => true,
        }
    }
}

fn check_without_tls(listener: &ListenerSettings) -> Result<(), UsageError> {
    let Some(row) = ROWS.into_iter().find(|row| listener.has(row)) else {
        return Ok(());
    };
    let url = listener.address.over_tls();
    let expected = format!("an address beside it that speaks TLS, such as {url}");
    let words = listener.words(row);
    Err(listener.named(row).contradiction(&words, &expected))
}
