//! What belongs to one listener: its name and the settings of its connections, looked up by the
//! index that each connection has.

use super::connection_state::ListenerName;
use crate::policy::WatchLimits;
use crate::server::config::{Config, FirstByteTimeout};
use crate::server::listener_settings::ListenerSettings;
use crate::server::peer::Address;
use crate::server::peers::PeerLists;
use crate::server::tls::Tls;

#[derive(Debug)]
pub(crate) struct ListenerState {
    pub(crate) name: ListenerName,
    pub(crate) address: Address,
    /// The most of the server's connections that may be this listener's.
    pub(crate) max_connections: Option<usize>,
    pub(crate) rate_limit: Option<u64>,
    pub(crate) first_byte_timeout: FirstByteTimeout,
    pub(crate) deadlines: WatchLimits,
    pub(crate) peers: PeerLists,
    pub(crate) tls: Option<Tls>,
    /// Something comes before the bytes of its peers.
    pub(crate) has_opening: bool,
    /// Nothing is ever written to its peers.
    pub(crate) is_one_way: bool,
}

impl ListenerState {
    pub(crate) fn new(
        name: ListenerName,
        address: Address,
        own: &ListenerSettings,
        common: &Config,
        is_one_way: bool,
    ) -> Self {
        let settings = own.over(common);
        let peers = PeerLists {
            allow: settings.allow,
            proxy_from: settings.proxy_from,
        };
        ListenerState {
            name,
            address,
            max_connections: own.max_connections,
            rate_limit: settings.rate_limit,
            first_byte_timeout: settings.first_byte_timeout,
            deadlines: WatchLimits {
                frame: settings.frame_timeout,
                idle: settings.idle_timeout,
                first_byte: match settings.first_byte_timeout {
                    FirstByteTimeout::After(wait) => Some(wait),
                    FirstByteTimeout::Auto | FirstByteTimeout::Off => None,
                },
                write: settings.write_timeout,
                handshake: settings.handshake_timeout,
                warn_after: settings.warn_after,
            },
            has_opening: peers.expects_proxy() || own.tls.is_some(),
            is_one_way,
            peers,
            tls: own.tls.clone(),
        }
    }
}
