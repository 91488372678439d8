//! Where messages are forwarded to.

use std::ffi::OsStr;
use std::fmt;
use std::net::Ipv6Addr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::str::FromStr;

/// The longest path of a Unix socket (unix(7)), without its NUL.
const MAX_UNIX_PATH: usize = 107;

/// A receiver: `tcp://HOST:PORT`, `tls://HOST:PORT` or `unix:PATH`, which is also how one is parsed
/// and printed. A host is a name, an IPv4 address, or an IPv6 address in brackets.
///
/// ```
/// use drainline::ingest::sink::Target;
///
/// let target: Target = "tcp://logs.example.org:5140".parse()?;
/// assert_eq!(target, Target::tcp("logs.example.org", 5140));
/// assert_eq!("unix:/run/logs.sock".parse::<Target>()?.to_string(), "unix:/run/logs.sock");
/// # Ok::<(), drainline::BoxError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Target {
    /// TCP.
    Tcp {
        /// A name, which is resolved anew for each connection, or an address.
        host: String,
        /// From 1 on.
        port: u16,
    },
    /// TLS over TCP (feature `tls`).
    Tls {
        /// As that of `Tcp`. The certificate has to be for it.
        host: String,
        /// From 1 on.
        port: u16,
    },
    /// A Unix socket of the kind that streams.
    Unix(PathBuf),
}

impl Target {
    /// TCP.
    pub fn tcp(host: impl Into<String>, port: u16) -> Target {
        let host = host.into();
        Target::Tcp { host, port }
    }

    /// TLS over TCP.
    pub fn tls(host: impl Into<String>, port: u16) -> Target {
        let host = host.into();
        Target::Tls { host, port }
    }

    /// A Unix socket. [`unix_path`](Target::unix_path) says what is wrong with a path.
    pub fn unix(path: impl Into<PathBuf>) -> Target {
        Target::Unix(path.into())
    }

    /// A Unix socket whose path can be that of one.
    ///
    /// # Errors
    /// It is empty, has more than 107 bytes or a NUL.
    pub fn unix_path(path: impl AsRef<OsStr>) -> Result<Target, TargetParseError> {
        let path = path.as_ref();
        match path.as_bytes().len() {
            0 => Err(wrong("unix: is without the path of a socket".to_owned())),
            _ if path.as_bytes().contains(&0) => Err(wrong(format!("{path:?} is no path"))),
            1..=MAX_UNIX_PATH => Ok(Target::Unix(path.into())),
            bytes => Err(wrong(format!(
                "the path of a Unix socket has {MAX_UNIX_PATH} bytes at most, and this one {bytes}"
            ))),
        }
    }

    /// The host, where TLS is spoken.
    pub(super) fn tls_host(&self) -> Option<&str> {
        match self {
            Target::Tls { host, .. } => Some(host),
            _ => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, port) = match self {
            Target::Tcp { host, port } => ("tcp", host, port),
            Target::Tls { host, port } => ("tls", host, port),
            Target::Unix(path) => return write!(f, "unix:{}", path.display()),
        };
        match host.parse::<Ipv6Addr>() {
            Ok(_) => write!(f, "{scheme}://[{host}]:{port}"),
            Err(_) => write!(f, "{scheme}://{host}:{port}"),
        }
    }
}

/// Why a text is no [`Target`]: one line, which says what would be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetParseError(String);

impl fmt::Display for TargetParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TargetParseError {}

impl FromStr for Target {
    type Err = TargetParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Target::unix_path(path);
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| {
            wrong(format!(
                "{text:?} is no receiver: tcp://HOST:PORT, tls://HOST:PORT or unix:PATH"
            ))
        })?;
        let (host, port) = host_and_port(rest)?;
        match scheme {
            "tcp" => Ok(Target::Tcp { host, port }),
            "tls" => Ok(Target::Tls { host, port }),
            _ => Err(wrong(format!(
                "{scheme:?} is no scheme of a receiver: tcp, tls or unix"
            ))),
        }
    }
}

fn host_and_port(text: &str) -> Result<(String, u16), TargetParseError> {
    if text.contains('@') {
        // What stands before it may be a password, and is not told.
        return Err(wrong("no host: a receiver takes no user".to_owned()));
    }
    let without_port = || wrong(format!("{text:?} is without a port: HOST:PORT"));
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once("]:").ok_or_else(without_port)?;
            if address.parse::<Ipv6Addr>().is_err() {
                return Err(wrong(format!("{address:?} is no IPv6 address")));
            }
            (address, port)
        }
        None => text.rsplit_once(':').ok_or_else(without_port)?,
    };
    if host.contains(':') && !text.starts_with('[') {
        return Err(wrong(format!(
            "{text:?} has more than one colon: an IPv6 address stands in brackets, [::1]:5140"
        )));
    }
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:".contains(&byte);
    if host.is_empty() || host.len() > 253 || !host.bytes().all(is_host) {
        return Err(wrong(format!(
            "{host:?} is no host: a name of letters, digits, dots and dashes, or an address"
        )));
    }
    match port_number(port) {
        None => Err(wrong(format!("{port:?} is no port: 1 to 65535"))),
        Some(port) => Ok((host.to_owned(), port)),
    }
}

/// A port in digits, without a sign, and not 0.
fn port_number(text: &str) -> Option<u16> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&port| is_number && port > 0)
}

fn wrong(text: String) -> TargetParseError {
    TargetParseError(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_printed_as_it_is_parsed() {
        for text in [
            "tcp://logs.example.org:5140",
            "tls://10.0.0.1:6514",
            "tcp://[::1]:1",
            "unix:/run/logs.sock",
            "unix:relative",
        ] {
            let target: Result<Target, _> = text.parse();
            assert_eq!(target.map(|target| target.to_string()), Ok(text.to_owned()));
        }
    }

    #[test]
    fn what_is_no_target_is_told_with_what_would_be_one() {
        for (text, told) in [
            ("logs:5140", "tcp://HOST:PORT"),
            ("udp://logs:514", "tcp, tls or unix"),
            ("tcp://logs", "HOST:PORT"),
            ("tcp://:514", "no host"),
            ("tcp://logs:0", "1 to 65535"),
            ("tcp://logs:+1", "1 to 65535"),
            ("tcp://logs:70000", "1 to 65535"),
            ("tcp://::1:514", "in brackets"),
            ("tcp://[::g]:514", "no IPv6 address"),
            ("tcp://user@logs:514", "no host"),
            ("tcp://user:secret@logs:514", "takes no user"),
            ("unix:", "without the path"),
            ("", "tcp://HOST:PORT"),
        ] {
            let error = text.parse::<Target>().map_err(|error| error.to_string());
            assert!(
                error.as_ref().is_err_and(|error| error.contains(told)),
                "{text}: {error:?}"
            );
        }
        let long = format!("unix:/{}", "x".repeat(MAX_UNIX_PATH));
        assert!(long.parse::<Target>().is_err());
    }
}
