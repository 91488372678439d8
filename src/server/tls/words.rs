//! What went wrong with a peer, in words for the log.

use rustls::{AlertDescription, CertificateError, Error, InvalidMessage, PeerIncompatible};

use super::TlsVersion;

/// How many bytes of a client that does not speak TLS are shown.
const SHOWN: usize = 32;

/// The client's first bytes are not TLS.
pub(super) fn not_tls(bytes: &[u8]) -> String {
    let shown = &bytes[..bytes.len().min(SHOWN)];
    format!(
        "the client does not speak TLS: it sent \"{}\"",
        shown.escape_ascii()
    )
}

/// What rustls found.
pub(super) fn of(error: &Error, min_version: TlsVersion) -> String {
    match error {
        Error::PeerIncompatible(
            PeerIncompatible::Tls12NotOffered
            | PeerIncompatible::Tls12NotOfferedOrEnabled
            | PeerIncompatible::ServerDoesNotSupportTls12Or13
            | PeerIncompatible::SupportedVersionsExtensionRequired
            // A hello of TLS 1.1 and before has no such extension, and is looked at for it first.
            | PeerIncompatible::SignatureAlgorithmsExtensionRequired,
        ) => format!("the client offers no TLS version from {min_version} on"),
        Error::PeerIncompatible(PeerIncompatible::NoCipherSuitesInCommon) => {
            "the client offers no cipher suite that is safe".to_owned()
        }
        Error::PeerIncompatible(
            PeerIncompatible::NoKxGroupsInCommon | PeerIncompatible::NoSignatureSchemesInCommon,
        ) => format!("the client offers no key exchange or signature in common: {error}"),
        Error::NoCertificatesPresented => {
            "the client has sent no certificate, which is required here".to_owned()
        }
        Error::InvalidCertificate(why) => certificate(why),
        // Our own.
        Error::General(why) => why.clone(),
        Error::AlertReceived(alert) => alert_received(*alert),
        Error::DecryptError => "a record could not be decrypted".to_owned(),
        Error::InvalidMessage(InvalidMessage::HandshakePayloadTooLarge) => {
            "a handshake message is too large".to_owned()
        }
        error => format!("invalid TLS: {error}"),
    }
}

fn certificate(error: &CertificateError) -> String {
    use CertificateError as Why;
    let what = match error {
        Why::UnknownIssuer => "is not from the client CA",
        Why::Expired | Why::ExpiredContext { .. } => "has expired",
        Why::NotValidYet | Why::NotValidYetContext { .. } => "is not valid yet",
        Why::Revoked => "is revoked",
        Why::InvalidPurpose | Why::InvalidPurposeContext { .. } => {
            "is not for clients (extended key usage clientAuth)"
        }
        Why::BadSignature => "has a wrong signature",
        other => return format!("the client's certificate is not valid: {other}"),
    };
    format!("the client's certificate {what}")
}

fn alert_received(alert: AlertDescription) -> String {
    use AlertDescription as Alert;
    let why = match alert {
        Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown => {
            ": it does not trust the certificate"
        }
        Alert::CertificateExpired => ": the certificate has expired",
        Alert::ProtocolVersion => ": it does not speak this version",
        _ => "",
    };
    format!("the client has refused with {alert:?}{why}")
}
