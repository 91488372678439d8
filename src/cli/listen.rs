//! Where a listener listens, as it is typed: a URL, or a bare address, which is TCP. Schemes are
//! known here and nowhere else.

use std::fmt::{self, Display};
use std::net::SocketAddr;

#[cfg(test)]
use super::kinds::cases;
use super::kinds::{Kind, NotAccepted, or};
use super::values::Address;

/// Where a listener listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenUrl {
    /// `tcp://ADDRESS`, or an address alone.
    Tcp(SocketAddr),
    /// `systemd:NAME`: on the sockets of this name that a service manager passes, or on all that it
    /// passes where the name is empty.
    Systemd(String),
}

impl ListenUrl {
    /// The address of a listener that has one.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            ListenUrl::Tcp(address) => Some(*address),
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
        read: |rest| Address.read(rest).map(ListenUrl::Tcp),
    },
    Scheme {
        prefix: SYSTEMD,
        rest: "NAME",
        read: |rest| descriptor_name(rest).map(ListenUrl::Systemd),
    },
];

const SYSTEMD: &str = "systemd:";
/// The longest name that a socket unit can give its sockets (FileDescriptorName=).
const MAX_DESCRIPTOR_NAME: usize = 255;

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
            (None, None) => Address.read(typed).map(ListenUrl::Tcp),
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
                "systemd:syslog",
                "systemd:",
            ],
            &[
                "systemd:a:b",
                "5140",
                ":5140",
                "127.0.0.1",
                "127.0.0.1:65536",
                "tcp://127.0.0.1",
                "tcp://",
                "udp://127.0.0.1:5140",
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
    fn a_bare_address_is_tcp() {
        let bare = Url.read("127.0.0.1:5140").expect("accepted");
        assert_eq!(Url.read("tcp://127.0.0.1:5140").as_ref(), Ok(&bare));
        assert_eq!(Url.print(&bare).as_deref(), Some("127.0.0.1:5140"));
    }
}
