//! Where a listener listens, as it is typed: a URL, or a bare address, which is TCP. Schemes are
//! known here and nowhere else.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::PathBuf;

use drainline::{Address, ranges};

#[cfg(test)]
use super::kinds::cases;
use super::kinds::{Kind, NotAccepted, or};
use super::values;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenUrl {
    /// `tcp://ADDRESS`, or an address alone.
    Tcp(SocketAddr),
    /// `tls://ADDRESS`: over TLS.
    #[cfg(feature = "tls")]
    Tls(SocketAddr),
    /// `unix:PATH`: on a Unix socket.
    Unix(PathBuf),
    /// `systemd:NAME`: on the sockets of this name that a service manager passes, or on all that it
    /// passes where the name is empty.
    Systemd(String),
}

impl ListenUrl {
    /// The address of a listener that has one.
    pub(crate) fn address(&self) -> Option<Address> {
        match self {
            ListenUrl::Tcp(address) => Some(Address::Tcp(*address)),
            #[cfg(feature = "tls")]
            ListenUrl::Tls(address) => Some(Address::Tcp(*address)),
            ListenUrl::Unix(path) => Some(Address::Unix(path.clone())),
            ListenUrl::Systemd(_) => None,
        }
    }
}

impl From<SocketAddr> for ListenUrl {
    fn from(address: SocketAddr) -> Self {
        ListenUrl::Tcp(address)
    }
}

/// In the shortest form that reads back.
impl Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ListenUrl::Tcp(address) => address.fmt(f),
            #[cfg(feature = "tls")]
            ListenUrl::Tls(address) => write!(f, "{TLS}{address}"),
            ListenUrl::Unix(path) => write!(f, "{UNIX}{}", path.display()),
            ListenUrl::Systemd(name) => write!(f, "{SYSTEMD}{name}"),
        }
    }
}

/// One way to listen.
struct Scheme {
    /// What a URL begins with: `tcp://`.
    prefix: &'static str,
    /// What follows, in a word.
    rest: &'static str,
    read: fn(&str) -> Result<ListenUrl, NotAccepted>,
}

const SCHEMES: &[Scheme] = &[
    Scheme {
        prefix: "tcp://",
        rest: "ADDRESS",
        read: |rest| values::Address.read(rest).map(ListenUrl::Tcp),
    },
    Scheme {
        prefix: UNIX,
        rest: "PATH",
        read: |rest| socket_path(rest).map(ListenUrl::Unix),
    },
    #[cfg(feature = "tls")]
    Scheme {
        prefix: TLS,
        rest: "ADDRESS",
        read: |rest| values::Address.read(rest).map(ListenUrl::Tls),
    },
    Scheme {
        prefix: SYSTEMD,
        rest: "NAME",
        read: |rest| descriptor_name(rest).map(ListenUrl::Systemd),
    },
];

const UNIX: &str = "unix:";
#[cfg(feature = "tls")]
const TLS: &str = "tls://";
const SYSTEMD: &str = "systemd:";
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
            (Some((scheme, rest)), _) => (scheme.read)(rest),
            // A port has no slash.
            (None, Some((scheme, _))) => {
                let why = format!("there is no {scheme}:");
                Err(NotAccepted::because(why))
            }
            (None, None) => values::Address.read(typed).map(ListenUrl::Tcp),
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

    #[test]
    fn a_bare_address_is_tcp() {
        let bare = Url.read("127.0.0.1:5140").expect("accepted");
        assert_eq!(Url.read("tcp://127.0.0.1:5140").as_ref(), Ok(&bare));
        assert_eq!(Url.print(&bare).as_deref(), Some("127.0.0.1:5140"));
    }
}
