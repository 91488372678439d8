//! The settings of one listener, which stand in for the server's.

use std::time::Duration;

use super::config::{Config, FirstByteTimeout, within};
use super::error::{ConfigError, Contradiction};
use super::peers::Peers;
use super::ranges;
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
    pub(super) allow: Option<Vec<Peers>>,
    pub(super) proxy_from: Option<Vec<Peers>>,
    pub(super) tls: Option<Tls>,
}

impl ListenerSettings {
    /// Checks every value against its range, and against the server's settings, which were checked.
    pub(super) fn check(&self, common: &Config) -> Result<(), ConfigError> {
        within(
            "max_connections",
            self.max_connections,
            ranges::MAX_CONNECTIONS,
        )?;
        within("rate_limit", self.rate_limit.flatten(), ranges::RATE_LIMIT)?;
        within(
            "frame_timeout",
            self.frame_timeout.flatten(),
            ranges::FRAME_TIMEOUT,
        )?;
        within(
            "idle_timeout",
            self.idle_timeout.flatten(),
            ranges::IDLE_TIMEOUT,
        )?;
        if let Some(FirstByteTimeout::After(wait)) = self.first_byte_timeout {
            within("first_byte_timeout", wait, ranges::FIRST_BYTE_TIMEOUT)?;
        }
        within(
            "handshake_timeout",
            self.handshake_timeout,
            ranges::HANDSHAKE_TIMEOUT,
        )?;
        self.check_share(common)
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
            }),
            _ => Ok(()),
        }
    }
}
