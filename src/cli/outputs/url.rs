//! The parts of a URL, told apart before a scheme reads its own.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::secret::Secret;
use crate::cli::kinds::NotAccepted;

/// The place of a URL, and what stands behind its first `?`.
pub(super) fn split(rest: &OsStr) -> (&OsStr, Option<&OsStr>) {
    let bytes = rest.as_bytes();
    match bytes.iter().position(|&byte| byte == b'?') {
        Some(at) => {
            let (place, query) = (&bytes[..at], &bytes[at + 1..]);
            (OsStr::from_bytes(place), Some(OsStr::from_bytes(query)))
        }
        None => (rest, None),
    }
}

/// The keys and values of `key=value&key=value`.
///
/// # Errors
/// A part has no `=`, or an escape that is none.
pub(super) fn options(query: &OsStr) -> Result<Vec<(String, OsString)>, NotAccepted> {
    let parts = query.as_bytes().split(|&byte| byte == b'&');
    let option = |part: &[u8]| {
        let text = String::from_utf8_lossy(part);
        let Some((key, _)) = text.split_once('=').filter(|(key, _)| !key.is_empty()) else {
            // Not shown: a token may stand there bare.
            return Err(NotAccepted {
                expected: Some("options behind the ?, as in ?key=value&key=value".to_owned()),
                ..NotAccepted::default()
            });
        };
        let value = &part[key.len() + 1..];
        let value = decode(value).map_err(|refused| NotAccepted {
            part: Some(key.into()),
            ..refused
        })?;
        Ok((key.to_owned(), OsString::from_vec(value)))
    };
    parts.map(option).collect()
}

/// Text without the escapes of the URL standard: `%3F` is a question mark. A plus is a plus.
///
/// # Errors
/// A percent sign without two hexadecimal digits, or the escape of a NUL.
pub(crate) fn decode(text: &[u8]) -> Result<Vec<u8>, NotAccepted> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            decoded.push(*first);
            continue;
        }
        let Some((byte, tail)) = escaped(tail).filter(|&(byte, _)| byte != 0) else {
            return Err(NotAccepted {
                expected: Some("escapes such as %3F, and %25 for a percent sign".to_owned()),
                ..NotAccepted::default()
            });
        };
        decoded.push(byte);
        rest = tail;
    }
    Ok(decoded)
}

/// The byte of an escape without its percent sign, and what follows.
pub(super) fn escaped(text: &[u8]) -> Option<(u8, &[u8])> {
    let (digits, rest) = text.split_at_checked(2)?;
    let digit = |digit: u8| char::from(digit).to_digit(16);
    let byte = digit(digits[0])? * 16 + digit(digits[1])?;
    Some((byte as u8, rest))
}

/// What stands behind the two slashes of a URL of a peer: `user:password@host:port/path`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret>,
    /// `host`, `host:port`, `[::1]:port`, or several with commas, as written.
    pub(crate) hosts: String,
    /// Behind the first slash, its escapes decoded.
    pub(crate) path: String,
}

/// Reads the place of a URL of a peer.
///
/// # Errors
/// There is no host, something is not UTF-8, or an escape is none.
pub(crate) fn authority(place: &OsStr) -> Result<Authority, NotAccepted> {
    let place = place.to_str();
    let place = place.ok_or_else(|| NotAccepted::because("not UTF-8"))?;
    let (authority, path) = place.split_once('/').unwrap_or((place, ""));
    if path.contains('@') {
        // What stands before it may be a part of a password, and is shown by no error and no name.
        return Err(NotAccepted::because(
            "/ and @ in a password are %2F and %40",
        ));
    }
    let (user_info, hosts) = match authority.rsplit_once('@') {
        Some((user_info, hosts)) => (Some(user_info), hosts),
        None => (None, authority),
    };
    if hosts.is_empty() || hosts.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(NotAccepted::because("no host"));
    }
    let decoded = |text: &str| {
        let bytes = decode(text.as_bytes())?;
        String::from_utf8(bytes).map_err(|_| NotAccepted::because("not UTF-8"))
    };
    let (user, password) = match user_info.map(|it| it.split_once(':').unwrap_or((it, ""))) {
        Some((user, password)) => (decoded(user)?, decoded(password)?),
        None => Default::default(),
    };
    Ok(Authority {
        user: Some(user).filter(|user| !user.is_empty()),
        password: (!password.is_empty()).then(|| Secret::new(password)),
        hosts: hosts.to_owned(),
        path: decoded(path)?,
    })
}

/// A host without its brackets, and its port or else `default`.
///
/// # Errors
/// The text is no host and port.
pub(crate) fn host_and_port(text: &str, default: u16) -> Result<(String, u16), NotAccepted> {
    let refused = |why: &str| NotAccepted {
        part: Some(text.into()),
        why: Some(why.to_owned()),
        expected: Some(format!("a host and a port, such as localhost:{default}")),
    };
    let (host, port) = match text.strip_prefix('[') {
        Some(text) => {
            let (host, rest) = text.split_once(']').ok_or_else(|| refused("no ]"))?;
            if host.parse::<std::net::Ipv6Addr>().is_err() {
                return Err(refused("no IPv6 address"));
            }
            (
                host,
                rest.strip_prefix(':').or(rest.is_empty().then_some("")),
            )
        }
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port).filter(|port| !port.is_empty())),
            None => (text, Some("")),
        },
    };
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = match port.ok_or_else(|| refused("no port"))? {
        "" => default,
        port if !is_number(port) => return Err(refused("no port")),
        port => match port.parse() {
            Ok(0) | Err(_) => return Err(refused("no port: 1 to 65535")),
            Ok(port) => port,
        },
    };
    let is_of_host = |c: char| c.is_alphanumeric() || ".-_:".contains(c);
    match !host.is_empty() && host.chars().all(is_of_host) {
        false => Err(refused("no host")),
        true => Ok((host.to_owned(), port)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_are_those_of_the_url_standard_and_no_others() {
        let decoded = |text: &str| decode(text.as_bytes()).ok();
        assert_eq!(decoded("a%3fb%3F%25+%c3%A9"), Some("a?b?%+\u{e9}".into()));
        for text in ["%", "%4", "%zz", "%%", "100%", "%00", "%-1", "%+1"] {
            assert_eq!(decoded(text), None, "{text}");
        }
    }

    #[test]
    fn options_are_told_apart_before_they_are_decoded() {
        let read = |text: &str| options(OsStr::new(text)).ok();
        let pair = |key: &str, value: &str| (key.to_owned(), OsString::from(value));
        let expected = vec![pair("a", "1&b=2"), pair("c", "x=y"), pair("d", "")];
        assert_eq!(read("a=1%26b=2&c=x=y&d="), Some(expected));
        for text in ["", "a", "=1", "a=1&", "a=%"] {
            assert_eq!(read(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_peer_is_a_user_a_password_hosts_and_a_path() {
        let read = |text: &str| authority(OsStr::new(text));
        let whole = read("me:p%40ss%3A@a:1,[::1]:2/x%2Fy").expect("read");
        assert_eq!(whole.user.as_deref(), Some("me"));
        assert_eq!(whole.password.as_ref().map(Secret::reveal), Some("p@ss:"));
        assert_eq!((&*whole.hosts, &*whole.path), ("a:1,[::1]:2", "x/y"));
        let bare = read("host").expect("read");
        assert_eq!((bare.user, bare.password), (None, None));
        for text in [
            "",
            "/path",
            "user@/path",
            "h%@host",
            "me:a/b@host",
            "me:a@b/c@host/x",
            "a b",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
        for (text, host, port) in [
            ("a", "a", 7),
            ("a:1", "a", 1),
            ("[::1]", "::1", 7),
            ("[::1]:2", "::1", 2),
        ] {
            assert_eq!(host_and_port(text, 7), Ok((host.to_owned(), port)));
        }
        for text in [
            "", ":1", "a:", "a:b", "a:65536", "a:0", "a:+1", "a,b", "a;b", "::1", "[::1", "[a]:1",
            "[::1]x", "a b",
        ] {
            assert!(host_and_port(text, 7).is_err(), "{text}");
        }
    }
}
