//! What a certificate says: the names of whom it stands for, and until when.
//!
//! webpki, which verifies certificates for rustls, parses it: a parser of its own would be six
//! crates more.

use std::fmt::Write;
use std::time::{Duration, SystemTime};

use rustls::pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};

use crate::server::wire::MAX_PEER_NAME;

/// The names under which a certificate may be allowed, of which the first is what the peer is
/// called: its DNS names, its URIs, and its fingerprint, `sha256:` and 64 lowercase hexadecimal
/// digits.
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let mut names = Vec::new();
    if let Ok(parsed) = EndEntityCert::try_from(certificate) {
        let all = parsed.valid_dns_names().chain(parsed.valid_uri_names());
        // They go into a line of the log as they are.
        let is_plain =
            |name: &&str| name.len() <= MAX_PEER_NAME && name.bytes().all(|b| b.is_ascii_graphic());
        names.extend(all.filter(is_plain).map(str::to_owned));
    }
    names.push(fingerprint(certificate));
    names
}

fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    let mut text = "sha256:".to_owned();
    for byte in digest.as_ref() {
        let _ = write!(text, "{byte:02x}");
    }
    text
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
    fn a_peer_is_called_by_its_first_dns_name_then_its_uri_then_its_fingerprint() {
        let both = names(&certificate(&[
            "spiffe://a/b",
            "web1.example",
            "web2.example",
        ]));
        assert_eq!(both[..3], ["web1.example", "web2.example", "spiffe://a/b"]);
        assert_eq!(names(&certificate(&["spiffe://a/b"]))[0], "spiffe://a/b");
        let unnamed = names(&certificate(&[]));
        assert_eq!((unnamed.len(), unnamed[0].len()), (1, 7 + 64));
        assert!(unnamed[0].starts_with("sha256:"));
    }

    #[test]
    fn a_name_that_would_break_a_line_of_the_log_is_no_name() {
        let odd = names(&certificate(&["urn:a b", "urn:\nx", "ok.example"]));
        assert_eq!(odd.len(), 2, "{odd:?}");
        assert_eq!(odd[0], "ok.example");
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
