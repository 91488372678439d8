//! Why certificates, a key or who may connect cannot be used.

use std::fmt;
use std::io;

/// Why a [`Tls`](super::Tls) could not be made or reloaded: one line, which names the file and says
/// what would work. It never holds a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    text: String,
    kind: TlsErrorKind,
    part: Option<TlsPart>,
}

/// A part of a [`Tls`](super::Tls) that is read, by its words in an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsPart {
    /// The certificate, with those that vouch for it.
    Certificate,
    /// Its private key.
    Key,
    /// The certificates that vouch for clients.
    ClientCa,
    /// The lists of certificates of clients that are revoked.
    ClientCrl,
    /// The certificates that vouch for a server ([`TlsClient`](super::TlsClient)).
    ServerCa,
}

impl fmt::Display for TlsPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            TlsPart::Certificate => "TLS certificate",
            TlsPart::Key => "TLS key",
            TlsPart::ClientCa => "client CA",
            TlsPart::ClientCrl => "revocation list",
            TlsPart::ServerCa => "TLS CA",
        })
    }
}

/// What kind of thing is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TlsErrorKind {
    /// A file is missing or unreadable, which may pass.
    Unreadable,
    /// What was read cannot be used.
    Invalid,
    /// Two things are each sound and not together: a key and another's certificate, or a setting
    /// without the one that it needs, or more memory than the limits have for it.
    Contradiction,
    /// Clients still shake hands by what was loaded before the last reload. It passes once they are
    /// through, or the handshake timeout has ended them.
    Busy,
}

impl TlsError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        TlsError {
            text: text.into(),
            kind: TlsErrorKind::Invalid,
            part: None,
        }
    }

    pub(super) fn about(self, part: TlsPart) -> Self {
        TlsError {
            part: Some(part),
            ..self
        }
    }

    pub(super) fn contradiction(text: impl Into<String>) -> Self {
        TlsError {
            kind: TlsErrorKind::Contradiction,
            ..TlsError::new(text)
        }
    }

    pub(super) fn busy() -> Self {
        TlsError {
            kind: TlsErrorKind::Busy,
            ..TlsError::new(
                "clients still shake hands by the TLS that was replaced last: reload again in some \
                 seconds",
            )
        }
    }

    pub(super) fn unreadable(what: impl fmt::Display, error: &io::Error) -> Self {
        TlsError::missing(format!("cannot read {what}: {error}"))
    }

    /// What is not there and may come.
    pub(super) fn missing(text: impl Into<String>) -> Self {
        TlsError {
            kind: TlsErrorKind::Unreadable,
            ..TlsError::new(text)
        }
    }

    /// What kind of thing is wrong.
    pub fn error_kind(&self) -> TlsErrorKind {
        self.kind
    }

    /// What the error is about: of a key and a certificate that do not match, the key. `None` where
    /// it is about nothing that is read.
    pub fn part(&self) -> Option<TlsPart> {
        self.part
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}
