//! Who may connect: lists of networks and of users.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

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

/// A list of networks. IPv4-mapped addresses and networks are IPv4.
#[derive(Clone, Debug, Default)]
pub(crate) struct Networks(Vec<IpNet>);

impl Networks {
    pub(crate) fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Networks(networks.into_iter().map(canonical).collect())
    }

    pub(crate) fn contain(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|network| network.contains(&address))
    }
}

/// A list of peers.
#[derive(Clone, Debug)]
struct PeerList {
    networks: Networks,
    uids: Vec<u32>,
}

impl PeerList {
    /// `None` for an empty list, which is none.
    fn new(list: &[Peers]) -> Option<Self> {
        let networks = list.iter().filter_map(|peers| match peers {
            Peers::Network(network) => Some(*network),
            Peers::Uid(_) => None,
        });
        let uids = list.iter().filter_map(|peers| match peers {
            Peers::Network(_) => None,
            Peers::Uid(uid) => Some(*uid),
        });
        (!list.is_empty()).then(|| PeerList {
            networks: Networks::new(networks),
            uids: uids.collect(),
        })
    }

    fn contains(&self, peer: Peer) -> bool {
        match peer {
            Peer::Tcp(address) => self.networks.contain(address.ip()),
            Peer::Unix { uid, .. } => self.uids.contains(&uid),
        }
    }
}

/// Who may connect to one listener, and who speaks for its clients.
#[derive(Clone, Debug)]
pub(crate) struct PeerLists {
    /// `None`: everybody.
    allow: Option<PeerList>,
    /// `None`: connections begin with their bytes.
    proxy_from: Option<PeerList>,
}

impl PeerLists {
    pub(crate) fn new(allow: &[Peers], proxy_from: &[Peers]) -> Self {
        PeerLists {
            allow: PeerList::new(allow),
            proxy_from: PeerList::new(proxy_from),
        }
    }

    /// Whether connections begin with a head of the PROXY protocol.
    pub(crate) fn expects_proxy(&self) -> bool {
        self.proxy_from.is_some()
    }

    /// The setting that keeps out who connects. Behind a balancer only the head tells whether its
    /// client is allowed.
    pub(crate) fn keeps_out(&self, peer: Peer) -> Option<&'static str> {
        match &self.proxy_from {
            Some(balancers) => (!balancers.contains(peer)).then_some("proxy_from"),
            None => (!self.allows(peer)).then_some("allow"),
        }
    }

    pub(crate) fn allows(&self, peer: Peer) -> bool {
        self.allow.as_ref().is_none_or(|list| list.contains(peer))
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
            let list = Networks::new([network.parse().unwrap()]);
            for (address, is_in) in [
                ("10.1.2.3", true),
                ("::ffff:10.1.2.3", true),
                ("11.1.2.3", false),
                ("::10.1.2.3", false),
            ] {
                assert_eq!(list.contain(address.parse().unwrap()), is_in, "{address}");
            }
        }
    }

    #[test]
    fn an_empty_list_allows_everybody_and_another_only_who_is_in_it() {
        let unix = Peer::Unix { pid: None, uid: 7 };
        let everybody = PeerLists::new(&[], &[]);
        assert!(everybody.allows(tcp("192.0.2.1")) && everybody.allows(unix));
        let lists = |allow: &[&str]| {
            let lists = PeerLists::new(&peers(allow), &[]);
            (lists.allows(tcp("192.0.2.1")), lists.allows(unix))
        };
        assert_eq!(lists(&["192.0.2.0/24"]), (true, false));
        assert_eq!(lists(&["192.0.2.1"]), (true, false));
        assert_eq!(lists(&["192.0.2.2", "uid:8"]), (false, false));
        assert_eq!(lists(&["uid:7"]), (false, true));
        assert_eq!(lists(&["::/0", "uid:7"]), (false, true));
    }

    #[test]
    fn behind_a_balancer_only_the_balancer_connects_and_only_its_client_is_on_the_list() {
        let (allow, proxy_from) = (peers(&["192.0.2.0/24"]), peers(&["10.0.0.0/8", "uid:7"]));
        let lists = PeerLists::new(&allow, &proxy_from);
        assert_eq!(lists.keeps_out(tcp("10.0.0.1")), None);
        assert_eq!(lists.keeps_out(tcp("192.0.2.1")), Some("proxy_from"));
        let unix = |uid| Peer::Unix { pid: None, uid };
        assert_eq!(lists.keeps_out(unix(7)), None);
        assert_eq!(lists.keeps_out(unix(8)), Some("proxy_from"));
        assert!(!lists.allows(tcp("10.0.0.1")));
        let direct = PeerLists::new(&allow, &[]);
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
