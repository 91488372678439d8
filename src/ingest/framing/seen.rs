//! What a peer sent that was not understood, for the line of the log that says so.

use std::fmt;

use super::input::Framing;

/// How many bytes are shown.
const SHOWN: usize = 32;
/// How many bytes are searched for signs of another framing.
const LOOKED_AT: usize = 64 << 10;

/// The first bytes of what was not understood of a peer, and what those bytes look like. Displayed
/// escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    bytes: [u8; SHOWN],
    len: usize,
    looks_like: Option<&'static str>,
}

impl Seen {
    /// What was seen of a message, or of the part of a message that was read, in a stream of this
    /// framing.
    pub(in crate::ingest) fn of(message: &[u8], framing: Framing) -> Self {
        let looked_at = &message[..message.len().min(LOOKED_AT)];
        let seen = Seen::of_framed(message);
        Seen {
            looks_like: (seen.looks_like).or_else(|| another_framing(looked_at, framing)),
            ..seen
        }
    }

    /// As [`of`](Seen::of), for a message that is framed as it should be: no other framing is
    /// guessed.
    pub(in crate::ingest) fn of_framed(message: &[u8]) -> Self {
        let (mut bytes, len) = ([0; SHOWN], message.len().min(SHOWN));
        bytes[..len].copy_from_slice(&message[..len]);
        Seen {
            bytes,
            len,
            looks_like: protocol_of(message).map(Protocol::words),
        }
    }

    /// What was seen of a message that is too long, in a stream of this framing.
    pub(in crate::ingest) fn of_too_long(message: &[u8], framing: Framing) -> Self {
        match framing {
            // Its count was valid, so the framing is right.
            Framing::OctetCounted | Framing::LengthPrefixed => Seen::of_framed(message),
            _ => Seen::of(message, framing),
        }
    }

    /// The first bytes: 32, or as many as were there.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.bytes().escape_ascii())?;
        match self.looks_like {
            Some(what) => write!(f, ", which {what}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Another protocol than messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Protocol {
    Tls,
    Proxy,
    Http,
}

impl Protocol {
    /// What is said of bytes that look like it, with the setting that would serve it.
    pub(in crate::ingest) fn words(self) -> &'static str {
        match self {
            Protocol::Tls => "looks like a TLS handshake (tls://?)",
            Protocol::Proxy => "looks like a PROXY protocol header (proxy_from?)",
            Protocol::Http => "looks like an HTTP request",
        }
    }
}

/// What the first bytes of a stream or of a message look like, where that is another protocol than
/// messages.
pub(in crate::ingest) fn protocol_of(message: &[u8]) -> Option<Protocol> {
    const METHODS: [&[u8]; 10] = [
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"PUT ",
        b"DELETE ",
        b"OPTIONS ",
        b"PATCH ",
        b"CONNECT ",
        b"TRACE ",
        b"PRI * ",
    ];
    let begins = |with: &[u8]| message.starts_with(with);
    Some(match message {
        [0x16, 3, 0..=4, ..] => Protocol::Tls,
        _ if METHODS.into_iter().any(begins) => Protocol::Http,
        _ if begins(b"PROXY ") || begins(b"\r\n\r\n\0\r\nQUIT\n") => Protocol::Proxy,
        _ => return None,
    })
}

/// Which framing the message may have instead.
fn another_framing(message: &[u8], framing: Framing) -> Option<&'static str> {
    let digits = message
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_counted = digits > 0 && message[digits..].starts_with(b" <");
    let is_syslog = message.starts_with(b"<") && message.get(1).is_some_and(u8::is_ascii_digit);
    let takes_lines = matches!(framing, Framing::Lines | Framing::Syslog);
    let takes_counts = matches!(framing, Framing::OctetCounted | Framing::Syslog);
    // The first of the two ends a message: GELF may have a LF behind its NUL, and Perl's syslog a
    // NUL behind its LF.
    let end = memchr::memchr2(b'\n', b'\0', message).map(|at| message[at]);
    Some(match (framing, message) {
        _ if is_counted && !takes_counts => "looks like a counted message (framing syslog?)",
        (Framing::LengthPrefixed, [1..=255, _, 0, 0, ..]) => "looks like a little-endian length",
        (Framing::LengthPrefixed, [0, ..] | [_, 0, ..] | [_, _, 0, ..]) => return None,
        (Framing::Nul, _) if end != Some(b'\n') => return None,
        _ if end == Some(b'\0') => "holds NUL (framing nul?)",
        _ if is_syslog && !takes_lines => "looks like a line of syslog (framing syslog?)",
        _ if end == Some(b'\n') && !takes_lines => "holds LF (framing lines?)",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_sent_is_shown() {
        assert_eq!(Seen::of(b"x", Framing::OctetCounted).to_string(), "\"x\"");
        assert_eq!(Seen::of(&[b'a'; 99], Framing::Lines).bytes().len(), SHOWN);
        assert_eq!(
            Seen::of(b"\x1b]\0", Framing::Nul).to_string(),
            r#""\x1b]\x00""#
        );
    }

    #[test]
    fn what_others_speak_is_known() {
        let cases: [(&[u8], Framing, &str); 17] = [
            (b"\x16\x03\x01\x02\0\x01", Framing::LengthPrefixed, "TLS"),
            (b"GET / HTTP/1.1\r\n", Framing::OctetCounted, "HTTP"),
            (b"PROXY TCP4 1.2.3.4 ", Framing::OctetCounted, "PROXY"),
            (
                b"\r\n\r\n\0\r\nQUIT\n\x21",
                Framing::LengthPrefixed,
                "PROXY",
            ),
            (b"12 <13>abc", Framing::Lines, "(framing syslog?)"),
            (b"<13>abc", Framing::OctetCounted, "(framing syslog?)"),
            (b"abc\0abc", Framing::Lines, "(framing nul?)"),
            (b"abc\n", Framing::Nul, "(framing lines?)"),
            (b"abc\n", Framing::LengthPrefixed, "(framing lines?)"),
            (b"abc\0", Framing::OctetCounted, "(framing nul?)"),
            (b"<13>abc\0", Framing::OctetCounted, "(framing nul?)"),
            (b"{\"a\":1}\0\n", Framing::OctetCounted, "(framing nul?)"),
            (b"<13>abc\n\0", Framing::OctetCounted, "(framing syslog?)"),
            (b"hello\0", Framing::LengthPrefixed, "(framing nul?)"),
            (b"\x05\0\0\0hello", Framing::LengthPrefixed, "little-endian"),
            (b"<13>abc\n", Framing::Nul, "(framing syslog?)"),
            (b"007 <13>abc", Framing::Nul, "(framing syslog?)"),
        ];
        for (bytes, framing, says) in cases {
            let seen = Seen::of(bytes, framing).to_string();
            assert!(seen.contains(says), "{framing}: {seen}");
        }
    }

    #[test]
    fn what_is_framed_as_it_should_be_is_not_taken_for_another_framing() {
        let cases: [(&[u8], Framing); 6] = [
            (b"12 <13>a", Framing::Syslog),
            (b"<13>abc", Framing::Lines),
            (b"<13>abc", Framing::Nul),
            (b"<13>a\nb\0", Framing::OctetCounted),
            (b"a\nb", Framing::LengthPrefixed),
            (b"x\0", Framing::LengthPrefixed),
        ];
        for (bytes, framing) in cases {
            let seen = Seen::of_too_long(bytes, framing).to_string();
            assert!(!seen.contains("which"), "{framing}: {seen}");
        }
    }
}
