//! What all requests have in common.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};

use super::dialect::Dialect;

pub(super) struct Target {
    pub(super) uri: Uri,
    /// All but those that a request makes for itself.
    pub(super) headers: HeaderMap,
    pub(super) dialect: Dialect,
    pub(super) gzip: bool,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    /// What an answer may not show: it may say what it was asked.
    pub(super) secrets: Vec<String>,
}

impl Target {
    pub(super) fn hide(&self, text: String) -> String {
        let secrets = self.secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    }
}

/// Without the headers, one of which is a secret.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("uri", &self.uri)
            .finish_non_exhaustive()
    }
}
