//! Who a connection comes from, and where a listener listens.

use std::ffi::OsString;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::sys::socket::getsockopt;
use nix::sys::socket::sockopt::PeerCredentials;
use socket2::{SockAddr, Socket};

/// The id of no user (chown(2)).
const NO_UID: u32 = u32::MAX;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Peer {
    /// A TCP client's address. An IPv4 client of an IPv6 listener has its IPv4 address.
    Tcp(SocketAddr),
    /// The process that connected to a Unix socket, as it was at that moment (`SO_PEERCRED`,
    /// unix(7)). It may have handed its end to another process since.
    Unix {
        /// Its process id. `None` if the process is in a PID namespace that this one does not see,
        /// such as another container.
        pid: Option<i32>,
        /// Its effective user id.
        uid: u32,
    },
}

impl Peer {
    /// The IP address, if the connection came over TCP.
    pub fn ip(&self) -> Option<IpAddr> {
        self.socket_addr().map(|address| address.ip())
    }

    /// The address with its port, if the connection came over TCP.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Peer::Tcp(address) => Some(*address),
            Peer::Unix { .. } => None,
        }
    }
}

impl Peer {
    /// What all connections of one client have in common: its IP address, or at a Unix socket the
    /// user, as `unix:uid=1000`.
    #[cfg(any(feature = "http", feature = "kafka"))]
    pub(crate) fn host(self) -> String {
        match self {
            Peer::Tcp(address) => address.ip().to_canonical().to_string(),
            Peer::Unix { uid, .. } => Peer::Unix { pid: None, uid }.to_string(),
        }
    }

    /// The peer of an accepted socket, whose address accept(2) has told.
    pub(super) fn of(socket: &Socket, address: &SockAddr) -> Peer {
        if let Some(address) = address.as_socket() {
            return Peer::Tcp(address).canonical();
        }
        // The kernel has these of every connected Unix socket.
        match getsockopt(socket, PeerCredentials) {
            Ok(credentials) => Peer::Unix {
                pid: Some(credentials.pid()).filter(|&pid| pid != 0),
                uid: credentials.uid(),
            },
            Err(_) => Peer::Unix {
                pid: None,
                uid: NO_UID,
            },
        }
    }

    /// An IPv4 client of an IPv6 socket has its IPv4 address.
    pub(super) fn canonical(self) -> Peer {
        match self {
            Peer::Tcp(address) => Peer::Tcp(match address.ip().to_canonical() {
                // Not rebuilt, because an IPv6 socket address has a scope.
                IpAddr::V6(_) => address,
                v4 => SocketAddr::new(v4, address.port()),
            }),
            unix => unix,
        }
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Peer::Tcp(address)
    }
}

/// `192.0.2.1:4711`, `unix:uid=1000,pid=4711`, or `unix:uid=1000` without a pid.
impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Tcp(address) => address.fmt(f),
            Peer::Unix {
                pid: Some(pid),
                uid,
            } => write!(f, "unix:uid={uid},pid={pid}"),
            Peer::Unix { pid: None, uid } => write!(f, "unix:uid={uid}"),
        }
    }
}

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Address {
    /// A TCP address and port.
    Tcp(SocketAddr),
    /// The path of a Unix socket. `@` begins a name in the abstract namespace, which a listener
    /// that was handed in may have.
    Unix(PathBuf),
}

impl Address {
    /// The address and port, if the listener is one of TCP.
    pub fn socket_addr(&self) -> Option<SocketAddr> {
        match self {
            Address::Tcp(address) => Some(*address),
            Address::Unix(_) => None,
        }
    }
}

impl Address {
    /// The address that a socket is bound to (getsockname(2)).
    pub(super) fn of(socket: &Socket) -> io::Result<Address> {
        let address = socket.local_addr()?;
        if let Some(address) = address.as_socket() {
            return Ok(Address::Tcp(address));
        }
        let name = address.as_abstract_namespace().map(|name| {
            let name = [b"@", name].concat();
            PathBuf::from(OsString::from_vec(name))
        });
        let path = || address.as_pathname().map(Path::to_owned);
        Ok(Address::Unix(name.or_else(path).unwrap_or_default()))
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Address::Tcp(address)
    }
}

/// `192.0.2.1:5140`, or `unix:/run/drainline.sock`.
impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => address.fmt(f),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_and_addresses_are_one_word_in_every_text() {
        let tcp: SocketAddr = "192.0.2.1:4711".parse().expect("an address");
        let unix = |pid| Peer::Unix { pid, uid: 1000 };
        assert_eq!(Peer::from(tcp).to_string(), "192.0.2.1:4711");
        assert_eq!(unix(Some(7)).to_string(), "unix:uid=1000,pid=7");
        assert_eq!(unix(None).to_string(), "unix:uid=1000");
        assert_eq!(Address::from(tcp).to_string(), "192.0.2.1:4711");
        let path = Address::Unix("/run/a.sock".into());
        assert_eq!(path.to_string(), "unix:/run/a.sock");
    }
}
