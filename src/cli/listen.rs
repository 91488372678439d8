//! Where a listener listens, as it is typed: a URL, or a bare address, which is TCP. Schemes are
//! known here and nowhere else.

use std::fmt::{self, Display};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use drainline::{Address, Peers, ranges};

#[cfg(test)]
use super::kinds::cases;
use super::kinds::{Kind, NotAccepted, or};
use super::values;

/// Where a listener listens, and whether it speaks TLS there, which nothing else says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListenUrl {
    pub(crate) socket: SocketSpec,
    pub(crate) speaks_tls: bool,
}

/// Where a server listens that is not told where.
impl Default for ListenUrl {
    fn default() -> Self {
        SocketAddr::from((Ipv4Addr::LOCALHOST, 5140)).into()
    }
}

/// The socket that a listener listens on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum SocketSpec {
    /// `tcp://ADDRESS`, or an address alone.
    Tcp(SocketAddr),
    /// `unix:PATH`.
    Unix(PathBuf),
    /// `systemd:NAME`: the sockets of this name that a service manager passes, or all that it
    /// passes where the name is empty.
    Systemd(String),
}

impl ListenUrl {
    /// The address of a listener that has one.
    pub(crate) fn address(&self) -> Option<Address> {
        match &self.socket {
            SocketSpec::Tcp(address) => Some(Address::Tcp(*address)),
            SocketSpec::Unix(path) => Some(Address::Unix(path.clone())),
            SocketSpec::Systemd(_) => None,
        }
    }

    /// The same place with TLS.
    #[cfg(feature = "tls")]
    pub(crate) fn over_tls(&self) -> ListenUrl {
        ListenUrl {
            speaks_tls: true,
            ..self.clone()
        }
    }
}

impl SocketSpec {
    /// Whether a client that connects here can be one of these. A socket that is passed may be of
    /// any kind.
    pub(crate) fn has_peer_of(&self, list: &[Peers]) -> bool {
        list.iter().any(|peers| match (self, peers) {
            (SocketSpec::Systemd(_), _) | (SocketSpec::Unix(_), Peers::Uid(_)) => true,
            (SocketSpec::Tcp(address), Peers::Network(network)) => {
                let (has_v4, has_v6) = families(address.ip());
                match network.addr().to_canonical() {
                    IpAddr::V4(_) => has_v4,
                    IpAddr::V6(_) => has_v6,
                }
            }
            _ => false,
        })
    }

    /// Who connects here, for a list of peers.
    pub(crate) fn peers(&self) -> &'static str {
        match self {
            SocketSpec::Tcp(address) => match families(address.ip()) {
                (true, true) => "a network such as 10.0.0.0/8",
                (true, false) => "an IPv4 network such as 10.0.0.0/8",
                (false, _) => "an IPv6 network such as fd00::/8",
            },
            SocketSpec::Unix(_) => "a user such as uid:1000",
            SocketSpec::Systemd(_) => "a network or a user",
        }
    }
}

/// Whether a socket bound to an address has clients of IPv4, and of IPv6. `[::]` has both.
fn families(bound: IpAddr) -> (bool, bool) {
    match bound.to_canonical() {
        IpAddr::V4(_) => (true, false),
        IpAddr::V6(address) => (address.is_unspecified(), true),
    }
}

impl From<SocketAddr> for ListenUrl {
    fn from(address: SocketAddr) -> Self {
        ListenUrl {
            socket: SocketSpec::Tcp(address),
            speaks_tls: false,
        }
    }
}

/// In the shortest form that reads back.
impl Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.speaks_tls, &self.socket) {
            (false, _) => "",
            (true, SocketSpec::Tcp(_)) => "tls://",
            (true, SocketSpec::Unix(_) | SocketSpec::Systemd(_)) => "tls+",
        })?;
        self.socket.fmt(f)
    }
}

impl Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SocketSpec::Tcp(address) => address.fmt(f),
            SocketSpec::Unix(path) => write!(f, "unix:{}", path.display()),
            SocketSpec::Systemd(name) => write!(f, "systemd:{name}"),
        }
    }
}

/// One way to listen.
struct Scheme {
    /// What a URL begins with: `tcp://`.
    prefix: &'static str,
    /// What follows, in a word.
    rest: &'static str,
    read: fn(&str) -> Result<SocketSpec, NotAccepted>,
    speaks_tls: bool,
}

const fn plain(
    prefix: &'static str,
    rest: &'static str,
    read: fn(&str) -> Result<SocketSpec, NotAccepted>,
) -> Scheme {
    Scheme {
        prefix,
        rest,
        read,
        speaks_tls: false,
    }
}

#[cfg(feature = "tls")]
const fn over_tls(prefix: &'static str, plain: Scheme) -> Scheme {
    Scheme {
        prefix,
        speaks_tls: true,
        ..plain
    }
}

const TCP: Scheme = plain("tcp://", "ADDRESS", |rest| {
    values::Address.read(rest).map(SocketSpec::Tcp)
});
const UNIX: Scheme = plain("unix:", "PATH", |rest| {
    socket_path(rest).map(SocketSpec::Unix)
});
const SYSTEMD: Scheme = plain("systemd:", "NAME", |rest| {
    descriptor_name(rest).map(SocketSpec::Systemd)
});

const SCHEMES: &[Scheme] = &[
    TCP,
    UNIX,
    SYSTEMD,
    #[cfg(feature = "tls")]
    over_tls("tls://", TCP),
    #[cfg(feature = "tls")]
    over_tls("tls+unix:", UNIX),
    #[cfg(feature = "tls")]
    over_tls("tls+systemd:", SYSTEMD),
];

/// The longest name that a socket unit can give its sockets (FileDescriptorName=).
const MAX_DESCRIPTOR_NAME: usize = 255;

/// The path of a Unix socket, also with the slashes of a URL: `unix:///run/a.sock`.
fn socket_path(typed: &str) -> Result<PathBuf, NotAccepted> {
    let path = match typed.strip_prefix("//") {
        Some(path) if path.starts_with('/') => path,
        Some(_) => return Err(NotAccepted::because("a Unix socket has no host")),
        None => typed,
    };
    let most = *ranges::UNIX_PATH.end();
    let why = if path.is_empty() || path.ends_with('/') {
        "no path of a file".to_owned()
    } else if path.starts_with('@') {
        "whoever is on the machine may connect to an abstract name, or take it first".to_owned()
    } else if path.contains(char::is_control) {
        "the path has a control character, such as a line break".to_owned()
    } else if path.len() > most {
        format!("the path has {} bytes, and may have {most}", path.len())
    } else {
        return Ok(path.into());
    };
    Err(NotAccepted::because(why))
}

/// The name of sockets that are passed, or nothing.
fn descriptor_name(typed: &str) -> Result<String, NotAccepted> {
    let is_of_name = |c: char| c.is_ascii_graphic() && c != ':';
    match typed.len() <= MAX_DESCRIPTOR_NAME && typed.chars().all(is_of_name) {
        true => Ok(typed.to_owned()),
        false => Err(NotAccepted::because("no name of a socket")),
    }
}

/// A URL to listen on, or an address.
pub(crate) struct Url;

impl Kind for Url {
    type Value = ListenUrl;

    fn read(&self, typed: &str) -> Result<ListenUrl, NotAccepted> {
        let mut schemes = SCHEMES.iter();
        let found = schemes.find_map(|scheme| Some((scheme, typed.strip_prefix(scheme.prefix)?)));
        match (found, typed.split_once(":/")) {
            (Some((scheme, rest)), _) => Ok(ListenUrl {
                socket: (scheme.read)(rest)?,
                speaks_tls: scheme.speaks_tls,
            }),
            // A port has no slash.
            (None, Some((scheme, _))) => {
                let why = format!("there is no {scheme}:");
                Err(NotAccepted::because(why))
            }
            (None, None) => values::Address.read(typed).map(ListenUrl::from),
        }
    }

    fn print(&self, value: &ListenUrl) -> Option<String> {
        Some(value.to_string())
    }

    fn expected(&self) -> String {
        let schemes = SCHEMES.iter();
        let urls: Vec<String> = schemes
            .map(|scheme| format!("{}{}", scheme.prefix, scheme.rest))
            .collect();
        let urls: Vec<&str> = urls.iter().map(String::as_str).collect();
        format!(
            "an address such as 127.0.0.1:5140, [::1]:5140 or localhost:5140, or a URL: {}",
            or(&urls)
        )
    }

    fn placeholder(&self) -> String {
        "URL".to_owned()
    }

    #[cfg(test)]
    fn cases(&self) -> (Vec<String>, Vec<String>) {
        cases(
            &[
                "127.0.0.1:0",
                "tcp://[::1]:5140",
                "localhost:5140",
                "unix:/run/a.sock",
                "unix:///run/a.sock",
                "unix:a.sock",
                "systemd:syslog",
                "systemd:",
            ],
            &[
                "unix:",
                "unix:/run/",
                "unix://run/a.sock",
                "unix:@a",
                "systemd:a:b",
                "5140",
                ":5140",
                "127.0.0.1",
                "127.0.0.1:65536",
                "tcp://127.0.0.1",
                "tcp://",
                "udp://127.0.0.1:5140",
                "tls://",
                "tls+unix:",
                "tls+unix://run/a.sock",
                "tls+systemd:a:b",
                "tls:127.0.0.1:5140",
                "TCP://127.0.0.1:5140",
                "http:/x",
            ],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scheme_that_there_is_not_is_named_beside_those_that_there_are() {
        let refused = Url.read("udp://127.0.0.1:514").err();
        assert_eq!(refused, Some(NotAccepted::because("there is no udp:")));
        for scheme in SCHEMES {
            let url = format!("{}{}", scheme.prefix, scheme.rest);
            assert!(Url.expected().contains(&url), "{url}");
        }
    }

    #[test]
    fn a_path_is_the_same_with_the_slashes_of_a_url_and_no_longer_than_a_socket_can_have() {
        let path = Url.read("unix:/run/a.sock").expect("accepted");
        assert_eq!(Url.read("unix:///run/a.sock").as_ref(), Ok(&path));
        assert_eq!(Url.print(&path).as_deref(), Some("unix:/run/a.sock"));
        assert!(Url.read(&format!("unix:/{}", "x".repeat(106))).is_ok());
        let long = Url.read(&format!("unix:/{}", "x".repeat(107))).err();
        let why = "the path has 108 bytes, and may have 107";
        assert_eq!(long, Some(NotAccepted::because(why)));
    }

    /// A line break would end a line of the port file and of the log.
    #[test]
    fn a_path_has_no_control_character() {
        let why = "the path has a control character, such as a line break";
        for path in ["unix:/run/a.sock\n", "unix:/run/a\t.sock"] {
            assert_eq!(Url.read(path).err(), Some(NotAccepted::because(why)));
        }
    }

    #[test]
    #[cfg(feature = "tls")]
    fn each_socket_is_had_with_tls_and_reads_back() {
        for (typed, plain) in [
            ("tls://127.0.0.1:6514", "127.0.0.1:6514"),
            ("tls+unix:/run/a.sock", "unix:/run/a.sock"),
            ("tls+systemd:syslog", "systemd:syslog"),
            ("tls+systemd:", "systemd:"),
        ] {
            let url = Url.read(typed).expect("accepted");
            assert_eq!(url.to_string(), typed);
            let plain = Url.read(plain).expect("accepted");
            assert!(url.speaks_tls && !plain.speaks_tls, "{typed}");
            assert_eq!(plain.over_tls(), url);
        }
    }

    #[test]
    fn a_bare_address_is_tcp() {
        let bare = Url.read("127.0.0.1:5140").expect("accepted");
        assert_eq!(Url.read("tcp://127.0.0.1:5140").as_ref(), Ok(&bare));
        assert_eq!(Url.print(&bare).as_deref(), Some("127.0.0.1:5140"));
    }
}
