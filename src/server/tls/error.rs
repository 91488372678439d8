//! Why certificates, a key or who may connect cannot be used.

use std::fmt;
use std::io;

/// Why a [`Tls`](super::Tls) could not be made or reloaded: one line, which names the file and says
/// what would work. It never holds a part of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError {
    text: String,
    may_pass: bool,
}

impl TlsError {
    pub(super) fn new(text: impl Into<String>) -> Self {
        TlsError {
            text: text.into(),
            may_pass: false,
        }
    }

    pub(super) fn unreadable(what: impl fmt::Display, error: &io::Error) -> Self {
        TlsError {
            text: format!("cannot read {what}: {error}"),
            may_pass: true,
        }
    }

    /// Whether a file is missing or unreadable, which may pass: what is in the file is not known
    /// to be wrong.
    pub fn may_pass(&self) -> bool {
        self.may_pass
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for TlsError {}
