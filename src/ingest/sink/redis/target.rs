//! Where a sink connects to, and as whom.

use std::fmt;
use std::io;
use std::time::Duration;

use super::password::Password;

#[derive(Clone)]
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: Option<String>,
    pub(super) password: Option<Password>,
    pub(super) database: u32,
    pub(super) client_name: String,
    pub(super) connect_timeout: Duration,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<crate::server::TlsClient>,
}

impl Target {
    /// An error of what `connect_timeout` limits. The kernel has times of its own, which it tells
    /// by number.
    pub(super) fn in_words(&self, error: &io::Error) -> String {
        let is_limit = match error.kind() {
            io::ErrorKind::WouldBlock => true,
            io::ErrorKind::TimedOut => error.raw_os_error().is_none(),
            _ => false,
        };
        match is_limit {
            true => format!(
                "no answer within {:?} (connect_timeout)",
                self.connect_timeout
            ),
            false => error.to_string(),
        }
    }
}

/// Without the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("host", &self.host)
            .field("port", &self.port)
            .finish_non_exhaustive()
    }
}

impl Target {
    pub(super) fn new(host: String, port: u16) -> Self {
        Target {
            host,
            port,
            user: None,
            password: None,
            database: 0,
            client_name: "drainline".to_owned(),
            connect_timeout: super::Redis::DEFAULT_CONNECT_TIMEOUT,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    pub(super) fn speaks_tls(&self) -> bool {
        #[cfg(feature = "tls")]
        if self.tls.is_some() {
            return true;
        }
        false
    }

    /// Resident bytes of TLS, at most.
    pub(super) fn tls_bytes(&self) -> u64 {
        /// Buffers of the session, and what is encrypted of a chunk.
        #[cfg(feature = "tls")]
        const SESSION: u64 = 3 * super::command::CHUNK as u64;
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            return tls.loaded_bytes() + SESSION;
        }
        0
    }
}
