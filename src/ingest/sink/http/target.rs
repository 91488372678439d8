//! What all requests have in common.

use std::fmt;
use std::time::Duration;

use ureq::http::{HeaderMap, Uri};

use super::answer::CUT;
use super::dialect::Dialect;
use super::wire::Trust;

pub(super) struct Target {
    pub(super) uri: Uri,
    /// All but those that a request makes for itself.
    pub(super) headers: HeaderMap,
    pub(super) dialect: Dialect,
    pub(super) gzip: bool,
    pub(super) connect_timeout: Duration,
    pub(super) timeout: Duration,
    /// Where TLS is spoken.
    pub(super) trust: Option<Trust>,
    /// What an answer may not show: it may say what it was asked.
    pub(super) secrets: Vec<String>,
}

impl Target {
    pub(super) fn hide(&self, text: String) -> String {
        let secrets = self.secrets.iter().filter(|secret| !secret.is_empty());
        secrets.fold(text, |text, secret| {
            without_beginning(text.replace(secret.as_str(), "***"), secret)
        })
    }
}

/// A text that was cut may end with the beginning of a secret.
fn without_beginning(text: String, secret: &str) -> String {
    let Some(cut) = text.strip_suffix(CUT) else {
        return text;
    };
    let mut ends = secret
        .char_indices()
        .map(|(at, _)| at)
        .filter(|at| *at > 0)
        .rev();
    let found = ends.find(|&at| cut.ends_with(&secret[..at]));
    match found {
        Some(at) => format!("{}***{CUT}", &cut[..cut.len() - at]),
        None => text,
    }
}

/// Without the headers and the query, which may be secrets.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}
