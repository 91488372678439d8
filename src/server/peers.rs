//! Who may connect: lists of networks and of users.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};

use super::peer::Peer;

/// Peers that are known by where they connect from.
///
/// ```
/// use drainline::Peers;
///
/// let network: Peers = "10.0.0.0/8".parse()?;
/// let user: Peers = "uid:1000".parse()?;
/// assert_eq!((network.to_string(), user), ("10.0.0.0/8".to_owned(), Peers::Uid(1000)));
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peers {
    /// TCP clients of this network.
    Network(IpNet),
    /// Processes of this user, on a Unix socket.
    Uid(u32),
}

impl From<IpNet> for Peers {
    fn from(network: IpNet) -> Self {
        Peers::Network(network)
    }
}

/// `10.0.0.0/8`, or `uid:1000`.
impl fmt::Display for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peers::Network(network) => network.fmt(f),
            Peers::Uid(uid) => write!(f, "uid:{uid}"),
        }
    }
}

/// Text that is no [`Peers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeersParseError;

impl fmt::Display for PeersParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected a network such as 10.0.0.0/8, an address, or uid:1000")
    }
}

impl std::error::Error for PeersParseError {}

/// A network, an address, or a user as [`Display`](fmt::Display) writes it.
impl FromStr for Peers {
    type Err = PeersParseError;

    fn from_str(text: &str) -> Result<Self, PeersParseError> {
        let peers = match text.strip_prefix("uid:") {
            Some(uid) => uid.parse().ok().map(Peers::Uid),
            None => {
                let network = text.parse().ok();
                let network = network.or_else(|| text.parse().ok().map(IpAddr::into));
                network.map(Peers::Network)
            }
        };
        peers.ok_or(PeersParseError)
    }
}

/// Whether an address is in one of these networks. IPv4-mapped addresses and networks are IPv4.
pub(crate) fn is_in(address: IpAddr, networks: &[IpNet]) -> bool {
    let address = address.to_canonical();
    networks.iter().any(|it| canonical(*it).contains(&address))
}

fn is_one_of(peer: Peer, list: &[Peers]) -> bool {
    match peer {
        Peer::Tcp(address) => {
            let address = address.ip().to_canonical();
            list.iter().any(|peers| match peers {
                Peers::Network(network) => canonical(*network).contains(&address),
                Peers::Uid(_) => false,
            })
        }
        Peer::Unix { uid, .. } => list.contains(&Peers::Uid(uid)),
    }
}

/// Who may connect to one listener, and who speaks for its clients. The lists are those of the
/// settings: listeners without one of their own share the server's, however many there are.
#[derive(Clone, Debug)]
pub(crate) struct PeerLists {
    /// Empty: everybody.
    pub(crate) allow: Arc<[Peers]>,
    /// Empty: connections begin with their bytes.
    pub(crate) proxy_from: Arc<[Peers]>,
}

impl PeerLists {
    /// Whether connections begin with a head of the PROXY protocol.
    pub(crate) fn expects_proxy(&self) -> bool {
        !self.proxy_from.is_empty()
    }

    /// The setting that keeps out who connects. Behind a balancer only the head tells whether its
    /// client is allowed.
    pub(crate) fn keeps_out(&self, peer: Peer) -> Option<&'static str> {
        match self.expects_proxy() {
            true => (!is_one_of(peer, &self.proxy_from)).then_some("proxy_from"),
            false => (!self.allows(peer)).then_some("allow"),
        }
    }

    pub(crate) fn allows(&self, peer: Peer) -> bool {
        self.allow.is_empty() || is_one_of(peer, &self.allow)
    }
}

/// The IPv4 network for one of IPv4-mapped addresses.
fn canonical(network: IpNet) -> IpNet {
    const MAPPED: u8 = 96;
    let IpNet::V6(v6) = network else {
        return network;
    };
    v6.addr()
        .to_ipv4_mapped()
        .zip(v6.prefix_len().checked_sub(MAPPED))
        .and_then(|(v4, prefix)| Ipv4Net::new(v4, prefix).ok())
        .map_or(network, IpNet::V4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn peers(list: &[&str]) -> Vec<Peers> {
        list.iter().map(|peers| peers.parse().unwrap()).collect()
    }

    fn lists(allow: &[&str], proxy_from: &[&str]) -> PeerLists {
        PeerLists {
            allow: peers(allow).into(),
            proxy_from: peers(proxy_from).into(),
        }
    }

    fn tcp(ip: &str) -> Peer {
        Peer::Tcp((ip.parse::<IpAddr>().unwrap(), 1).into())
    }

    #[test]
    fn a_network_of_ipv4_mapped_addresses_is_one_of_ipv4() {
        let canonical = |net: &str| canonical(net.parse().unwrap()).to_string();
        assert_eq!(canonical("::ffff:127.0.0.1/128"), "127.0.0.1/32");
        assert_eq!(canonical("::ffff:10.0.0.0/104"), "10.0.0.0/8");
        for same in ["10.0.0.0/8", "fd00::/8", "::/0", "::1/128"] {
            assert_eq!(canonical(same), same);
        }
    }

    #[test]
    fn an_address_is_in_a_network_however_either_is_written() {
        for network in ["10.0.0.0/8", "::ffff:10.0.0.0/104"] {
            let list = [network.parse().unwrap()];
            for (address, is_there) in [
                ("10.1.2.3", true),
                ("::ffff:10.1.2.3", true),
                ("11.1.2.3", false),
                ("::10.1.2.3", false),
            ] {
                assert_eq!(
                    is_in(address.parse().unwrap(), &list),
                    is_there,
                    "{address}"
                );
            }
        }
    }

    #[test]
    fn an_empty_list_allows_everybody_and_another_only_who_is_in_it() {
        let unix = Peer::Unix { pid: None, uid: 7 };
        let everybody = lists(&[], &[]);
        assert!(everybody.allows(tcp("192.0.2.1")) && everybody.allows(unix));
        let allowed = |allow: &[&str]| {
            let lists = lists(allow, &[]);
            (lists.allows(tcp("192.0.2.1")), lists.allows(unix))
        };
        assert_eq!(allowed(&["192.0.2.0/24"]), (true, false));
        assert_eq!(allowed(&["192.0.2.1"]), (true, false));
        assert_eq!(allowed(&["192.0.2.2", "uid:8"]), (false, false));
        assert_eq!(allowed(&["uid:7"]), (false, true));
        assert_eq!(allowed(&["::/0", "uid:7"]), (false, true));
    }

    #[test]
    fn behind_a_balancer_only_the_balancer_connects_and_only_its_client_is_on_the_list() {
        let behind = lists(&["192.0.2.0/24"], &["10.0.0.0/8", "uid:7"]);
        assert_eq!(behind.keeps_out(tcp("10.0.0.1")), None);
        assert_eq!(behind.keeps_out(tcp("192.0.2.1")), Some("proxy_from"));
        let unix = |uid| Peer::Unix { pid: None, uid };
        assert_eq!(behind.keeps_out(unix(7)), None);
        assert_eq!(behind.keeps_out(unix(8)), Some("proxy_from"));
        assert!(!behind.allows(tcp("10.0.0.1")));
        let direct = lists(&["192.0.2.0/24"], &[]);
        assert_eq!(direct.keeps_out(tcp("10.0.0.1")), Some("allow"));
        assert_eq!(direct.keeps_out(tcp("192.0.2.1")), None);
    }

    #[test]
    fn what_is_no_network_and_no_user_is_nobody() {
        for text in [
            "",
            "uid:",
            "uid:-1",
            "uid:4294967296",
            "10.0.0.0/33",
            "host",
            "1000",
        ] {
            assert_eq!(text.parse::<Peers>(), Err(PeersParseError), "{text:?}");
        }
    }
}
