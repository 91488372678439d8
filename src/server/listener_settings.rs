//! The settings of one listener, which stand in for the server's.

use std::sync::Arc;
use std::time::Duration;

use super::config::{Config, FirstByteTimeout};
use super::error::{ConfigError, Contradiction};
use super::limits::shared_bytes;
use super::peers::Peers;
use super::tls::Tls;

/// A listener's own settings. Where one is `None`, the server's holds.
#[derive(Clone, Debug, Default)]
pub(crate) struct ListenerSettings {
    /// The listener's share of the connections, within those of the server.
    pub(super) max_connections: Option<usize>,
    pub(super) rate_limit: Option<Option<u64>>,
    pub(super) frame_timeout: Option<Option<Duration>>,
    pub(super) idle_timeout: Option<Option<Duration>>,
    pub(super) first_byte_timeout: Option<FirstByteTimeout>,
    pub(super) handshake_timeout: Option<Duration>,
    pub(super) allow: Option<Arc<[Peers]>>,
    pub(super) proxy_from: Option<Arc<[Peers]>>,
    pub(super) tls: Option<Tls>,
}

impl ListenerSettings {
    /// The settings of its connections: its own, and the server's where it has none. But for
    /// `max_connections`, which is the server's limit of all together.
    pub(super) fn over(&self, common: &Config) -> Config {
        let or_common = |own: &Option<Arc<[Peers]>>, common: &Arc<[Peers]>| {
            Arc::clone(own.as_ref().unwrap_or(common))
        };
        Config {
            rate_limit: self.rate_limit.unwrap_or(common.rate_limit),
            frame_timeout: self.frame_timeout.unwrap_or(common.frame_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(common.idle_timeout),
            first_byte_timeout: self.first_byte_timeout.unwrap_or(common.first_byte_timeout),
            handshake_timeout: self.handshake_timeout.unwrap_or(common.handshake_timeout),
            allow: or_common(&self.allow, &common.allow),
            proxy_from: or_common(&self.proxy_from, &common.proxy_from),
            ..common.clone()
        }
    }

    /// Checks every value as one of the server, and against the server's settings, which were
    /// checked: what does not hold is its own.
    pub(super) fn check(&self, common: &Config) -> Result<(), ConfigError> {
        let own = Config {
            max_connections: self.max_connections.or(common.max_connections),
            ..self.over(common)
        };
        own.check()?;
        self.check_share(common)
    }

    /// What its own lists take of memory, in bytes.
    pub(super) fn list_bytes(&self) -> u64 {
        let lists = [&self.allow, &self.proxy_from].into_iter().flatten();
        lists.map(shared_bytes).sum()
    }

    /// A share that the server's limit would cut short is not what somebody meant. Where that limit
    /// is a default that had to shrink, a note says so.
    fn check_share(&self, common: &Config) -> Result<(), ConfigError> {
        let all = common
            .max_connections
            .unwrap_or(Config::DEFAULT_MAX_CONNECTIONS);
        match self.max_connections {
            Some(share) if share > all => Err(ConfigError {
                setting: "max_connections",
                value: share.to_string(),
                expected: "at most".to_owned(),
                contradicts: Some(Box::new(Contradiction {
                    setting: "max_connections",
                    value: all.to_string(),
                    why: "which all listeners share",
                })),
                listener: None,
                listener_index: None,
            }),
            _ => Ok(()),
        }
    }
}
