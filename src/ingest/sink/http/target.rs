//! What all requests have in common.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use ureq::http::{HeaderMap, Uri};

use super::dialect::Dialect;
use crate::ingest::sink::secrets::Secrets;

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
    pub(super) secrets: Secrets,
}

/// Without the headers and the query, which may be secrets.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("path", &self.uri.path())
            .finish_non_exhaustive()
    }
}

/// How servers are believed.
#[derive(Clone)]
pub(super) struct Trust {
    pub(super) config: Arc<ClientConfig>,
    pub(super) name: ServerName<'static>,
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trust").finish_non_exhaustive()
    }
}
