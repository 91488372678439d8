//! What a certificate says: the names of whom it stands for, and until when.
//!
//! webpki, which verifies certificates for rustls, parses it: a parser of its own would be six
//! crates more.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use super::error::TlsError;
use crate::server::limits::{heap_bytes, shared_bytes};
use crate::server::wire::MAX_PEER_NAME;

const FINGERPRINT: &str = "sha256:";

/// A name by which a client is allowed. One kind never stands for another: who has a certificate
/// signed chooses its names, and not its fingerprint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Name {
    /// In lowercase (RFC 4343).
    Dns(String),
    Uri(String),
    Fingerprint([u8; 32]),
}

impl Name {
    /// # Errors
    /// No certificate can have it.
    pub(super) fn parse(text: &str) -> Result<Name, TlsError> {
        if is_fingerprint(text) {
            let digits = text[FINGERPRINT.len()..].replace(':', "");
            return of_hexadecimal(&digits)
                .map(Name::Fingerprint)
                .ok_or_else(|| {
                    TlsError::new("a fingerprint is sha256: and 64 hexadecimal digits")
                });
        }
        match is_plain(text) {
            false => Err(TlsError::new(format!(
                "the name of a client has 1 to {MAX_PEER_NAME} visible characters of ASCII"
            ))),
            true if text.contains(':') => Ok(Name::Uri(text.to_owned())),
            true => Ok(Name::Dns(text.to_ascii_lowercase())),
        }
    }
}

/// The memory of a list of names, in bytes.
pub(super) fn list_bytes(names: &Arc<[Name]>) -> u64 {
    let held = |name: &Name| match name {
        Name::Dns(text) | Name::Uri(text) => heap_bytes(text.capacity()) as u64,
        Name::Fingerprint(_) => 0,
    };
    shared_bytes(names) + names.iter().map(held).sum::<u64>()
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Dns(name) | Name::Uri(name) => f.write_str(name),
            Name::Fingerprint(digest) => {
                f.write_str(FINGERPRINT)?;
                digest.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn is_fingerprint(text: &str) -> bool {
    let start = text.as_bytes().get(..FINGERPRINT.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(FINGERPRINT.as_bytes()))
}

fn of_hexadecimal(digits: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..][..2], 16).ok()?;
    }
    Some(bytes)
}

/// Names go into a line of the log as they are.
fn is_plain(name: &str) -> bool {
    (1..=MAX_PEER_NAME).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_graphic())
}

/// The names of a certificate: its DNS names, its URIs, and its fingerprint. There may be
/// thousands, and nothing is kept of them.
pub(super) struct Names<'a> {
    parsed: Option<EndEntityCert<'a>>,
    fingerprint: Name,
}

impl<'a> Names<'a> {
    pub(super) fn of(certificate: &'a CertificateDer<'_>) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Names {
            parsed: EndEntityCert::try_from(certificate).ok(),
            fingerprint: Name::Fingerprint(bytes),
        }
    }

    fn dns(&self) -> impl Iterator<Item = &str> {
        let all = self
            .parsed
            .iter()
            .flat_map(|parsed| parsed.valid_dns_names());
        all.filter(|name| is_plain(name) && !name.contains(':'))
    }

    /// A URI that reads as a fingerprint is nobody's name.
    fn uris(&self) -> impl Iterator<Item = &str> {
        let all = self
            .parsed
            .iter()
            .flat_map(|parsed| parsed.valid_uri_names());
        all.filter(|name| is_plain(name) && !is_fingerprint(name))
    }

    /// What the peer is called.
    pub(super) fn first(&self) -> String {
        let first = self.dns().chain(self.uris()).next();
        first.map_or_else(|| self.fingerprint.to_string(), str::to_owned)
    }

    pub(super) fn is_one_of(&self, allowed: &[Name]) -> bool {
        let has_dns = |name: &str| {
            let is_same = |it: &Name| matches!(it, Name::Dns(it) if name.eq_ignore_ascii_case(it));
            allowed.iter().any(is_same)
        };
        let has_uri =
            |name: &str| (allowed.iter()).any(|it| matches!(it, Name::Uri(it) if name == it));
        // Each look at the certificate's names parses them.
        allowed.contains(&self.fingerprint) || self.dns().any(has_dns) || self.uris().any(has_uri)
    }
}

/// The first few, how many there are more, and the fingerprint.
impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 3;
        let mut all = self.dns().chain(self.uris());
        for name in all.by_ref().take(SHOWN) {
            write!(f, "{name}, ")?;
        }
        match all.count() {
            0 => {}
            more => write!(f, "{more} more, ")?,
        }
        self.fingerprint.fmt(f)
    }
}

/// When a certificate expires; `None` if it cannot be told.
pub(super) fn expires_at(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    // webpki has no getter for it. It looks at the validity before it looks for an issuer, and at
    // the end of time every certificate has expired.
    let end_of_time = UnixTime::since_unix_epoch(Duration::from_secs(u64::MAX));
    let parsed = EndEntityCert::try_from(certificate).ok()?;
    let verified = parsed.verify_for_usage(
        &[],
        &[],
        &[],
        end_of_time,
        KeyUsage::server_auth(),
        None,
        None,
    );
    match verified.err()? {
        webpki::Error::CertExpired { not_after, .. } => {
            SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_after.as_secs()))
        }
        _ => None,
    }
}

/// By when a revocation list was to be followed by the next; `None` if it cannot be told.
pub(super) fn next_update(list: &[u8]) -> Option<SystemTime> {
    // webpki has no getter for it. TBSCertList (RFC 5280, 5.1): version, signature, issuer,
    // thisUpdate, nextUpdate.
    let (_, list, _) = element(list)?;
    let (_, mut rest, _) = element(list)?;
    for _ in 0..4 {
        rest = element(rest)?.2;
    }
    let (tag, text, _) = element(rest)?;
    time(tag, text)
}

/// The tag and the content of the first element, and what is behind it (DER).
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, len], rest) = bytes.split_first_chunk()?;
    let (len, rest) = match len {
        0..=0x7f => (usize::from(len), rest),
        // At most four bytes of length: that is more than there is of a file.
        0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(len - 0x80))?;
            let of_two = |len: usize, digit: &u8| len << 8 | usize::from(*digit);
            (digits.iter().fold(0, of_two), rest)
        }
        _ => return None,
    };
    let (content, behind) = rest.split_at_checked(len)?;
    Some((tag, content, behind))
}

/// UTCTime with two digits of the year, or GeneralizedTime with four (RFC 5280, 4.1.2.5).
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let text = str::from_utf8(text).ok()?.strip_suffix('Z')?;
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let (year, rest) = match tag {
        0x17 => text.split_at_checked(2)?,
        0x18 => text.split_at_checked(4)?,
        _ => return None,
    };
    let year: u64 = match (year.len(), year.parse().ok()?) {
        (2, year) if year < 50 => 2000 + year,
        (2, year) => 1900 + year,
        (_, year) => year,
    };
    if rest.len() != 10 {
        return None;
    }
    let part = |at: usize| rest[at..at + 2].parse::<u64>().ok();
    let (month, day) = (part(0)?, part(2)?);
    // Since 0000-03-01: so that a leap day is the last of its year.
    let (year, month) = match month {
        1 | 2 => (year.checked_sub(1)?, month + 9),
        3..=12 => (year, month - 3),
        _ => return None,
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day;
    let days = days.checked_sub(719_469)?;
    let seconds = 86_400 * days + 3600 * part(4)? + 60 * part(6)? + part(8)?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn certificate(names: &[&str]) -> CertificateDer<'static> {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        params.subject_alt_names = names
            .iter()
            .map(|name| match name.contains(':') {
                true => rcgen::SanType::URI((*name).try_into().unwrap()),
                false => rcgen::SanType::DnsName((*name).try_into().unwrap()),
            })
            .collect();
        params.not_after = rcgen::date_time_ymd(2031, 2, 3);
        params.self_signed(&key).unwrap().der().clone()
    }

    #[test]
    fn a_time_is_read_in_both_forms() {
        let days = |tag: u8, text: &str| {
            let at = time(tag, text.as_bytes())?;
            Some(at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as f64 / 86_400.0)
        };
        assert_eq!(days(0x17, "700101000000Z"), Some(0.0));
        assert_eq!(days(0x17, "310203120000Z"), Some(22_313.5));
        assert_eq!(days(0x18, "20000229000000Z"), Some(11_016.0));
        assert_eq!(days(0x18, "20000301000000Z"), Some(11_017.0));
        assert_eq!(days(0x18, "99991231000000Z"), Some(2_932_896.0));
        for (tag, text) in [
            (0x17, "20000229000000Z"),
            (0x18, "00000101000000Z"),
            (0x17, "691313000000Z"),
            (0x17, "700101000000"),
            (0x17, "70010100\u{e9}0Z"),
            (0x04, "700101000000Z"),
            (0x17, ""),
        ] {
            assert_eq!(days(tag, text), None, "{text}");
        }
        assert_eq!(next_update(&[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
        assert_eq!(next_update(&[]), None);
    }

    fn called(names: &[&str]) -> String {
        Names::of(&certificate(names)).first()
    }

    #[test]
    fn a_peer_is_called_by_its_first_dns_name_then_its_uri_then_its_fingerprint() {
        let all = ["spiffe://a/b", "web1.example", "web2.example"];
        assert_eq!(called(&all), "web1.example");
        assert_eq!(called(&all[..1]), "spiffe://a/b");
        let unnamed = called(&[]);
        assert_eq!(unnamed.len(), 7 + 64);
        assert!(unnamed.starts_with("sha256:"));
        let certificate = certificate(&all);
        let names = Names::of(&certificate);
        let shown = names.to_string();
        let expected = "web1.example, web2.example, spiffe://a/b, sha256:";
        assert!(shown.starts_with(expected), "{shown}");
    }

    #[test]
    fn a_name_that_would_break_a_line_of_the_log_is_no_name() {
        let certificate = certificate(&["urn:a b", "urn:\nx", "ok.example"]);
        let shown = Names::of(&certificate).to_string();
        assert!(shown.starts_with("ok.example, sha256:"), "{shown}");
    }

    #[test]
    fn of_many_names_a_few_are_shown() {
        let many: Vec<String> = (0..800).map(|n| format!("n{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let certificate = certificate(&many);
        let names = Names::of(&certificate);
        let shown = names.to_string();
        let expected = "n0.example, n1.example, n2.example, 797 more, sha256:";
        assert!(shown.starts_with(expected), "{shown}");
        assert!(names.is_one_of(&[Name::parse("n799.example").unwrap()]));
    }

    #[test]
    fn a_fingerprint_cannot_be_had_by_a_name() {
        let other = called(&[]);
        for posing in [other.clone(), other.to_uppercase(), "sha256:x".to_owned()] {
            let certificate = certificate(&[&posing]);
            let names = Names::of(&certificate);
            assert!(names.first().starts_with("sha256:"));
            assert_ne!(names.first(), posing);
            let allowed = Name::parse(&other).unwrap();
            assert!(!names.is_one_of(&[allowed]), "{posing}");
            let own = Name::parse(&names.first()).unwrap();
            assert!(names.is_one_of(&[own]));
        }
    }

    #[test]
    fn a_fingerprint_is_allowed_as_openssl_prints_it_and_a_dns_name_in_any_case() {
        let certificate = certificate(&["Web1.Example", "urn:X"]);
        let names = Names::of(&certificate);
        let Name::Fingerprint(digest) = names.fingerprint else {
            panic!("{:?}", names.fingerprint);
        };
        let pairs: Vec<String> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let is_allowed = |text: &str| names.is_one_of(&[Name::parse(text).unwrap()]);
        assert!(is_allowed(&format!("sha256:{}", pairs.join(":"))));
        assert!(is_allowed(&format!("SHA256:{}", pairs.concat())));
        assert!(is_allowed("wEB1.example") && is_allowed("urn:X"));
        assert!(!is_allowed("urn:x") && !is_allowed("web1"));
        for text in [
            "",
            "a b",
            "sha256:",
            "sha256:abcd",
            &format!("sha256:{}0", pairs.concat()),
            &format!("sha256:+{}", &pairs.concat()[1..]),
            &"a".repeat(254),
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_certificate_says_when_it_expires() {
        let at = expires_at(&certificate(&["a.example"])).unwrap();
        let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        // 2031-02-03
        assert_eq!(since.as_secs() / 86_400, 22_313);
        assert_eq!(expires_at(&CertificateDer::from(vec![1, 2, 3])), None);
    }
}
