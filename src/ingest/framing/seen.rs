//! What a peer sent that is not taken as it came, for the line that says so.

use std::fmt;

use super::Framing;

/// So many bytes are shown.
const SHOWN: usize = 32;
/// So many are looked through.
const LOOKED_AT: usize = 64 << 10;

/// The first bytes of what a peer sent where it was not understood, and what they look like. Shown escaped.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    bytes: [u8; SHOWN],
    len: usize,
    looks_like: Option<&'static str>,
}

impl Seen {
    /// Of a message, or as much as there is of it, in a stream of this framing.
    pub(in crate::ingest) fn of(message: &[u8], framing: Framing) -> Self {
        let (mut bytes, len) = ([0; SHOWN], message.len().min(SHOWN));
        bytes[..len].copy_from_slice(&message[..len]);
        let looked_at = &message[..message.len().min(LOOKED_AT)];
        Seen {
            bytes,
            len,
            looks_like: looks_like(looked_at, framing),
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

fn looks_like(message: &[u8], framing: Framing) -> Option<&'static str> {
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
    let holds = |byte| memchr::memchr(byte, message).is_some();
    let digits = message
        .iter()
        .take_while(|byte| byte.is_ascii_digit())
        .count();
    let is_counted = digits > 0 && message[digits..].starts_with(b" <");
    let is_syslog = begins(b"<") && message.get(1).is_some_and(u8::is_ascii_digit);
    let takes_lines = matches!(framing, Framing::Lines | Framing::Syslog);
    let takes_counts = matches!(framing, Framing::OctetCounted | Framing::Syslog);
    Some(match message {
        [0x16, 3, 0..=4, ..] => "looks like a TLS handshake",
        _ if METHODS.into_iter().any(begins) => "looks like an HTTP request",
        _ if begins(b"PROXY ") || begins(b"\r\n\r\n\0\r\nQUIT\n") => {
            "looks like a PROXY protocol header"
        }
        _ if is_counted && !takes_counts => "looks like a counted message (framing syslog?)",
        _ if is_syslog && !takes_lines => "looks like a line of syslog (framing syslog?)",
        _ if takes_lines && holds(b'\0') => "holds NUL (framing nul?)",
        _ if !takes_lines && holds(b'\n') => "holds LF (framing lines?)",
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
        let cases: [(&[u8], Framing, &str); 9] = [
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
        ];
        for (bytes, framing, says) in cases {
            let seen = Seen::of(bytes, framing).to_string();
            assert!(seen.contains(says), "{framing}: {seen}");
        }
        assert!(
            !Seen::of(b"12 <13>a", Framing::Syslog)
                .to_string()
                .contains("looks")
        );
    }
}
